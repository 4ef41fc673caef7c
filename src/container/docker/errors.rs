//! What Docker and its client say when something goes wrong, in the backend's words. The only place that does this.

use crate::container::backend::BackendError;
use bollard::errors::Error;

/// The status that Docker answered with, if it answered at all.
pub(super) fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// What Docker said; empty when it did not answer.
pub(super) fn said(error: &Error) -> &str {
    match error {
        Error::DockerResponseServerError { message, .. } => message,
        Error::DockerStreamError { error } => error,
        _ => "",
    }
}

/// Whether the daemon may have been away, or gone in the middle of its answer: asking again may help.
pub(super) fn is_away(error: &Error) -> bool {
    match error {
        Error::IOError { .. } | Error::HyperResponseError { .. } | Error::RequestTimeoutError => true,
        // The answer was cut off.
        Error::JsonSerdeError { err } => err.is_eof() || err.is_io(),
        Error::DockerResponseServerError { status_code, .. } => matches!(status_code, 502..=504),
        _ => false,
    }
}

/// Whether the daemon does not speak the version of the API that was agreed with it: it is another one by now.
pub(super) fn is_other_version(error: &Error) -> bool {
    let said = said(error);
    status(error) == Some(400)
        && said.contains("client version")
        && (said.contains("too new") || said.contains("too old"))
}

/// An error of any call but a pull.
pub(super) fn backend(error: &Error) -> BackendError {
    if is_away(error) {
        return BackendError::Unavailable(away(error));
    }
    let said = said(error);
    if is_full(said) {
        return BackendError::NoRoom(format!("Docker says: {said}; make room where it keeps its data"));
    }
    match status(error) {
        Some(404) => BackendError::NotFound(said.to_owned()),
        Some(409) => BackendError::Conflict(said.to_owned()),
        Some(400 | 401 | 403 | 405 | 501) => BackendError::Refused(refused(said)),
        // Docker answers 500 for much that asking again does not mend.
        Some(500) if REFUSED.iter().any(|part| said.contains(part)) => BackendError::Refused(refused(said)),
        Some(_) => BackendError::Failed(said.to_owned()),
        None => BackendError::Failed(error.to_string()),
    }
}

/// Parts of messages with status 500 that mean: not here, not ever.
const REFUSED: &[&str] = &[
    "--storage-opt",
    "unknown or invalid runtime name",
    "unable to find user",
    "unable to find group",
    "no matching entries in passwd file",
    "executable file not found",
    "apparmor failed to apply profile",
    "Decoding seccomp profile failed",
    "is not supported",
];

fn refused(said: &str) -> String {
    format!("Docker refuses: {said}")
}

fn away(error: &Error) -> String {
    match error {
        // The connection writes where it wanted to go and what to do.
        Error::IOError { err } => err.to_string(),
        Error::RequestTimeoutError => "no answer in time; look whether the Docker daemon is overloaded or hangs".into(),
        Error::HyperResponseError { .. } | Error::JsonSerdeError { .. } => {
            format!("the Docker daemon ended the connection before its answer was whole: {error}")
        }
        other => said(other).to_owned(),
    }
}

fn is_full(said: &str) -> bool {
    said.contains("no space left on device") || said.contains("disk quota exceeded")
}

/// An error of a pull from `registry`.
pub(super) fn pull(error: &Error, registry: &str) -> BackendError {
    let said = said(error);
    if said.is_empty() || is_full(said) || is_other_version(error) {
        return backend(error);
    }
    let lower = said.to_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    let answer = format!("{registry} answered: {said}");
    // Docker Hub says "denied" of what does not exist, and adds that it may not; Docker makes a 404 of it.
    if status(error) == Some(404)
        || has(&["manifest unknown", "name unknown", "no matching manifest", "does not exist"])
    {
        return BackendError::NotFound(answer);
    }
    if has(&["toomanyrequests", "too many requests"]) {
        return BackendError::Unavailable(format!("{answer}; wait, or give the Docker daemon a mirror"));
    }
    if matches!(status(error), Some(400 | 401 | 403))
        || has(&["unauthorized", "denied", "authentication required", "x509", "http response to https client"])
    {
        return BackendError::Refused(answer);
    }
    // A registry that is not reached is what the daemon says of it in Go's words.
    if has(UNREACHED) {
        return BackendError::Unavailable(format!(
            "the Docker daemon does not reach the registry {registry}: {said}; check its network, or load the image \
             with \"docker load\""
        ));
    }
    if has(&["not found"]) {
        return BackendError::NotFound(answer);
    }
    backend(error)
}

const UNREACHED: &[&str] = &[
    "no such host",
    "i/o timeout",
    "connection refused",
    "connection reset",
    "no route to host",
    "network is unreachable",
    "tls handshake timeout",
    "request canceled",
    "context deadline exceeded",
    "client.timeout",
    "server misbehaving",
    "temporary failure in name resolution",
    "proxyconnect",
    "bad gateway",
    "service unavailable",
    "unexpected eof",
    ": eof",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status_code: u16, message: &str) -> Error {
        Error::DockerResponseServerError { status_code, message: message.into() }
    }

    fn kind(error: &BackendError) -> &'static str {
        match error {
            BackendError::Unavailable(_) => "unavailable",
            BackendError::NotFound(_) => "not found",
            BackendError::Conflict(_) => "conflict",
            BackendError::Refused(_) => "refused",
            BackendError::NoRoom(_) => "no room",
            BackendError::Failed(_) => "failed",
        }
    }

    #[test]
    fn answers_keep_their_meaning() {
        for (status, message, expected) in [
            (404, "No such container: x", "not found"),
            (409, "is already in use by container", "conflict"),
            (400, "unknown or invalid runtime name: x", "refused"),
            (500, "--storage-opt is supported only for overlay over xfs with 'pquota' mount option", "refused"),
            (500, "mkdir /var/lib/docker/overlay2/x: no space left on device", "no room"),
            (500, "something else", "failed"),
            (503, "shutting down", "unavailable"),
        ] {
            assert_eq!(kind(&backend(&answered(status, message))), expected, "{message}");
        }
        assert_eq!(kind(&backend(&Error::RequestTimeoutError)), "unavailable");
    }

    #[test]
    fn pulls_tell_what_is_missing_from_who_is_away() {
        for (status, message, expected) in [
            (404, "manifest for x/y:1 not found: manifest unknown: manifest unknown", "not found"),
            (404, "pull access denied for x, repository does not exist or may require 'docker login'", "not found"),
            (500, "unauthorized: authentication required", "refused"),
            (500, "Get \"https://r/v2/\": dial tcp: lookup r on 1.1.1.1:53: no such host", "unavailable"),
            (500, "Get \"https://r/v2/\": net/http: request canceled while waiting for connection", "unavailable"),
            (500, "Get \"https://r/v2/\": dial tcp 127.0.0.1:1: connect: connection refused", "unavailable"),
            (500, "Get \"https://r/v2/\": x509: certificate signed by unknown authority", "refused"),
            (500, "toomanyrequests: You have reached your pull rate limit", "unavailable"),
            (500, "something else", "failed"),
        ] {
            assert_eq!(kind(&pull(&answered(status, message), "r")), expected, "{message}");
        }
        let full = Error::DockerStreamError { error: "write /x: no space left on device".into() };
        assert_eq!(kind(&pull(&full, "r")), "no room");
        let missing = pull(&answered(500, "Get \"https://r/v2/\": EOF"), "registry.example");
        assert!(missing.to_string().contains("registry.example"), "{missing}");
    }
}
