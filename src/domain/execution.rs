//! Executions: what runs, how it stands, how it ended.

use super::id::{ExecutionId, RequestId, SessionId};
use super::interruption::Interruption;
use super::limits::Limits;
use super::output::{ExceptionInfo, OutputFile, StageResult};
use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Where an execution stands. Every state after `Running` is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExecutionState {
    /// Accepted, waiting for a slot.
    Queued,
    /// The guest runs.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended by exit code, signal, trap, limit or invalid output.
    Failed,
    /// Ended by its wall-time limit.
    TimedOut,
    /// Ended by somebody's wish.
    Cancelled,
    /// The server died while it ran.
    Lost,
}

impl ExecutionState {
    /// All states, in order.
    pub const ALL: [ExecutionState; 7] =
        [Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::TimedOut, Self::Cancelled, Self::Lost];

    /// Whether the execution is over.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    /// Lower-case name, as in the store and in metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
        }
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// Why an execution ended, with what belongs to each reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Exit {
    /// The program returned or exited.
    Exited {
        /// Exit code, 0 to 255.
        code: i32,
    },
    /// A signal ended the process.
    Signaled {
        /// Name of the signal, such as `SIGKILL`.
        signal: String,
    },
    /// The guest trapped.
    Trapped(Trap),
    /// The guest did not survive its memory limit.
    OutOfMemory,
    /// The guest used up its fuel.
    OutOfFuel,
    /// The guest recursed too deep.
    StackOverflow,
    /// The wall-time limit passed.
    TimedOut,
    /// Somebody cancelled it.
    Cancelled,
    /// The server shut down.
    ServerShutdown,
    /// The server was killed.
    ServerLost,
    /// The guest ended well with output that its schema refuses.
    OutputInvalid {
        /// Exit code of the guest.
        code: i32,
        /// What is wrong with the output.
        violations: Vec<OutputViolation>,
    },
    /// A fault of the server.
    Internal,
    /// The container stopped under the process.
    ContainerStopped,
    /// It never began: what it needed was gone or not as expected when its turn came.
    NotStarted,
}

impl Exit {
    /// The final state that follows from the reason.
    pub fn state(&self) -> ExecutionState {
        match self {
            Exit::Exited { code: 0 } => ExecutionState::Succeeded,
            Exit::TimedOut => ExecutionState::TimedOut,
            Exit::Cancelled | Exit::ServerShutdown => ExecutionState::Cancelled,
            Exit::ServerLost => ExecutionState::Lost,
            Exit::Exited { .. }
            | Exit::Signaled { .. }
            | Exit::Trapped(_)
            | Exit::OutOfMemory
            | Exit::OutOfFuel
            | Exit::StackOverflow
            | Exit::OutputInvalid { .. }
            | Exit::Internal
            | Exit::ContainerStopped
            | Exit::NotStarted => ExecutionState::Failed,
        }
    }
}

/// A WASM trap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trap {
    /// Stable short name, such as `unreachable`.
    pub code: String,
    /// The trap in words.
    pub message: String,
    /// Guest frames, innermost first.
    pub backtrace: Vec<String>,
}

/// One way in which output misses its schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputViolation {
    /// JSON pointer into the output.
    pub pointer: String,
    /// What was expected.
    pub description: String,
}

/// How an execution ended. Set once, never changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Why.
    pub exit: Exit,
    /// One sentence for people; empty for a plain success.
    pub message: String,
    /// What it consumed.
    pub usage: Usage,
    /// The exception that ended the program.
    pub exception: Option<ExceptionInfo>,
    /// The files that it made or changed, by path.
    pub files: Vec<OutputFile>,
    /// Files beyond those in `files`.
    pub unlisted_files: u64,
    /// Its stages, in order, the last one being where it ended; none for a run without stages.
    pub stages: Vec<StageResult>,
    /// Where its session goes on, when the session's live state was lost with it.
    pub session_interruption: Option<Interruption>,
}

impl Outcome {
    /// An end with nothing to tell but why, and what it consumed.
    pub fn new(exit: Exit, message: impl Into<String>, usage: Usage) -> Outcome {
        Outcome {
            exit,
            message: message.into(),
            usage,
            exception: None,
            files: Vec::new(),
            unlisted_files: 0,
            stages: Vec::new(),
            session_interruption: None,
        }
    }
}

/// What an execution consumed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// From acceptance to the start of the guest.
    pub queue_time: Duration,
    /// From the start of the guest to its end.
    pub run_time: Duration,
    /// Highest memory in bytes.
    pub peak_memory_bytes: u64,
    /// Fuel consumed; 0 when not metered.
    pub fuel: u64,
    /// Host calls, refused ones included.
    pub host_calls: u64,
    /// Bytes written to standard output.
    pub stdout_bytes: u64,
    /// Bytes written to standard error.
    pub stderr_bytes: u64,
    /// Bytes of output and logs not kept for replay.
    pub dropped_bytes: u64,
    /// Whether any output was dropped.
    pub truncated: bool,
    /// Calls of other tools by its code, refused ones included.
    pub child_executions: u64,
    /// Highest size of the scratch directory in bytes.
    pub scratch_bytes: u64,
}

/// What is being run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subject {
    /// A tool.
    Tool {
        /// Name.
        name: Arc<str>,
        /// Version from the manifest.
        version: Arc<str>,
        /// SHA-256 of the module, hex.
        digest: Arc<str>,
    },
    /// A process in a container.
    Process {
        /// The container.
        container: Arc<str>,
        /// Program and arguments.
        command: Vec<String>,
        /// Whether it has a terminal.
        tty: bool,
    },
}

/// What is known of an execution from the moment it is accepted; never changes after.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Origin {
    /// Its id.
    pub id: ExecutionId,
    /// What it runs.
    pub subject: Subject,
    /// Who started it.
    pub principal: Arc<str>,
    /// The caller's request id.
    pub request_id: Option<RequestId>,
    /// The caller's labels.
    pub labels: BTreeMap<String, String>,
    /// The limits in force.
    pub limits: Limits,
    /// When it was accepted.
    pub created: Timestamp,
    /// The session it runs in.
    pub session: Option<SessionId>,
    /// The execution whose code called this tool.
    pub parent: Option<ExecutionId>,
    /// The session, container, pool or snapshot it runs in, in words; empty for a fresh isolate.
    pub target: Arc<str>,
}

/// An execution as it stands at one moment.
#[derive(Clone, Debug)]
pub struct Execution {
    /// What was known from the start.
    pub origin: Arc<Origin>,
    /// Where it stands.
    pub state: ExecutionState,
    /// When the guest began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Sequence of the newest event.
    pub last_sequence: u64,
    /// Bytes of standard input accepted.
    pub stdin_offset: u64,
    /// Which turn of its session it is, from 1; 0 outside sessions and before it begins to run.
    pub session_turn: u64,
    /// How it ended.
    pub outcome: Option<Arc<Outcome>>,
}
