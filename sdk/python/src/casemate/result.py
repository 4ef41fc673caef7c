"""What came of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .left import File, RichOutput
from .v1 import execution_pb2 as execution
from .v1 import output_pb2 as output_messages
from .v1 import tools_pb2 as tools


class ExecutionFailed(Exception):
    """A run that ended other than well; ``result`` has its output and its reason."""

    def __init__(self, result: Result) -> None:
        message = result.message or f"exit code {result.exit_code}"
        if not result.message and result.exception:
            message = f"{result.exception.type_name}: {result.exception.message}"
        super().__init__(f"{result.state}: {message}")
        self.result = result


class Ended:
    """What every run that is over has; ``execution`` is how the server describes it."""

    execution: execution.Execution

    @property
    def execution_id(self) -> str:
        """Id of the execution."""
        return self.execution.id

    @property
    def state(self) -> str:
        """The final state."""
        return execution.ExecutionState.Name(self.execution.state).removeprefix("EXECUTION_STATE_")

    @property
    def exit_reason(self) -> str:
        """Why it ended."""
        return execution.ExitReason.Name(self.execution.result.exit_reason).removeprefix("EXIT_REASON_")

    @property
    def exit_code(self) -> int:
        """Its exit code; meaningful when ``exit_reason`` is ``EXITED``."""
        return self.execution.result.exit_code

    @property
    def message(self) -> str:
        """One sentence on what happened; empty for a plain success."""
        return self.execution.result.message

    @property
    def ok(self) -> bool:
        """Whether it ended well."""
        return self.execution.state == execution.EXECUTION_STATE_SUCCEEDED


@dataclass(frozen=True)
class Result(Ended):
    """A run that is over.

    ``output`` is a Python value if the tool printed JSON, else text, else bytes; ``state`` and
    ``exit_reason`` are names of the contract without their prefix, such as ``SUCCEEDED`` and ``EXITED``.
    ``value`` is the value of the last expression, ``rich_outputs`` what was displayed, ``files`` what was kept
    of the files it left, by path: interpreters fill them.
    """

    execution: execution.Execution
    output: Any
    stderr: str
    value: RichOutput | None = None
    rich_outputs: tuple[RichOutput, ...] = ()
    files: Mapping[str, File] = field(default_factory=dict)

    @property
    def exception(self) -> output_messages.ExceptionInfo | None:
        """The exception that ended the program, with its traceback."""
        return self.execution.result.exception if self.execution.result.HasField("exception") else None

    def check(self) -> Result:
        """This result, or :class:`ExecutionFailed` if it did not end well."""
        if not self.ok:
            raise ExecutionFailed(self)
        return self

    @staticmethod
    def of(response: tools.ExecuteToolResponse) -> Result:
        """The result in an answer of the server."""
        output = response.output
        kind = output.WhichOneof("content")
        if kind == "json_text":
            value: Any = json.loads(output.json_text)
        elif kind in ("text", "data"):
            value = getattr(output, kind)
        else:
            value = None
        return Result(
            response.execution,
            value,
            response.stderr,
            RichOutput.of(response.value) if response.HasField("value") else None,
            tuple(map(RichOutput.of, response.rich_outputs)),
            {file.path: File.of(file) for file in response.files},
        )
