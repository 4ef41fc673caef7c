from pathlib import Path

import pytest

from casemate import Settings


def resolve(directory: Path, environment=None, **arguments):
    return Settings.resolve(environment={"HOME": str(directory), **(environment or {})}, directory=directory, **arguments)


def test_arguments_win_over_the_environment_and_that_over_the_file(tmp_path):
    (tmp_path / "casemate.toml").write_text('[server]\naddress = "127.0.0.1:1"\n[auth]\ntoken = "file"\n')
    assert resolve(tmp_path) == Settings("127.0.0.1:1", "file")
    environment = {"CASEMATE_ADDRESS": "http://127.0.0.1:2/", "CASEMATE_TOKEN": "environment"}
    assert resolve(tmp_path, environment) == Settings("127.0.0.1:2", "environment")
    assert resolve(tmp_path, environment, address="unix:/s", token="t") == Settings("unix:/s", "t")


def test_without_anything_the_default_and_no_token(tmp_path):
    assert resolve(tmp_path) == Settings("127.0.0.1:9800", None)


def test_a_named_file_must_exist(tmp_path):
    with pytest.raises(FileNotFoundError):
        resolve(tmp_path, {"CASEMATE_CONFIG": "elsewhere.toml"})
    with pytest.raises(ValueError, match="https"):
        resolve(tmp_path, address="https://example.com")
