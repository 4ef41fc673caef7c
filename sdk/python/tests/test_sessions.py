"""Sessions and snapshots, on the real interpreter."""

import os
import uuid

import pytest

from casemate import Client, FailedPrecondition, NotFound

pytestmark = pytest.mark.skipif(
    "CASEMATE_TEST_INTERPRETERS" not in os.environ,
    reason="CASEMATE_TEST_INTERPRETERS names no directory that `casemate interpreters install` filled",
)


def test_a_session_keeps_its_state_and_is_closed_at_the_end(client: Client):
    with client.create_session(labels={"who": "sdk"}) as session:
        assert session.run("x = 40").check().value is None
        assert session.run("x + 2").check().value.json() == 42
        assert (session.refresh().turn, session.state) == (2, "READY")
        assert session.id in [one.id for one in client.list_sessions()]
        with pytest.raises(Exception, match="turn"):
            session.run("x = 0", expected_turn=1)
        assert session.run("x", expected_turn=2).check().value.json() == 40
        events = [event.WhichOneof("event") for event in session.stream("print(x)")]
        assert (events[0], events[-1]) == ("started", "finished")
        assert "stdout" in events
    assert session.state == "CLOSED"
    with pytest.raises((FailedPrecondition, NotFound)):
        session.run("x")


def test_forks_go_on_by_themselves(client: Client):
    with client.create_session() as session:
        session.run("import random\nx = [1]").check()
        copies = session.fork(3)
        for number, copy in enumerate(copies):
            assert copy.run(f"x.append({number}); x").check().value.json() == [1, number]
        drawn = {copy.run("random.random()").check().value.text for copy in copies}
        assert len(drawn) == 3
        assert session.run("x").check().value.json() == [1]
        for copy in copies:
            copy.close()


def test_a_snapshot_starts_isolates_and_sessions(client: Client):
    name = f"sdk-{uuid.uuid4().hex[:8]}"
    with client.create_session() as session:
        session.run("x = 41").check()
        assert session.snapshot(name, description="x is 41").name == name
    assert name in [one.name for one in client.list_snapshots()]
    assert client.run("python", {"code": "x + 1"}, snapshot=name).check().value.json() == 42
    execution = client.start("python", {"code": "print(x)"}, snapshot=name)
    assert client.wait(execution).result.exit_code == 0
    with client.create_session(snapshot=name) as session:
        assert session.run("x").check().value.json() == 41
    client.delete_snapshot(name)
    with pytest.raises(NotFound):
        client.get_snapshot(name)


def test_a_figure_is_saved_by_the_client(client: Client, tmp_path):
    # As the README has it.
    with client.create_session() as session:
        session.run("import matplotlib.pyplot as plt\nx = [1, 4, 9]").check()
        figure = session.run("plt.plot(x)\nplt.show()").check().rich_outputs[0]
        (tmp_path / "figure.png").write_bytes(figure.png)
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_what_contradicts_itself_is_refused(client: Client):
    with pytest.raises(TypeError, match="name one"):
        client.run("python", {"code": "1"}, session="a", snapshot="b")
    with pytest.raises(TypeError, match="expected_turn"):
        client.run("python", {"code": "1"}, expected_turn=1)
    with pytest.raises(ValueError):
        client.create_session(durability="always")
