//! The only maker of gRPC statuses: one match over the domain's error, without a wildcard.

use super::trailers;
use crate::domain::file::FileFault;
use crate::error::{Error, PoolError, Violation};
use std::collections::HashMap;
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

/// Domain of every `google.rpc.ErrorInfo` of this server.
pub const DOMAIN: &str = "casemate.v1";

/// How long a caller should wait for a guest that does not read.
const STDIN_RETRY: Duration = Duration::from_millis(100);

/// The status of an error.
pub fn status(error: Error) -> Status {
    let reason = error.reason();
    let message = error.to_string();
    let mut details = ErrorDetails::new();
    let mut metadata: HashMap<String, String> = HashMap::new();
    let mut say = |key: &str, value: &dyn ToString| {
        metadata.insert(key.to_owned(), value.to_string());
    };
    let code = match &error {
        Error::InvalidArgument(violations) => {
            details.set_bad_request(fields(violations));
            Code::InvalidArgument
        }
        Error::ParametersInvalid { tool, violations } | Error::ManifestInvalid { tool, violations } => {
            say("tool", tool);
            details.set_bad_request(fields(violations));
            Code::InvalidArgument
        }
        Error::ModuleInvalid { tool, problem } => {
            say("tool", tool);
            details.set_bad_request(vec![FieldViolation::new("module", problem.as_str())]);
            Code::InvalidArgument
        }
        Error::ToolNotFound { name } => {
            details.set_resource_info("casemate.v1.Tool", name.as_str(), "", message.as_str());
            Code::NotFound
        }
        Error::InterpreterMissing { name, .. } => {
            say("interpreter", name);
            Code::FailedPrecondition
        }
        Error::ToolBroken { name, .. } => {
            details.set_resource_info("casemate.v1.Tool", name.as_str(), "", message.as_str());
            Code::FailedPrecondition
        }
        Error::ExecutionNotFound { id } => {
            details.set_resource_info("casemate.v1.Execution", id.to_string(), "", message.as_str());
            Code::NotFound
        }
        Error::ExecutionOver { id } | Error::StdinClosed { id } => {
            say("execution_id", id);
            Code::FailedPrecondition
        }
        Error::NotSupported { id, needs } => {
            say("execution_id", id);
            say("needs", needs);
            Code::FailedPrecondition
        }
        Error::RequestIdReused { request_id, .. } => {
            say("request_id", request_id);
            Code::AlreadyExists
        }
        Error::MessageTooLarge { limit, .. } => {
            say("limit", limit);
            Code::ResourceExhausted
        }
        Error::Overloaded { scope, limit, retry_after } => {
            say("scope", scope);
            say("limit", limit);
            details.set_retry_info(Some(*retry_after));
            details.set_quota_failure(vec![tonic_types::QuotaViolation::new(scope.as_str(), message.as_str())]);
            Code::ResourceExhausted
        }
        Error::SessionNotFound { id } => {
            details.set_resource_info("casemate.v1.Session", id.to_string(), "", message.as_str());
            Code::NotFound
        }
        Error::SessionClosed { id, .. } => {
            say("session_id", id);
            Code::FailedPrecondition
        }
        Error::TurnMismatch { id, turn, .. } => {
            say("session_id", id);
            say("turn", turn);
            Code::Aborted
        }
        Error::TargetMismatch { target, tool, .. } => {
            say("target", target);
            say("tool", tool);
            Code::FailedPrecondition
        }
        Error::NotStarted { id, .. } => {
            say("execution_id", id);
            Code::FailedPrecondition
        }
        Error::QuotaReached { what, limit, .. } => {
            say("limit", limit);
            details.set_quota_failure(vec![tonic_types::QuotaViolation::new(what.as_str(), message.as_str())]);
            Code::ResourceExhausted
        }
        Error::SnapshotNotFound { name } => {
            details.set_resource_info("casemate.v1.Snapshot", name.as_str(), "", message.as_str());
            Code::NotFound
        }
        Error::SnapshotExists { name } => {
            details.set_resource_info("casemate.v1.Snapshot", name.as_str(), "", message.as_str());
            Code::AlreadyExists
        }
        Error::SnapshotUnusable { name, .. } => {
            details.set_resource_info("casemate.v1.Snapshot", name.as_str(), "", message.as_str());
            Code::FailedPrecondition
        }
        Error::ContainerNotFound { name } => {
            details.set_resource_info("casemate.v1.Container", name.as_str(), "", message.as_str());
            Code::NotFound
        }
        Error::ContainerExists { name, id } => {
            say("container_id", id);
            details.set_resource_info("casemate.v1.Container", name.as_str(), "", message.as_str());
            Code::AlreadyExists
        }
        Error::ContainerNotReady { id, .. } | Error::ContainerFailed { id, .. } => {
            say("container_id", id);
            Code::FailedPrecondition
        }
        Error::PolicyDenied { field, problem } => {
            say("field", field);
            details.set_bad_request(vec![FieldViolation::new(field.as_str(), problem.as_str())]);
            Code::PermissionDenied
        }
        Error::TemplateNotFound { name, .. } => {
            details.set_resource_info("template", name.as_str(), "", message.as_str());
            Code::NotFound
        }
        Error::ImageNotFound { reference, .. } => {
            details.set_resource_info("casemate.v1.Image", reference.as_str(), "", message.as_str());
            Code::NotFound
        }
        Error::File { path, fault } => {
            say("path", path);
            match fault {
                FileFault::NotFound => Code::NotFound,
                FileFault::Exists => Code::AlreadyExists,
                FileFault::NoSpace | FileFault::TooMuch(_) => Code::ResourceExhausted,
                FileFault::Shrank { .. } | FileFault::Partly(_) => Code::Aborted,
                FileFault::Mismatch(_) => Code::DataLoss,
                FileFault::Archive(_) => Code::InvalidArgument,
                FileFault::NotPermitted
                | FileFault::ReadOnly
                | FileFault::IsDirectory
                | FileFault::NotDirectory
                | FileFault::NotEmpty
                | FileFault::NotRegular
                | FileFault::Links
                | FileFault::OtherFileSystem
                | FileFault::Other(_) => Code::FailedPrecondition,
            }
        }
        Error::OffsetOutOfRange { size, .. } => {
            say("size", size);
            Code::OutOfRange
        }
        Error::Unsupervised { id } => {
            say("container_id", id);
            Code::FailedPrecondition
        }
        Error::BackendUnavailable { .. } => {
            details.set_retry_info(Some(Duration::from_secs(1)));
            Code::Unavailable
        }
        Error::BackendFull { problem } => {
            details.set_quota_failure(vec![tonic_types::QuotaViolation::new("disk", problem.as_str())]);
            Code::ResourceExhausted
        }
        Error::Pool(error) => match error {
            PoolError::NotFound { name } => {
                details.set_resource_info("casemate.v1.Pool", name.as_str(), "", message.as_str());
                Code::NotFound
            }
            PoolError::Exists { name } => {
                details.set_resource_info("casemate.v1.Pool", name.as_str(), "", message.as_str());
                Code::AlreadyExists
            }
            PoolError::NotReady { name, .. } => {
                say("pool", name);
                Code::FailedPrecondition
            }
            PoolError::Exhausted { name, retry_after, .. } => {
                say("pool", name);
                details.set_retry_info(Some(*retry_after));
                details.set_quota_failure(vec![tonic_types::QuotaViolation::new(name.as_str(), message.as_str())]);
                Code::ResourceExhausted
            }
            PoolError::WaitTooLong { name, .. } => {
                say("pool", name);
                Code::DeadlineExceeded
            }
            PoolError::LeaseNotFound { id } => {
                details.set_resource_info("casemate.v1.Lease", id.as_str(), "", message.as_str());
                Code::NotFound
            }
            PoolError::LeaseOver { id } => {
                say("lease_id", id);
                Code::FailedPrecondition
            }
            PoolError::EtagMismatch { name, etag } => {
                say("pool", name);
                say("etag", etag);
                Code::Aborted
            }
        },
        Error::ProcessNotStarted { .. } => Code::FailedPrecondition,
        Error::StdinGap { id, expected, .. } => {
            say("execution_id", id);
            say("resume_offset", expected);
            Code::OutOfRange
        }
        Error::StdinFull { id, capacity } => {
            say("execution_id", id);
            say("capacity", capacity);
            details.set_retry_info(Some(STDIN_RETRY));
            Code::ResourceExhausted
        }
        Error::SequenceOutOfRange { id, last, .. } => {
            say("execution_id", id);
            say("last_sequence", last);
            Code::OutOfRange
        }
        Error::ToolsReadOnly { .. } => Code::FailedPrecondition,
        Error::Unauthenticated { .. } => Code::Unauthenticated,
        Error::PermissionDenied { permission, .. } => {
            say("permission", permission);
            Code::PermissionDenied
        }
        Error::ShuttingDown | Error::StoreUnavailable { .. } => {
            details.set_retry_info(Some(Duration::from_secs(1)));
            Code::Unavailable
        }
        Error::StoreDamaged { problem } => {
            tracing::error!(%problem, "the store is damaged");
            Code::DataLoss
        }
        Error::Unimplemented { feature } => {
            say("feature", feature);
            Code::Unimplemented
        }
        Error::Internal(problem) => {
            // Faults of ours are worth a line in the log wherever they are made.
            tracing::error!(%problem, "internal error");
            Code::Internal
        }
    };
    details.set_error_info(reason.name(), DOMAIN, metadata);
    let whole = Status::with_error_details(code, message, details);
    if trailers::fit(whole.message(), whole.details()) {
        return whole;
    }
    let details = whole.get_error_details();
    trailers::shorter(whole.message(), &details)
        .map(|(message, details)| Status::with_error_details(code, message, details))
        .find(|status| trailers::fit(status.message(), status.details()))
        .unwrap_or_else(|| Status::new(code, ""))
}

