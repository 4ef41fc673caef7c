//! Errors as people meet them: what failed, why, what to do; and the exit code for programs.

use crate::config::ConfigError;
use std::process::ExitCode;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Refused or failed.
pub const FAILED: u8 = 1;
/// Wrong usage, or a configuration that cannot be used.
pub const USAGE: u8 = 2;
/// Out of reach, or overloaded.
pub const UNAVAILABLE: u8 = 3;
/// Not authenticated, or not allowed.
pub const DENIED: u8 = 4;
/// No such thing.
pub const NOT_FOUND: u8 = 5;
/// `run` itself failed; 1 would look like the guest's own code.
const RUN_FAILED: u8 = 125;
/// 128 and SIGPIPE: whoever read the output has gone.
const PIPE_CLOSED: u8 = 141;

/// Why a verb did not do its work.
#[derive(Debug)]
pub struct Failure {
    what: String,
    why: Vec<String>,
    todo: String,
    code: u8,
}

impl Failure {
    /// A failure with everything said.
    pub fn new(code: u8, what: impl Into<String>, why: impl Into<String>, todo: impl Into<String>) -> Self {
        let why: String = why.into();
        Failure { what: what.into(), why: why.lines().map(str::to_owned).collect(), todo: todo.into(), code }
    }

    /// Something on this machine failed.
    pub fn local(what: impl Into<String>, error: impl std::fmt::Display) -> Self {
        Failure::new(FAILED, what, error.to_string(), "mend what is named above and try again")
    }

    /// Standard output could not be written.
    pub fn output(error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            // `casemate ... | head` is no failure worth a word.
            return Failure { what: String::new(), why: Vec::new(), todo: String::new(), code: PIPE_CLOSED };
        }
        Failure::local("standard output could not be written", error)
    }

    /// The server answered a call with an error.
    pub fn answer(what: impl Into<String>, status: &Status) -> Self {
        let details = status.get_error_details();
        let mut why = vec![match details.error_info() {
            Some(info) => format!("{} ({})", status.message(), info.reason),
            None => format!("{} ({:?})", status.message(), status.code()),
        }];
        if let Some(request) = details.bad_request()
            // One violation is in the message already.
            && request.field_violations.len() > 1
        {
            why.extend(request.field_violations.iter().map(|v| format!("{}: {}", v.field, v.description)));
        }
        let retry = details.retry_info().and_then(|info| info.retry_delay);
        let (code, todo) = match status.code() {
            Code::Unauthenticated => (
                DENIED,
                "give the server's token with CASEMATE_TOKEN, with --config naming its file, or with --token".into(),
            ),
            // No token helps: the server's configuration says so.
            Code::PermissionDenied if details.error_info().is_some_and(|info| info.reason == "POLICY_DENIED") => {
                (DENIED, "do without it, or have the operator allow it: [containers] in the server's configuration".into())
            }
            Code::PermissionDenied => (DENIED, "use a token that may do this".into()),
            Code::NotFound => (
                NOT_FOUND,
                "`casemate tools list`, `executions list`, `sessions list`, `snapshots list` and `containers list` show what there is"
                    .into(),
            ),
            Code::InvalidArgument | Code::OutOfRange => {
                (FAILED, "correct the fields named above; `casemate tools get NAME` shows what a tool takes".into())
            }
            Code::ResourceExhausted | Code::Unavailable => match retry {
                Some(delay) => (UNAVAILABLE, format!("try again in {}", humantime::format_duration(delay))),
                None => (UNAVAILABLE, "try again; `casemate health` tells how the server stands".into()),
            },
            Code::DeadlineExceeded => (FAILED, "ask for more time, or look at the server's load".into()),
            Code::Unimplemented => {
                (FAILED, "use a server that has this feature; `casemate --version` tells the client's version".into())
            }
            Code::Internal | Code::Unknown | Code::DataLoss => {
                (FAILED, "look at the server's log; if it explains nothing, report it with these lines".into())
            }
            _ => (FAILED, "mend what is named above and try again".into()),
        };
        Failure { what: what.into(), why, todo, code }
    }

    /// The same failure with one more reason.
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.why.push(reason.into());
        self
    }

    /// The same failure with another advice.
    pub fn instead(mut self, todo: impl Into<String>) -> Self {
        self.todo = todo.into();
        self
    }

    /// The same failure, of a verb whose exit code 1 belongs to the guest.
    pub fn of_a_run(mut self) -> Self {
        if self.code == FAILED {
            self.code = RUN_FAILED;
        }
        self
    }

    /// The same failure, of a probe: whoever probes knows good and bad, and nothing else.
    pub fn of_a_probe(mut self) -> Self {
        self.code = FAILED;
        self
    }

    /// Prints the failure to standard error and gives its exit code.
    pub fn report(self) -> ExitCode {
        if !self.what.is_empty() {
            eprint!("{}", self.text());
        }
        ExitCode::from(self.code)
    }

    fn text(&self) -> String {
        let why = if self.why.is_empty() { "no reason was given".to_owned() } else { self.why.join("\n       ") };
        format!("error: {}\n  why: {why}\nto do: {}\n", self.what, self.todo)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::new(
            USAGE,
            "the configuration cannot be used",
            error.to_string(),
            "mend the keys named above; docs/configuration.md describes each, and `casemate config` shows what is in force",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tonic_types::{ErrorDetails, FieldViolation};

    #[test]
    fn an_answer_tells_reason_violations_and_what_to_do() {
        let mut details = ErrorDetails::new();
        details.set_error_info("PARAMETERS_INVALID", "casemate.v1", std::collections::HashMap::new());
        details.set_bad_request(vec![FieldViolation::new("a", "is missing"), FieldViolation::new("b", "is no number")]);
        let status = Status::with_error_details(Code::InvalidArgument, "parameters are not valid", details);
        let text = Failure::answer("tool \"x\" did not run", &status).text();
        assert_eq!(
            text,
            "error: tool \"x\" did not run\n  why: parameters are not valid (PARAMETERS_INVALID)\n       a: is missing\n       \
             b: is no number\nto do: correct the fields named above; `casemate tools get NAME` shows what a tool takes\n"
        );
    }

    #[test]
    fn an_overloaded_server_says_when_to_come_back() {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(1500)));
        let failure = Failure::answer("x", &Status::with_error_details(Code::ResourceExhausted, "full", details));
        assert_eq!(failure.code, UNAVAILABLE);
        assert!(failure.text().contains("try again in 1s 500ms"));
    }
}
