"""Containers: sandboxes that run commands and keep files."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.duration_pb2 import Duration

from . import errors
from .result import Ended, ExecutionFailed
from .v1 import container_pb2 as container
from .v1 import containers_pb2 as containers
from .v1 import containers_pb2_grpc
from .v1 import execution_pb2 as execution
from .v1 import files_pb2 as files
from .v1 import logs_pb2 as logs
from .v1 import processes_pb2 as processes

if TYPE_CHECKING:
    from .client import Client

_CHUNK = 256 << 10


class Containers:
    """The containers of a server: :attr:`Client.containers`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stub = containers_pb2_grpc.ContainersStub(client._channel)

    def spawn(
        self,
        image: str = "",
        command: Iterable[str] = (),
        *,
        name: str = "",
        environment: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        resources: container.ContainerResources | None = None,
        spec: container.ContainerSpec | None = None,
        request_id: str = "",
    ) -> Container:
        """Makes a container and returns it once it runs. ``spec`` says what these arguments do not; what both say,
        the arguments decide."""
        wanted = container.ContainerSpec()
        if spec is not None:
            wanted.CopyFrom(spec)
        if image:
            wanted.image = image
        if command := list(command):
            wanted.command[:] = command
        wanted.environment.update(environment or {})
        wanted.labels.update(labels or {})
        if resources is not None:
            wanted.resources.CopyFrom(resources)
        request = containers.SpawnContainerRequest(
            spec=wanted, name=name, request_id=request_id or str(uuid.uuid4())
        )
        return Container(self, self._client._unary(self._stub.SpawnContainer, request).container)

    def get(self, name: str) -> Container:
        """One container, by name or id."""
        request = containers.GetContainerRequest(container_id=name)
        return Container(self, self._client._unary(self._stub.GetContainer, request).container)

    def list(self, filter: containers.ContainerFilter | None = None, page_size: int = 100) -> Iterator[Container]:
        """All containers that a filter selects, newest first, page by page; without one those that are not over."""
        token = ""
        while True:
            request = containers.ListContainersRequest(page_size=page_size, page_token=token, filter=filter)
            page = self._client._unary(self._stub.ListContainers, request)
            yield from (Container(self, message) for message in page.containers)
            token = page.next_page_token
            if not token:
                return


@dataclass(frozen=True)
class Completed(Ended):
    """A command that is over. ``complete`` is false when some of its output was dropped, for it was too much."""

    execution: execution.Execution
    stdout: bytes
    stderr: bytes
    complete: bool = True
    exception: None = None

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.stdout.decode(errors="replace")

    def check(self) -> Completed:
        """This, or :class:`ExecutionFailed` if it did not end well."""
        if not self.ok:
            raise ExecutionFailed(self)
        return self


