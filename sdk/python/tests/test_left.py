"""What a run leaves, from messages as the server sends them."""

import pytest

from casemate import Client, ExecutionFailed, InvalidArgument, Result, RichOutput
from casemate.left import Files, inputs
from casemate.v1 import execution_pb2 as execution
from casemate.v1 import output_pb2 as output
from casemate.v1 import tools_pb2 as tools


def form(mime_type, **content):
    return output.Representation(mime_type=mime_type, size_bytes=9, **content)


def test_an_answer_has_value_displays_files_and_exception():
    figure = output.RichOutput(representations=[form("image/png", data=b"\x89PNG"), form("text/plain", text="<fig>")])
    figure.metadata.update({"image/png": {"width": 640}})
    value = output.RichOutput(representations=[form("application/json", text="[1, 2]"), form("text/plain", text="[1, 2]")])
    ended = execution.ExecutionResult(
        exit_reason=execution.EXIT_REASON_EXITED,
        exit_code=1,
        exception=output.ExceptionInfo(type_name="ValueError", message="no", traceback="Traceback ..."),
    )
    response = tools.ExecuteToolResponse(
        execution=execution.Execution(state=execution.EXECUTION_STATE_FAILED, result=ended),
        value=value,
        rich_outputs=[figure],
        files=[
            output.OutputFile(path="a", size_bytes=1, kept=True, data=b"x"),
            output.OutputFile(path="big", size_bytes=9, kept=True),
            output.OutputFile(path="empty", kept=True),
        ],
    )
    result = Result.of(response)
    assert (result.value.json(), result.value.text) == ([1, 2], "[1, 2]")
    assert (result.rich_outputs[0].png, result.rich_outputs[0].metadata["image/png"]["width"]) == (b"\x89PNG", 640)
    assert {path: file.data for path, file in result.files.items()} == {"a": b"x", "big": None, "empty": b""}
    assert result.exception.type_name == "ValueError"
    with pytest.raises(ExecutionFailed, match="ValueError: no"):
        result.check()
    plain = Result.of(tools.ExecuteToolResponse())
    assert (plain.value, plain.rich_outputs, plain.files, plain.exception) == (None, (), {}, None)


def test_a_form_that_did_not_fit_is_none():
    shown = RichOutput.of(output.RichOutput(representations=[form("image/png")]))
    assert (shown.forms, shown.png, shown.text) == ({"image/png": None}, None, "")
    with pytest.raises(KeyError):
        shown.json()


def test_files_are_put_together_from_their_pieces():
    files = Files()

    def piece(path, offset, data, last=False):
        chunk = output.OutputFileChunk(path=path, offset=offset, data=data)
        if last:
            chunk.file.size_bytes = offset + len(data)
        files.take(execution.ExecutionEvent(file_chunk=chunk))

    piece("a", 0, b"on")
    piece("a", 2, b"e", last=True)
    piece("empty", 0, b"", last=True)
    piece("late", 4, b"x", last=True)
    files.take(execution.ExecutionEvent(started=execution.StartedEvent()))
    assert {path: file.data for path, file in files.complete.items()} == {"a": b"one", "empty": b""}


def test_one_text_is_not_several():
    with pytest.raises(TypeError):
        inputs(arguments="-v")


def test_standard_input_comes_with_the_call_and_modules_refuse_files(client: Client):
    assert client.run("cat", stdin="given").output == "{}\ngiven"
    assert client.files(client.start("cat", stdin=b"given")) == {}
    with pytest.raises(InvalidArgument) as caught:
        client.run("cat", files={"a": "x"}, arguments=["-v"], environment={"A": "1"}, return_files=["*"])
    fields = [violation.field for violation in caught.value.field_violations]
    assert fields == ["call.files", "call.arguments", "call.environment", "call.return_files"]
