"""A client of one server."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict

from . import errors
from .container import Containers
from .left import File, Files, inputs
from .result import Result
from .session import Session, durability_of
from .settings import Settings
from .v1 import execution_pb2 as execution
from .v1 import executions_pb2 as executions
from .v1 import executions_pb2_grpc, sessions_pb2_grpc, snapshots_pb2_grpc, tool_pb2, tools_pb2, tools_pb2_grpc
from .v1 import sessions_pb2 as sessions
from .v1 import snapshots_pb2 as snapshots

T = TypeVar("T")

# What the server keeps of a run may be larger than gRPC's default bound.
_MAX_MESSAGE = 256 << 20
# A dropped connection is tried again for about half a minute before the caller hears of it.
_ATTEMPTS = 8
_CHUNK = 1 << 20
# Options of a start that say what the run gets besides its parameters.
_INPUTS = ("files", "arguments", "environment", "stdin", "return_files")
# And those that say where it runs.
_TARGETS = ("session", "expected_turn", "snapshot", "container", "pool")
_DROPPED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN)


class Client:
    """Runs tools and follows executions. Safe to share between threads; close it when done."""

    def __init__(self, address: str | None = None, token: str | None = None) -> None:
        """Connects with the first call; see :class:`Settings` for where address and token come from."""
        self.settings = Settings.resolve(address, token)
        options = [("grpc.max_receive_message_length", _MAX_MESSAGE), ("grpc.max_send_message_length", _MAX_MESSAGE)]
        self._channel = grpc.insecure_channel(self.settings.address, options=options)
        self._tools = tools_pb2_grpc.ToolsStub(self._channel)
        self._executions = executions_pb2_grpc.ExecutionsStub(self._channel)
        self._sessions = sessions_pb2_grpc.SessionsStub(self._channel)
        self._snapshots = snapshots_pb2_grpc.SnapshotsStub(self._channel)
        #: The containers of the server.
        self.containers = Containers(self)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def run(
        self,
        tool: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        limits: execution.ExecutionLimits | None = None,
        labels: Mapping[str, str] | None = None,
        request_id: str = "",
        timeout: float | None = None,
        files: Mapping[str, bytes | str] | None = None,
        arguments: Iterable[str] = (),
        environment: Mapping[str, str] | None = None,
        stdin: bytes | str = b"",
        return_files: Iterable[str] = (),
        session: str = "",
        expected_turn: int | None = None,
        snapshot: str = "",
        container: str = "",
        pool: str = "",
    ) -> Result:
        """Runs a tool to its end. ``timeout``, in seconds, ends the call and the run with it. What the tool
        does wrong is in the result, not an exception; :meth:`Result.check` makes it one.

        ``files`` (by path), ``arguments``, ``environment`` and ``return_files`` (patterns such as
        ``"out/*.png"``) are for interpreters and containers; ``stdin`` is for every tool. ``session`` runs it in
        a session, by id; ``snapshot`` in a fresh isolate from a snapshot, by name or id; ``container`` inside a
        container, by name or id; ``pool`` inside a container of a pool, which is destroyed afterwards."""
        given = inputs(files, arguments, environment, stdin, return_files)
        given |= _target(session, expected_turn, snapshot, container, pool)
        call = _call(tool, parameters, limits, labels, request_id, False, given)
        request = tools_pb2.ExecuteToolRequest(call=call)
        return Result.of(self._unary(self._tools.ExecuteTool, request, timeout))

    def stream(
        self,
        tool: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        limits: execution.ExecutionLimits | None = None,
        labels: Mapping[str, str] | None = None,
        request_id: str = "",
        keep_stdin_open: bool = False,
        files: Mapping[str, bytes | str] | None = None,
        arguments: Iterable[str] = (),
        environment: Mapping[str, str] | None = None,
        stdin: bytes | str = b"",
        return_files: Iterable[str] = (),
        session: str = "",
        expected_turn: int | None = None,
        snapshot: str = "",
        container: str = "",
        pool: str = "",
    ) -> Iterator[execution.ExecutionEvent]:
        """Runs a tool and yields its events as they happen, each once, also over dropped connections.
        Leaving the iterator does not end the run. Inputs as :meth:`run`."""
        given = inputs(files, arguments, environment, stdin, return_files)
        given |= _target(session, expected_turn, snapshot, container, pool)
        call = _call(tool, parameters, limits, labels, request_id, keep_stdin_open, given)
        stream = self._tools.ExecuteToolStream(
            tools_pb2.ExecuteToolStreamRequest(call=call), metadata=self._metadata()
        )
        last, execution_id = 0, ""
        try:
            header = dict(stream.initial_metadata() or ())
            execution_id = header.get("casemate-execution-id", "")
            for response in stream:
                event = response.event
                if event.WhichOneof("event") == "keepalive":
                    continue
                last = event.sequence
                yield event
                if event.WhichOneof("event") == "finished":
                    return
        except grpc.RpcError as error:
            if not execution_id or error.code() not in _DROPPED:
                raise errors.from_rpc(error) from None
        finally:
            stream.cancel()
        yield from self.watch(execution_id, last + 1)

    def start(self, tool: str, parameters: Mapping[str, Any] | None = None, **options: Any) -> str:
        """Starts a tool and returns the execution's id at once; options as :meth:`stream`."""
        call = _call(
            tool,
            parameters,
            options.pop("limits", None),
            options.pop("labels", None),
            options.pop("request_id", ""),
            options.pop("keep_stdin_open", False),
            inputs(**{name: options.pop(name) for name in _INPUTS if name in options})
            | _target(**{name: options.pop(name) for name in _TARGETS if name in options}),
        )
        if options:
            raise TypeError(f"unknown options: {', '.join(sorted(options))}")
        request = tools_pb2.ExecuteToolStreamRequest(call=call)
        stream = self._tools.ExecuteToolStream(request, metadata=self._metadata())
        try:
            header = dict(stream.initial_metadata() or ())
            if "casemate-execution-id" not in header:
                # No header: the call failed, and reading it tells how.
                next(iter(stream))
            return header["casemate-execution-id"]
        except grpc.RpcError as error:
            raise errors.from_rpc(error) from None
        finally:
            stream.cancel()

    def watch(self, execution_id: str, from_sequence: int = 0) -> Iterator[execution.ExecutionEvent]:
        """Yields an execution's events from a sequence on, each once, up to its end. A dropped connection is
        taken up again where it broke."""
        following, failures = max(from_sequence, 1), 0
        while True:
            request = executions.WatchExecutionRequest(execution_id=execution_id, from_sequence=following)
            stream = self._executions.WatchExecution(request, metadata=self._metadata())
            try:
                for response in stream:
                    event = response.event
                    failures = 0
                    if event.WhichOneof("event") == "keepalive":
                        continue
                    following = event.sequence + 1
                    yield event
                    if event.WhichOneof("event") == "finished":
                        return
                # An end without `finished`: the server went away in good order.
                failures += 1
                problem: errors.CasemateError = errors.Unavailable(
                    grpc.StatusCode.UNAVAILABLE, "the stream ended before the execution did"
                )
            except grpc.RpcError as error:
                problem = errors.from_rpc(error)
                if error.code() not in _DROPPED:
                    raise problem from None
                failures += 1
            finally:
                stream.cancel()
            if failures >= _ATTEMPTS:
                raise problem
            _pause(failures)

    def files(self, execution_id: str) -> dict[str, File]:
        """The files that a run left and that were kept, by path, with their whole contents; waits for its end."""
        files = Files()
        for event in self.watch(execution_id):
            files.take(event)
        return files.complete

    def get(self, execution_id: str) -> execution.Execution:
        """One execution."""
        request = executions.GetExecutionRequest(execution_id=execution_id)
        return self._unary(self._executions.GetExecution, request).execution

    def wait(self, execution_id: str, timeout: float = 30.0) -> execution.Execution:
        """The execution once it is over, or as it stands after ``timeout`` seconds."""
        span = Duration()
        span.FromNanoseconds(int(timeout * 1e9))
        request = executions.WaitExecutionRequest(execution_id=execution_id, timeout=span)
        return self._unary(self._executions.WaitExecution, request).execution

    def list(
        self, filter: executions.ExecutionFilter | None = None, page_size: int = 100
    ) -> Iterator[execution.Execution]:
        """All executions that a filter selects, newest first, page by page."""
        token = ""
        while True:
            request = executions.ListExecutionsRequest(page_size=page_size, page_token=token, filter=filter)
            page = self._unary(self._executions.ListExecutions, request)
            yield from page.executions
            token = page.next_page_token
            if not token:
                return

    def cancel(self, execution_id: str, reason: str = "") -> execution.Execution:
        """Ends an execution and returns it."""
        request = executions.CancelExecutionRequest(execution_id=execution_id, reason=reason)
        return self._unary(self._executions.CancelExecution, request).execution

    def write_stdin(self, execution_id: str, data: bytes, offset: int | None = None, eof: bool = False) -> int:
        """Appends to standard input and returns the bytes accepted so far. With an ``offset`` a repeated write
        is harmless; without one it goes after what was accepted."""
        if offset is None:
            offset = self.get(execution_id).stdin_offset
        pieces = [data[at : at + _CHUNK] for at in range(0, len(data), _CHUNK)] or [b""]
        for number, piece in enumerate(pieces):
            last = number + 1 == len(pieces)
            request = executions.WriteStdinRequest(
                execution_id=execution_id, offset=offset, data=piece, eof=eof and last
            )
            offset = self._unary(self._executions.WriteStdin, request).offset
        return offset

    def create_session(
        self,
        tool: str = "python",
        *,
        snapshot: str = "",
        container: str = "",
        pool: str = "",
        kernel: str = "",
        durability: str = "",
        limits: sessions.SessionLimits | None = None,
        environment: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        request_id: str = "",
    ) -> Session:
        """A new session of an interpreter, from a snapshot if one is named. ``durability`` says when its state
        is made durable: ``none``, ``idle`` or ``turn``. For the tool ``notebook`` it is over a Jupyter kernel in a
        ``container``, by name or id, or in one of a ``pool``; ``kernel`` names another than Python's."""
        places = {"snapshot_id": snapshot, "container_id": container, "pool": pool}
        place = {field: value for field, value in places.items() if value}
        if len(place) > 1:
            raise TypeError("a session starts from a snapshot, or lives in a container or in a pool; name one of them")
        request = sessions.CreateSessionRequest(
            tool=tool,
            target=sessions.SessionTarget(**place) if place else None,
            parameters={"kernel": kernel} if kernel else None,
            durability=durability_of(durability),
            limits=limits,
            environment=environment,
            labels=labels,
            request_id=request_id,
        )
        return Session(self, self._unary(self._sessions.CreateSession, request).session)

    def get_session(self, session_id: str) -> Session:
        """One session."""
        request = sessions.GetSessionRequest(session_id=session_id)
        return Session(self, self._unary(self._sessions.GetSession, request).session)

    def list_sessions(self, filter: sessions.SessionFilter | None = None, page_size: int = 100) -> Iterator[Session]:
        """All sessions that a filter selects, page by page."""
        token = ""
        while True:
            request = sessions.ListSessionsRequest(page_size=page_size, page_token=token, filter=filter)
            page = self._unary(self._sessions.ListSessions, request)
            yield from (Session(self, message) for message in page.sessions)
            token = page.next_page_token
            if not token:
                return

    def list_snapshots(
        self, filter: snapshots.SnapshotFilter | None = None, page_size: int = 100
    ) -> Iterator[snapshots.Snapshot]:
        """All snapshots that a filter selects, page by page."""
        token = ""
        while True:
            request = snapshots.ListSnapshotsRequest(page_size=page_size, page_token=token, filter=filter)
            page = self._unary(self._snapshots.ListSnapshots, request)
            yield from page.snapshots
            token = page.next_page_token
            if not token:
                return

    def get_snapshot(self, name: str) -> snapshots.Snapshot:
        """One snapshot, by name or id."""
        return self._unary(self._snapshots.GetSnapshot, snapshots.GetSnapshotRequest(snapshot_id=name)).snapshot

    def delete_snapshot(self, name: str, request_id: str = "") -> None:
        """Removes a snapshot, by name or id. What runs on it goes on."""
        request = snapshots.DeleteSnapshotRequest(snapshot_id=name, request_id=request_id)
        self._unary(self._snapshots.DeleteSnapshot, request)

    def list_tools(self) -> Iterator[tool_pb2.Tool]:
        """All tools, by name."""
        token = ""
        while True:
            page = self._unary(self._tools.ListTools, tools_pb2.ListToolsRequest(page_size=100, page_token=token))
            yield from page.tools
            token = page.next_page_token
            if not token:
                return

    def get_tool(self, name: str) -> tool_pb2.Tool:
        """One tool."""
        return self._unary(self._tools.GetTool, tools_pb2.GetToolRequest(name=name)).tool

    def upload_tool(
        self, name: str, module: bytes, manifest: tool_pb2.ToolManifest | None = None, request_id: str = ""
    ) -> tool_pb2.Tool:
        """Adds or replaces a tool."""
        header = tools_pb2.UploadToolHeader(name=name, manifest=manifest, request_id=request_id)

        def parts() -> Iterable[tools_pb2.UploadToolRequest]:
            yield tools_pb2.UploadToolRequest(header=header)
            for at in range(0, len(module), _CHUNK):
                yield tools_pb2.UploadToolRequest(chunk=module[at : at + _CHUNK])

        return self._unary(self._tools.UploadTool, parts()).tool

    def delete_tool(self, name: str, request_id: str = "") -> None:
        """Removes a tool."""
        self._unary(self._tools.DeleteTool, tools_pb2.DeleteToolRequest(name=name, request_id=request_id))

    def tool_schemas(
        self, format: str = "openai", names: Iterable[str] = (), container: str = "", pool: str = ""
    ) -> list[dict[str, Any]]:
        """Tools in the form of a model's API: ``openai``, ``anthropic`` or ``mcp``. With ``container``, by name or
        id, or with ``pool``: those that its image can run."""
        value = tools_pb2.SchemaFormat.Value(f"SCHEMA_FORMAT_{format.upper()}")
        target = _target(container=container, pool=pool).get("target")
        request = tools_pb2.GetToolSchemasRequest(names=names, format=value, target=target)
        return [MessageToDict(schema) for schema in self._unary(self._tools.GetToolSchemas, request).schemas]

    def _metadata(self) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self.settings.token}")] if self.settings.token else []

    def _unary(self, method: Callable[..., T], request: Any, timeout: float | None = None) -> T:
        try:
            return method(request, timeout=timeout, metadata=self._metadata())
        except grpc.RpcError as error:
            raise errors.from_rpc(error) from None