class Container:
    """A container. As a context manager it is killed at the end; otherwise it lives on until somebody ends it."""

    def __init__(self, all: Containers, message: container.Container) -> None:
        self._all = all
        self._client = all._client
        #: The container as the server last described it.
        self.message = message

    def __enter__(self) -> Container:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def __repr__(self) -> str:
        return f"<casemate.Container {self.name} ({self.id}), {self.state}>"

    @property
    def id(self) -> str:
        """Its id."""
        return self.message.id

    @property
    def name(self) -> str:
        """Its name."""
        return self.message.name

    @property
    def state(self) -> str:
        """Its state when the server last described it: ``RUNNING``, ``PAUSED``, ``ENDED`` and so on."""
        return container.ContainerState.Name(self.message.state).removeprefix("CONTAINER_STATE_")

    def refresh(self) -> container.Container:
        """Asks the server for its present description."""
        self.message = self._all.get(self.id).message
        return self.message

    def start(
        self,
        command: str | Iterable[str],
        *,
        stdin: bytes | str = b"",
        keep_stdin_open: bool = False,
        environment: Mapping[str, str] | None = None,
        workdir: str = "",
        user: str = "",
        timeout: float | None = None,
        labels: Mapping[str, str] | None = None,
        request_id: str = "",
    ) -> str:
        """Starts a command and returns the execution's id: :meth:`Client.watch`, :meth:`Client.write_stdin` and
        :meth:`Client.cancel` go on from there. A text is a shell's; a list is a program and its arguments.
        ``timeout``, in seconds, ends it with all that it started."""
        words = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        limits = None
        if timeout is not None:
            span = Duration()
            span.FromNanoseconds(int(timeout * 1e9))
            limits = execution.ExecutionLimits(wall_time=span)
        request = processes.StartProcessRequest(
            container_id=self.id,
            process=processes.ProcessSpec(
                command=words,
                stdin=stdin.encode() if isinstance(stdin, str) else stdin,
                keep_stdin_open=keep_stdin_open,
                environment=environment,
                working_directory=workdir,
                user=user,
            ),
            limits=limits,
            labels=labels,
            request_id=request_id or str(uuid.uuid4()),
        )
        return self._client._unary(self._all._stub.StartProcess, request).execution.id

    def run(self, command: str | Iterable[str], **options: Any) -> Completed:
        """Runs a command to its end, also over dropped connections and restarts of the server; options as
        :meth:`start`. What it does wrong is in the answer; :meth:`Completed.check` makes it an exception."""
        execution_id = self.start(command, **options)
        stdout, stderr, complete = bytearray(), bytearray(), True
        for event in self._client.watch(execution_id):
            kind = event.WhichOneof("event")
            if kind == "stdout":
                stdout += event.stdout.data
            elif kind == "stderr":
                stderr += event.stderr.data
            elif kind == "truncated":
                complete = False
        return Completed(self._client.get(execution_id), bytes(stdout), bytes(stderr), complete)

    def logs(self, follow: bool = False) -> Iterator[bytes]:
        """What its main process wrote, both streams in order; with ``follow`` also what it writes, up to its end."""
        request = logs.StreamLogsRequest(container_id=self.id, follow=follow)
        for message in self._stream(self._all._stub.StreamLogs, request):
            if message.WhichOneof("entry") == "chunk":
                yield message.chunk.data

    def read(self, path: str) -> bytes:
        """A file's content. Paths are absolute or relative to the workspace."""
        return b"".join(self.read_chunks(path))

    def read_chunks(self, path: str, offset: int = 0, length: int = 0) -> Iterator[bytes]:
        """The same in pieces, for what is large."""
        request = files.ReadFileRequest(container_id=self.id, path=path, offset=offset, length=length)
        for message in self._stream(self._all._stub.ReadFile, request):
            if message.WhichOneof("part") == "chunk":
                yield message.chunk

    def write(
        self,
        path: str,
        data: bytes | str | Iterable[bytes],
        *,
        mode: int | None = None,
        append: bool = False,
        make_parents: bool = False,
    ) -> files.FileInfo:
        """Writes a file: whole, or not at all. ``append`` adds to the end of what is there instead."""
        header = files.WriteFileHeader(container_id=self.id, path=path, mode=mode, make_parents=make_parents)
        if append:
            header.write_mode = files.FILE_WRITE_MODE_APPEND
        if isinstance(data, str):
            data = data.encode()
        if isinstance(data, bytes | bytearray | memoryview):
            header.size_bytes = len(data)
            data = [bytes(data[at : at + _CHUNK]) for at in range(0, len(data), _CHUNK)]

        def parts() -> Iterator[files.WriteFileRequest]:
            yield files.WriteFileRequest(header=header)
            for chunk in data:
                yield files.WriteFileRequest(chunk=chunk)

        return self._client._unary(self._all._stub.WriteFile, parts()).info

    def files(self, path: str = "", depth: int = 1) -> Iterator[files.FileInfo]:
        """What is in a directory, by path, page by page; nothing names the workspace."""
        token = ""
        while True:
            request = files.ListDirectoryRequest(
                container_id=self.id, path=path, depth=depth, page_size=1000, page_token=token
            )
            page = self._client._unary(self._all._stub.ListDirectory, request)
            yield from page.entries
            token = page.next_page_token
            if not token:
                return

    def stat(self, path: str) -> files.FileInfo:
        """What a path is; links are not followed."""
        request = files.StatPathRequest(container_id=self.id, path=path)
        return self._client._unary(self._all._stub.StatPath, request).info

    def make_directory(self, path: str, *, parents: bool = False) -> files.FileInfo:
        """Makes a directory."""
        request = files.MakeDirectoryRequest(container_id=self.id, path=path, parents=parents)
        return self._client._unary(self._all._stub.MakeDirectory, request).info

    def remove(self, path: str, *, recursive: bool = False) -> int:
        """Removes a file or a directory; how many files, links and directories are gone."""
        request = files.RemovePathRequest(container_id=self.id, path=path, recursive=recursive)
        return self._client._unary(self._all._stub.RemovePath, request).removed_entries

    def pause(self) -> None:
        """Freezes all its processes."""
        request = containers.PauseContainerRequest(container_id=self.id)
        self.message = self._client._unary(self._all._stub.PauseContainer, request).container

    def resume(self) -> None:
        """Lets them go on."""
        request = containers.ResumeContainerRequest(container_id=self.id)
        self.message = self._client._unary(self._all._stub.ResumeContainer, request).container

    def stop(self, reason: str = "") -> None:
        """Asks its main process to stop, and ends what is left. Returns once it is over."""
        request = containers.StopContainerRequest(container_id=self.id, reason=reason)
        self.message = self._client._unary(self._all._stub.StopContainer, request).container

    def kill(self, reason: str = "") -> None:
        """Ends it at once. Nothing for one that is over."""
        request = containers.KillContainerRequest(container_id=self.id, reason=reason)
        self.message = self._client._unary(self._all._stub.KillContainer, request).container

    def _stream(self, method: Any, request: Any) -> Iterator[Any]:
        stream = method(request, metadata=self._client._metadata())
        try:
            yield from stream
        except grpc.RpcError as error:
            raise errors.from_rpc(error) from None
        finally:
            stream.cancel()
