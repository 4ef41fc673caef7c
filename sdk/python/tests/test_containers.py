"""Containers, on a real Docker daemon."""

import os

import pytest

from casemate import Client, ExecutionFailed, FailedPrecondition, NotFound

from conftest import TOKEN

pytestmark = pytest.mark.skipif("CASEMATE_TEST_DOCKER" not in os.environ, reason="no Docker daemon: CASEMATE_TEST_DOCKER")

IMAGE = "casemate-test/busybox:1"


def test_commands_run_in_a_container(client: Client):
    with client.containers.spawn(IMAGE, ["/bin/sh", "-c", "echo ready; sleep 100000"], labels={"who": "sdk"}) as box:
        assert box.state == "RUNNING"
        done = box.run("echo out; echo err >&2; cat; exit 3", stdin="typed\n", environment={"A": "1"})
        assert (done.text, done.stderr, done.exit_code, done.ok) == ("out\ntyped\n", b"err\n", 3, False)
        assert box.run(["/bin/echo", "$A"], environment={"A": "1"}).check().text == "$A\n"
        assert len(box.run("head -c 3000000 /dev/zero").check().stdout) == 3_000_000
        assert box.run("sleep 1000", timeout=0.2).exit_reason == "TIMED_OUT"
        with pytest.raises(ExecutionFailed, match="exit code 7|7"):
            box.run("exit 7").check()
        with pytest.raises(FailedPrecondition) as refused:
            box.run(["no-such-program"])
        assert refused.value.reason == "PROCESS_NOT_STARTED"
        assert box.id in [one.id for one in client.containers.list()]
        assert client.containers.get(box.name).id == box.id
        for chunk in box.logs():
            assert chunk == b"ready\n"
        box.pause()
        assert box.state == "PAUSED"
        box.resume()
    assert box.state == "ENDED"
    with pytest.raises(NotFound):
        client.containers.get("nobody")


def test_a_command_is_followed_over_dropped_connections(client: Client, relay):
    with client.containers.spawn(IMAGE, ["sleep", "100000"]) as box, Client(relay.address, TOKEN) as through:
        execution = box.start("for n in 1 2 3 4 5; do echo $n; sleep 0.1; done")
        said = b""
        for event in through.watch(execution):
            if event.WhichOneof("event") == "stdout":
                said += event.stdout.data
                relay.cut()
        assert said == b"1\n2\n3\n4\n5\n"


def test_files_go_in_and_out(client: Client):
    with client.containers.spawn(IMAGE, ["sleep", "100000"]) as box:
        data = os.urandom(1_000_000)
        info = box.write("data/in.bin", data, mode=0o600, make_parents=True)
        assert (info.path, info.size_bytes, info.mode) == ("/workspace/data/in.bin", 1_000_000, 0o600)
        assert box.read("data/in.bin") == data
        assert b"".join(box.read_chunks("data/in.bin", 10, 5)) == data[10:15]
        box.write("log", "one\n")
        box.write("log", "two\n", append=True)
        box.write("pieces", (bytes([n]) * 10 for n in range(3)))
        assert box.run("cat log; wc -c < pieces").check().text == "one\ntwo\n30\n"
        assert [one.path for one in box.files(depth=2)] == [
            "/workspace/data", "/workspace/data/in.bin", "/workspace/log", "/workspace/pieces",
        ]
        box.make_directory("a/b", parents=True)
        assert box.stat("a/b").path == "/workspace/a/b"
        assert box.remove("a", recursive=True) == 2
        with pytest.raises(NotFound) as missing:
            box.read("a")
        assert missing.value.reason == "FILE_NOT_FOUND"


def test_tools_run_inside(client: Client):
    with client.containers.spawn("casemate-test/python:1", ["/bin/sleep", "100000"]) as box:
        done = client.run("python", {"code": "open('made', 'w').write('x')\n6 * 7"}, container=box.id).check()
        assert done.value.text == "42"
        assert [file.path for file in done.execution.result.files] == ["made"]
        done = client.run("shell", {"command": "cat made; exit 2"}, container=box.name, return_files=["made"])
        assert (done.output, done.exit_code) == ("x", 2)
        names = [schema["function"]["name"] for schema in client.tool_schemas(container=box.id)]
        assert names == ["code", "files", "python", "shell"]
        with pytest.raises(TypeError):
            client.run("shell", {"command": "true"}, container=box.id, pool="p")


def test_a_notebook_keeps_its_state(client: Client):
    with client.containers.spawn("casemate-test/jupyter:1", ["/bin/sleep", "100000"]) as box:
        with client.create_session("notebook", container=box.id, kernel="python3") as notebook:
            notebook.run("x = 20").check()
            done = notebook.run("from IPython.display import HTML, display\ndisplay(HTML('<i>x</i>'))\nx + 1").check()
            assert done.value.text == "21"
            assert done.rich_outputs[0].forms["text/html"] == "<i>x</i>"
            failed = notebook.run("1 / 0")
            assert (failed.exit_code, failed.exception.type_name) == (1, "ZeroDivisionError")
            assert notebook.run({"code": "print(x)"}).output == "20\n"
        with pytest.raises(TypeError):
            client.create_session("notebook", container=box.id, pool="p")
