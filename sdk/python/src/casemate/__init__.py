"""Client of Casemate: sandboxed execution for AI agents."""

from .client import Client
from .container import Completed, Container, Containers
from .errors import (
    AlreadyExists,
    Cancelled,
    CasemateError,
    DeadlineExceeded,
    FailedPrecondition,
    FieldViolation,
    Internal,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from .left import File, RichOutput
from .result import ExecutionFailed, Result
from .session import Session
from .settings import Settings

__all__ = [
    "AlreadyExists",
    "Cancelled",
    "CasemateError",
    "Client",
    "Completed",
    "Container",
    "Containers",
    "DeadlineExceeded",
    "ExecutionFailed",
    "FailedPrecondition",
    "FieldViolation",
    "File",
    "Internal",
    "InvalidArgument",
    "NotFound",
    "OutOfRange",
    "PermissionDenied",
    "ResourceExhausted",
    "Result",
    "RichOutput",
    "Session",
    "Settings",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
]
