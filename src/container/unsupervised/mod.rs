//! Containers in which no supervisor runs: processes by the backend's own means, which are slower and lose more.
//!
//! The main process is the first one of the sandbox, and what it writes is followed from before its start. All others
//! carry a mark in their environment, which their children inherit: that is how a whole tree is found again to be ended.

mod launch;
mod minder;
mod sweep;

pub(super) use sweep::{send, sweep_all};

use crate::domain::id::ExecutionId;
use std::time::Duration;

/// What is lost without a supervisor, for people.
pub(super) const LOST: &str = "processes are started by the backend itself, which is slower; all but the main process \
     end with the server, and what is written while there is none is lost; a signal that ended a process reads as an exit \
     with 128 and its number, and a program that is not there as one with 127; where the image has no shell, ending a \
     process ends its container";

/// The variable that marks what runs in an execution.
const MARK: &str = "CASEMATE_EXECUTION";
/// What idles as the first process, in an image that has none.
const IDLE: [&str; 3] = ["/bin/sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done"];
/// First and last time between two looks at a process that says nothing.
const LOOKS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// What runs as the first process of a sandbox without supervisor.
pub(super) fn first_process(main: &[String]) -> Vec<String> {
    match main.is_empty() {
        true => IDLE.map(str::to_owned).to_vec(),
        false => main.to_vec(),
    }
}

/// The environment of an execution, with its mark.
pub(super) fn marked(mut environment: Vec<String>, id: ExecutionId) -> Vec<String> {
    environment.push(format!("{MARK}={id}"));
    environment
}

/// What is needed to act upon a process that the backend runs.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    /// Its id at the backend; none for the first process of the sandbox.
    pub(super) process: Option<String>,
    /// Its user; empty for the sandbox's.
    pub(super) user: String,
}
