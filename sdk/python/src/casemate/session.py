"""Sessions: state that lives between calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .result import Result
from .v1 import execution_pb2 as execution
from .v1 import sessions_pb2 as sessions
from .v1 import snapshots_pb2 as snapshots

if TYPE_CHECKING:
    from .client import Client


class Session:
    """A session of an interpreter. As a context manager it is closed at the end; otherwise it lives on the
    server until it is closed there or its time is over."""

    def __init__(self, client: Client, message: sessions.Session) -> None:
        self._client = client
        #: The session as the server last described it.
        self.message = message

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<casemate.Session {self.id} of {self.message.tool}, {self.state}, turn {self.message.turn}>"

    @property
    def id(self) -> str:
        """Its id."""
        return self.message.id

    @property
    def state(self) -> str:
        """Its state when the server last described it: ``READY``, ``BUSY``, ``SUSPENDED``, ``CLOSED``."""
        return sessions.SessionState.Name(self.message.state).removeprefix("SESSION_STATE_")

    def run(self, code: str | Mapping[str, Any], **options: Any) -> Result:
        """Runs code, or parameters, as the next turn; options as :meth:`Client.run`. With ``expected_turn`` it
        runs only if the session is at that turn."""
        return self._client.run(self.message.tool, _parameters(code), session=self.id, **options)

    def stream(self, code: str | Mapping[str, Any], **options: Any) -> Iterator[execution.ExecutionEvent]:
        """The same, as events; options as :meth:`Client.stream`."""
        return self._client.stream(self.message.tool, _parameters(code), session=self.id, **options)

    def start(self, code: str | Mapping[str, Any], **options: Any) -> str:
        """Begins a turn and returns the execution's id at once; options as :meth:`Client.start`."""
        return self._client.start(self.message.tool, _parameters(code), session=self.id, **options)

    def refresh(self) -> sessions.Session:
        """Asks the server for its present description."""
        self.message = self._client.get_session(self.id).message
        return self.message

    def fork(
        self,
        count: int = 1,
        *,
        limits: sessions.SessionLimits | None = None,
        durability: str = "",
        labels: Mapping[str, str] | None = None,
        request_id: str = "",
    ) -> list[Session]:
        """Copies that go on by themselves from the present state."""
        request = sessions.ForkSessionRequest(
            session_id=self.id,
            count=count,
            limits=limits,
            durability=durability_of(durability),
            labels=labels,
            request_id=request_id,
        )
        made = self._client._unary(self._client._sessions.ForkSession, request).sessions
        return [Session(self._client, message) for message in made]

    def snapshot(
        self, name: str, *, description: str = "", labels: Mapping[str, str] | None = None, request_id: str = ""
    ) -> snapshots.Snapshot:
        """Keeps the present state under a name, from which sessions and isolates can start."""
        request = sessions.SnapshotSessionRequest(
            session_id=self.id, name=name, description=description, labels=labels, request_id=request_id
        )
        return self._client._unary(self._client._sessions.SnapshotSession, request).snapshot

    def close(self) -> sessions.Session:
        """Ends it. Closing a closed one changes nothing."""
        request = sessions.CloseSessionRequest(session_id=self.id)
        self.message = self._client._unary(self._client._sessions.CloseSession, request).session
        return self.message


def _parameters(code: str | Mapping[str, Any]) -> Mapping[str, Any]:
    return {"code": code} if isinstance(code, str) else code


def durability_of(name: str) -> sessions.SessionDurability:
    """``none``, ``idle`` or ``turn``; empty for the server's default."""
    return sessions.SessionDurability.Value(f"SESSION_DURABILITY_{(name or 'unspecified').upper()}")
