"""The client against the real server."""

import threading
import uuid

import pytest
from conftest import REPOSITORY, TOKEN

import casemate
from casemate import Client
from casemate.v1 import execution_pb2 as execution
from casemate.v1 import executions_pb2 as executions


def kind(event):
    return event.WhichOneof("event")


def test_a_tool_runs(client):
    result = client.run("text_stats", {"text": "All the world is a stage."})
    assert result.check().output["words"] == 6
    assert (result.state, result.exit_reason, result.exit_code) == ("SUCCEEDED", "EXITED", 0)


def test_text_comes_back_exactly(client):
    text = "ä €  \u2028 \U0001f600"
    assert client.run("echo", {"text": text}).output == {"text": text}


def test_errors_are_exceptions_with_their_details(client, server):
    with pytest.raises(casemate.InvalidArgument) as caught:
        client.run("echo", {"wrong": 1})
    assert caught.value.reason == "PARAMETERS_INVALID"
    assert len(caught.value.field_violations) == 2
    with pytest.raises(casemate.NotFound) as caught:
        client.run("no-such-tool")
    assert caught.value.reason == "TOOL_NOT_FOUND"
    # A refusal arrives, however much of the call it could quote.
    with pytest.raises(casemate.NotFound) as caught:
        client.run("no-such-tool-" + "ä" * 100_000)
    assert caught.value.reason == "TOOL_NOT_FOUND"
    with pytest.raises(casemate.InvalidArgument) as caught:
        client.run("echo", {f"{number}" * 50: number for number in range(2000)})
    assert caught.value.reason == "PARAMETERS_INVALID"
    with Client(server.address, "wrong" * 10) as stranger, pytest.raises(casemate.Unauthenticated):
        stranger.run("echo", {"text": "x"})
    with Client("127.0.0.1:1", TOKEN) as nowhere, pytest.raises(casemate.Unavailable):
        nowhere.run("echo", {"text": "x"})
    with pytest.raises(casemate.NotFound):
        list(client.stream("no-such-tool"))
    with pytest.raises(casemate.NotFound):
        client.start("no-such-tool")


def test_events_stream(client):
    events = list(client.stream("echo", {"text": "hi"}))
    assert [kind(event) for event in events] == ["started", "stdout", "finished"]
    assert [event.sequence for event in events] == [1, 2, 3]


def test_a_run_outlives_its_stream_and_is_fed_watched_and_cancelled(client):
    execution_id = client.start("cat", keep_stdin_open=True)
    offset = client.write_stdin(execution_id, b"one\n")
    assert client.write_stdin(execution_id, b"one\n", offset=0) == offset, "a repetition is harmless"
    with pytest.raises(casemate.OutOfRange) as caught:
        client.write_stdin(execution_id, b"x", offset=100)
    assert caught.value.metadata["resume_offset"] == str(offset)
    client.write_stdin(execution_id, b"two\n", eof=True)
    printed = b"".join(event.stdout.data for event in client.watch(execution_id) if kind(event) == "stdout")
    assert printed.endswith(b"one\ntwo\n")
    assert client.wait(execution_id).state == execution.EXECUTION_STATE_SUCCEEDED

    endless = client.start("cat", keep_stdin_open=True)
    assert client.cancel(endless, "enough").result.message == "it was cancelled: enough"


@pytest.mark.parametrize("how", ["stream", "watch"])
def test_a_dropped_connection_is_taken_up_without_loss_or_repetition(server, relay, client, how):
    lines = 200
    with Client(relay.address, TOKEN) as shaky:
        if how == "stream":
            events = shaky.stream("cat", keep_stdin_open=True, labels={"test": how})
            first = next(events)
            execution_id = first.started.execution_id
            seen = [first]
        else:
            execution_id = client.start("cat", keep_stdin_open=True)
            events, seen = shaky.watch(execution_id), []
        def feed():
            offset = 0
            for number in range(lines):
                offset = client.write_stdin(execution_id, b"line %d\n" % number, offset=offset)
                if number % 50 == 25:
                    relay.cut()
            client.write_stdin(execution_id, b"", offset=offset, eof=True)

        feeder = threading.Thread(target=feed)
        feeder.start()
        seen += events
        feeder.join()
    assert relay.accepted > 1, "the connection was really dropped"
    assert [event.sequence for event in seen] == list(range(1, len(seen) + 1))
    printed = b"".join(event.stdout.data for event in seen if kind(event) == "stdout")
    assert printed.endswith(b"".join(b"line %d\n" % number for number in range(lines)))
    # The same events again, from the server's journal.
    assert [event.SerializeToString() for event in client.watch(execution_id)] == [
        event.SerializeToString() for event in seen
    ]


def test_a_retry_returns_the_first_execution(client):
    request_id = str(uuid.uuid4())
    first = client.run("echo", {"text": "x"}, request_id=request_id)
    assert client.run("echo", {"text": "x"}, request_id=request_id) == first
    with pytest.raises(casemate.AlreadyExists):
        client.run("echo", {"text": "y"}, request_id=request_id)


def test_limits_and_timeouts(client):
    limits = execution.ExecutionLimits()
    limits.wall_time.FromMilliseconds(100)
    result = client.wait(client.start("cat", keep_stdin_open=True, limits=limits))
    assert result.state == execution.EXECUTION_STATE_TIMED_OUT


def test_lists_are_paged(client):
    for _ in range(7):
        client.run("echo", {"text": "x"}, labels={"batch": "pages"})
    chosen = executions.ExecutionFilter(labels={"batch": "pages"})
    assert len(list(client.list(chosen, page_size=3))) == 7


def test_tools_come_and_go(client):
    module = (REPOSITORY / "examples/tools/echo.wasm").read_bytes()
    tool = client.upload_tool("fresh", module)
    assert tool.digest == client.get_tool("fresh").digest
    assert client.run("fresh", {"text": "x"}).output == {"text": "x"}
    assert {"echo", "fresh"} <= {tool.name for tool in client.list_tools()}
    assert client.tool_schemas("anthropic", ["echo"])[0]["input_schema"]["type"] == "object"
    client.delete_tool("fresh")
    with pytest.raises(casemate.NotFound):
        client.get_tool("fresh")


def test_a_failed_run_is_a_result_until_asked_otherwise(client):
    result = client.run("cat", {}, limits=execution.ExecutionLimits(fuel=10))
    assert (result.ok, result.exit_reason) == (False, "OUT_OF_FUEL")
    with pytest.raises(casemate.ExecutionFailed):
        result.check()