/// How tonic says that a message was larger than its limit. It refuses such a message before a handler
/// sees it, with a code that means something else and without a reason.
const TOO_LARGE: &[u8] = b"Error, decoded message length too large";

/// The status for a refusal that tonic made by itself, in the terms of this server; `None` for all others.
pub(super) fn refined(headers: &http::HeaderMap, path: &str, limit: usize) -> Option<Status> {
    let code = headers.get("grpc-status")?;
    let message = headers.get("grpc-message")?;
    if code.as_bytes() != b"11" || headers.contains_key("grpc-status-details-bin") {
        return None;
    }
    let plain = percent_decoded(message.as_bytes());
    plain.starts_with(TOO_LARGE).then(|| {
        let hint = match path {
            "/casemate.v1.Tools/RegisterTool" => "send the module in pieces with UploadTool",
            "/casemate.v1.Tools/UploadTool" => "send smaller chunks",
            _ => "send less, or have the operator raise the limit",
        };
        status(Error::MessageTooLarge { limit: limit as u64, hint })
    })
}

/// The beginning of a message as it was before it became a header.
fn percent_decoded(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(TOO_LARGE.len());
    let mut rest = bytes;
    while let [first, after @ ..] = rest {
        let digit = |at: usize| after.get(at).and_then(|&byte| char::from(byte).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                plain.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

fn fields(violations: &[Violation]) -> Vec<FieldViolation> {
    violations.iter().map(|v| FieldViolation::new(v.field.as_str(), v.description.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_carries_its_reason_and_details() {
        let status = status(Error::InvalidArgument(vec![Violation::new("a", "x"), Violation::new("b", "y")]));
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "INVALID_ARGUMENT");
        assert_eq!(details.error_info().unwrap().domain, DOMAIN);
        assert_eq!(details.bad_request().unwrap().field_violations.len(), 2);

        let overloaded =
            Error::Overloaded { scope: "the server".into(), limit: 3, retry_after: Duration::from_secs(2) };
        let details = super::status(overloaded).get_error_details();
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(2)));
    }
}