def _target(
    session: str = "", expected_turn: int | None = None, snapshot: str = "", container: str = "", pool: str = ""
) -> dict[str, Any]:
    targets = {"session_id": session, "snapshot_id": snapshot, "container_id": container, "pool": pool}
    targets = {name: target for name, target in targets.items() if target}
    if len(targets) > 1:
        raise TypeError("a run is in a session, from a snapshot, in a container or in a pool; name one of them")
    if expected_turn is not None and not session:
        raise TypeError("expected_turn is for runs in a session")
    return {"target": tools_pb2.ToolTarget(**targets, expected_turn=expected_turn)} if targets else {}


def _call(
    tool: str,
    parameters: Mapping[str, Any] | None,
    limits: execution.ExecutionLimits | None,
    labels: Mapping[str, str] | None,
    request_id: str,
    keep_stdin_open: bool,
    given: dict[str, Any],
) -> tools_pb2.ToolCall:
    # As text: integers keep all their digits, and the output comes back as text too.
    return tools_pb2.ToolCall(
        tool=tool,
        parameters_json=json.dumps(dict(parameters or {}), ensure_ascii=False),
        limits=limits,
        labels=labels,
        request_id=request_id,
        keep_stdin_open=keep_stdin_open,
        **given,
    )


def _pause(failures: int) -> None:
    time.sleep(min(0.05 * 2**failures, 5.0) * random.uniform(0.5, 1.0))
