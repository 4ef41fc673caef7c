"""What a run leaves besides its two streams: values, figures, tables, files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import MessageToDict

from .v1 import execution_pb2 as execution
from .v1 import output_pb2 as output
from .v1 import tools_pb2 as tools


@dataclass(frozen=True)
class RichOutput:
    """Something to look at: the value of the last expression, or what the program displayed.

    ``forms`` has its content by MIME type, the richest first: ``str`` for text, SVG and JSON, ``bytes`` for
    anything else, ``None`` where it was too large to be sent.
    """

    forms: Mapping[str, str | bytes | None]
    metadata: Mapping[str, Any]

    @property
    def text(self) -> str:
        """Its plain text; empty when it has none."""
        form = self.forms.get("text/plain")
        return form if isinstance(form, str) else ""

    @property
    def png(self) -> bytes | None:
        """It as a PNG image; ``None`` when it is not one."""
        form = self.forms.get("image/png")
        return form if isinstance(form, bytes) else None

    def json(self) -> Any:
        """It as a Python value, from its form as JSON; :class:`KeyError` when it has none."""
        form = self.forms["application/json"]
        if not isinstance(form, str):
            raise KeyError("application/json")
        return json.loads(form)

    @staticmethod
    def of(message: output.RichOutput) -> RichOutput:
        """The output in a message of the server."""
        forms: dict[str, str | bytes | None] = {}
        for form in message.representations:
            content = form.WhichOneof("content")
            forms[form.mime_type] = getattr(form, content) if content else None
        return RichOutput(forms, MessageToDict(message.metadata))


@dataclass(frozen=True)
class File:
    """A file that a run left. ``data`` is ``None`` when it did not fit the answer: :meth:`Client.files` has it."""

    path: str
    size: int
    mode: int
    data: bytes | None

    @staticmethod
    def of(message: output.OutputFile) -> File:
        """The file in an answer of the server."""
        whole = len(message.data) == message.size_bytes
        return File(message.path, message.size_bytes, message.mode, message.data if whole else None)


class Files:
    """Puts files together from the events of a journal."""

    def __init__(self) -> None:
        self._pieces: dict[str, list[bytes]] = {}
        self.complete: dict[str, File] = {}

    def take(self, event: execution.ExecutionEvent) -> None:
        """Takes an event; all but pieces of files are left alone."""
        if event.WhichOneof("event") != "file_chunk":
            return
        chunk = event.file_chunk
        pieces = self._pieces.setdefault(chunk.path, [])
        if sum(map(len, pieces)) != chunk.offset:
            # The beginning is missing: the watch began in the middle.
            return
        pieces.append(chunk.data)
        if chunk.HasField("file"):
            data = b"".join(self._pieces.pop(chunk.path))
            self.complete[chunk.path] = File(chunk.path, chunk.file.size_bytes, chunk.file.mode, data)


def inputs(
    files: Mapping[str, bytes | str] | None = None,
    arguments: Iterable[str] = (),
    environment: Mapping[str, str] | None = None,
    stdin: bytes | str = b"",
    return_files: Iterable[str] = (),
) -> dict[str, Any]:
    """The fields of a call that give a run more than its parameters; text becomes UTF-8."""
    if isinstance(arguments, str) or isinstance(return_files, str):
        raise TypeError("expected several texts, such as a list, not one")
    return {
        "files": [tools.InputFile(path=path, data=_bytes(data)) for path, data in (files or {}).items()],
        "arguments": arguments,
        "environment": environment,
        "stdin": _bytes(stdin),
        "return_files": return_files,
    }


def _bytes(data: bytes | str) -> bytes:
    return data.encode() if isinstance(data, str) else data
