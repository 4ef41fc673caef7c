"""Errors of the server as exceptions, with the details it sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import grpc
from google.rpc import error_details_pb2, status_pb2


@dataclass(frozen=True)
class FieldViolation:
    """One problem of one field."""

    field: str
    description: str


class CasemateError(Exception):
    """An error of the server.

    ``code`` is the gRPC code, ``reason`` the stable name that ``docs/errors`` explains, ``retry_after`` the
    seconds after which a retry makes sense, if the server said so.
    """

    code: grpc.StatusCode
    reason: str
    message: str
    field_violations: list[FieldViolation]
    retry_after: float | None
    metadata: Mapping[str, str]

    def __init__(self, code: grpc.StatusCode, message: str, details: bytes | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = ""
        self.field_violations = []
        self.retry_after = None
        self.metadata = {}
        for detail in status_pb2.Status.FromString(details or b"").details:
            self._read(detail)

    def _read(self, detail) -> None:
        info = error_details_pb2.ErrorInfo()
        request = error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            self.reason = info.reason
            self.metadata = dict(info.metadata)
        elif detail.Unpack(request):
            self.field_violations = [FieldViolation(v.field, v.description) for v in request.field_violations]
        elif detail.Unpack(retry):
            self.retry_after = retry.retry_delay.ToTimedelta().total_seconds()

    def __str__(self) -> str:
        return f"{self.message} ({self.reason or self.code.name})"


class Cancelled(CasemateError):
    """The call was cancelled."""


class InvalidArgument(CasemateError):
    """A field is missing or out of range; see ``field_violations``."""


class DeadlineExceeded(CasemateError):
    """The call took longer than its timeout."""


class NotFound(CasemateError):
    """There is no such tool or execution."""


class AlreadyExists(CasemateError):
    """The name or the request id is in use."""


class PermissionDenied(CasemateError):
    """The caller may not do this."""


class ResourceExhausted(CasemateError):
    """The server is full; try again after ``retry_after`` seconds."""


class FailedPrecondition(CasemateError):
    """Not in this state."""


class OutOfRange(CasemateError):
    """Beyond the end, or after a gap; ``metadata`` tells where to resume."""


class Unimplemented(CasemateError):
    """Not part of this server."""


class Internal(CasemateError):
    """A fault of the server."""


class Unavailable(CasemateError):
    """The server cannot be reached, or takes no calls now."""


class Unauthenticated(CasemateError):
    """No token, or not the right one."""


_BY_CODE: dict[grpc.StatusCode, type[CasemateError]] = {
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.OUT_OF_RANGE: OutOfRange,
    grpc.StatusCode.UNIMPLEMENTED: Unimplemented,
    grpc.StatusCode.INTERNAL: Internal,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
}


def from_rpc(error: grpc.RpcError) -> CasemateError:
    """The exception of a failed call."""
    code = error.code() or grpc.StatusCode.UNKNOWN
    trailers = dict(error.trailing_metadata() or ())
    kind = _BY_CODE.get(code, CasemateError)
    return kind(code, error.details() or code.name, trailers.get("grpc-status-details-bin"))
