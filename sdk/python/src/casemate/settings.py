"""Where the server is, and with which token."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_ADDRESS = "127.0.0.1:9800"


@dataclass(frozen=True)
class Settings:
    """An address, as ``host:port`` or ``unix:PATH``, and a bearer token, if there is one."""

    address: str
    token: str | None

    @staticmethod
    def resolve(
        address: str | None = None,
        token: str | None = None,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> Settings:
        """Takes each from the arguments, else from ``CASEMATE_ADDRESS`` and ``CASEMATE_TOKEN``, else from
        the configuration file that ``casemate init`` writes."""
        environment = os.environ if environment is None else environment
        directory = Path.cwd() if directory is None else directory
        address = address or environment.get("CASEMATE_ADDRESS")
        token = token or environment.get("CASEMATE_TOKEN")
        if not (address and token):
            file = _configuration(environment, directory)
            address = address or file.get("server", {}).get("address")
            token = token or file.get("auth", {}).get("token")
        return Settings(_target(address or DEFAULT_ADDRESS), token)


def _configuration(environment: Mapping[str, str], directory: Path) -> dict:
    named = environment.get("CASEMATE_CONFIG")
    if named:
        # Named on purpose: a file that is not there is a mistake worth an error.
        return tomllib.loads((directory / named).read_text())
    home = environment.get("XDG_CONFIG_HOME") or os.path.join(environment.get("HOME", "/"), ".config")
    for path in (directory / "casemate.toml", Path(home) / "casemate" / "casemate.toml"):
        if path.is_file():
            return tomllib.loads(path.read_text())
    return {}


def _target(address: str) -> str:
    if address.startswith("https://"):
        raise ValueError(f"{address!r}: this client speaks plain gRPC; use host:port or unix:PATH")
    return address.removeprefix("http://").rstrip("/") if not address.startswith("unix:") else address
