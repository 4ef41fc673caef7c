//! The one error of the domain. Data lives in the variants; `rpc::status` alone turns it into a gRPC status.

mod pool;
mod reason;

pub use pool::PoolError;
pub use reason::Reason;

use crate::domain::file::FileFault;
use crate::domain::id::{ContainerId, ExecutionId, RequestId, SessionId};
use std::time::Duration;

/// Result with the domain's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, with what a caller needs to do better.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of the request is missing or out of range.
    #[error("invalid request: {}", violations_text(.0))]
    InvalidArgument(Vec<Violation>),
    /// Parameters do not satisfy the tool's input schema.
    #[error("parameters of tool {tool:?} are not valid: {}", violations_text(.violations))]
    ParametersInvalid {
        /// The tool.
        tool: String,
        /// One per problem.
        violations: Vec<Violation>,
    },
    /// A manifest that cannot be used.
    #[error("manifest of tool {tool:?} is not valid: {}", violations_text(.violations))]
    ManifestInvalid {
        /// The tool.
        tool: String,
        /// One per problem.
        violations: Vec<Violation>,
    },
    /// A module that cannot be compiled or does not fit the tool protocol.
    #[error("module of tool {tool:?} was refused: {problem}")]
    ModuleInvalid {
        /// The tool.
        tool: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// No such tool.
    #[error("there is no tool {name:?}; ListTools shows what there is")]
    ToolNotFound {
        /// The name asked for.
        name: String,
    },
    /// The tool exists but cannot run.
    #[error("tool {name:?} cannot run: {problem}")]
    ToolBroken {
        /// The tool.
        name: String,
        /// Why.
        problem: String,
    },
    /// An interpreter is not there, or what is there cannot be used.
    #[error(
        "interpreter {name:?} cannot be used: {problem}; run `casemate interpreters install` and restart the server"
    )]
    InterpreterMissing {
        /// The interpreter, which is also the name of its tool.
        name: String,
        /// Why.
        problem: String,
    },
    /// The tools directory cannot be written.
    #[error("the tools directory cannot be written: {problem}")]
    ToolsReadOnly {
        /// Why.
        problem: String,
    },
    /// No such execution, or its retention has passed.
    #[error("there is no execution {id}: it never existed or its retention has passed")]
    ExecutionNotFound {
        /// The id asked for.
        id: ExecutionId,
    },
    /// The execution is over, and what was asked needs a live one.
    #[error("execution {id} is over")]
    ExecutionOver {
        /// The execution.
        id: ExecutionId,
    },
    /// What was asked needs a process, or a terminal, and the execution has none.
    #[error("execution {id} has no {needs}")]
    NotSupported {
        /// The execution.
        id: ExecutionId,
        /// What it lacks: "process" or "terminal".
        needs: &'static str,
    },
    /// The request id was used before for something else.
    #[error("request_id {request_id} was used before for {first}; use a fresh UUID for a new call")]
    RequestIdReused {
        /// The request id.
        request_id: RequestId,
        /// What it was used for first.
        first: String,
    },
    /// A message is larger than this server takes.
    #[error("the message is larger than the {limit} bytes this server takes (server.max_message); {hint}")]
    MessageTooLarge {
        /// The limit.
        limit: u64,
        /// What to do instead.
        hint: &'static str,
    },
    /// All slots are taken and the queue is full.
    #[error("{scope} is at its limit of {limit} and its queue is full; try again in {}", humantime::format_duration(*.retry_after))]
    Overloaded {
        /// What is full: "the server" or "tool NAME".
        scope: String,
        /// Running plus queued.
        limit: u64,
        /// When a retry makes sense.
        retry_after: Duration,
    },
    /// No such session, or it belongs to somebody else, or its retention has passed.
    #[error("there is no session {id}: it never existed, belongs to somebody else, or was closed a while ago")]
    SessionNotFound {
        /// The id asked for.
        id: SessionId,
    },
    /// The session is closed.
    #[error("session {id} is closed: {message}")]
    SessionClosed {
        /// The session.
        id: SessionId,
        /// How that came, and what to do.
        message: String,
    },
    /// The session is at another turn than the caller expects.
    #[error(
        "session {id} is at turn {turn}, not at {expected}; nothing ran. Look at its state, then call with expected_turn {turn} or without"
    )]
    TurnMismatch {
        /// The session.
        id: SessionId,
        /// The turn the caller expects.
        expected: u64,
        /// The turn it is at.
        turn: u64,
    },
    /// The target cannot run the tool.
    #[error("{target} cannot run tool {tool:?}: {problem}")]
    TargetMismatch {
        /// The target, such as "session ID".
        target: String,
        /// The tool.
        tool: String,
        /// Why, and what to do.
        problem: String,
    },
    /// An execution never began, for a reason that an earlier answer told.
    #[error("execution {id} never began: {message}")]
    NotStarted {
        /// The execution.
        id: ExecutionId,
        /// Why.
        message: String,
    },
    /// A bound on how much there may be is reached, and waiting alone does not help.
    #[error("{what}: at most {limit}; {todo}")]
    QuotaReached {
        /// What there is too much of.
        what: String,
        /// The bound.
        limit: String,
        /// What to do.
        todo: &'static str,
    },
    /// No such snapshot.
    #[error("there is no snapshot {name:?}; ListSnapshots shows what there is")]
    SnapshotNotFound {
        /// The id or name asked for.
        name: String,
    },
    /// The name is taken.
    #[error("there is a snapshot {name:?} already; choose another name, or delete that one")]
    SnapshotExists {
        /// The name.
        name: String,
    },
    /// The snapshot cannot be used, or not deleted, as asked.
    #[error("snapshot {name:?} {problem}")]
    SnapshotUnusable {
        /// The snapshot.
        name: String,
        /// Why and what to do; continues the sentence.
        problem: String,
    },
    /// No such container, or it belongs to somebody else, or its retention has passed.
    #[error("there is no container {name:?}: it never existed, belongs to somebody else, or ended a while ago")]
    ContainerNotFound {
        /// The id or name asked for.
        name: String,
    },
    /// The name is taken.
    #[error("there is a container {name:?} already ({id}); choose another name, or stop that one")]
    ContainerExists {
        /// The name.
        name: String,
        /// The container that has it.
        id: ContainerId,
    },
    /// The container is not in a state for what was asked.
    #[error("container {id} {problem}")]
    ContainerNotReady {
        /// The container.
        id: ContainerId,
        /// How it stands and what to do; continues the sentence.
        problem: String,
    },
    /// The container could not be made or started.
    #[error("container {id} could not be started: {problem}")]
    ContainerFailed {
        /// The container.
        id: ContainerId,
        /// Why, and what to do.
        problem: String,
    },
    /// The operator's policy does not allow it.
    #[error("{field} is not allowed here: {problem}")]
    PolicyDenied {
        /// The field.
        field: String,
        /// What is allowed, and what the operator can do.
        problem: String,
    },
    /// No such template.
    #[error("there is no template {name:?}; {known}")]
    TemplateNotFound {
        /// The name asked for.
        name: String,
        /// Which there are, in words.
        known: String,
    },
    /// No such image.
    #[error("there is no image {reference:?}: {problem}")]
    ImageNotFound {
        /// The reference.
        reference: String,
        /// Who says so, and what to do.
        problem: String,
    },
    /// Whatever runs containers does not answer.
    #[error("containers are not available: {problem}")]
    BackendUnavailable {
        /// Why and what to do.
        problem: String,
    },
    /// There is no room where containers are kept.
    #[error("there is no room for containers: {problem}")]
    BackendFull {
        /// Who says so, and what to do.
        problem: String,
    },
    /// A pool or a lease.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// A process could not be started.
    #[error("the process was not started: {problem}")]
    ProcessNotStarted {
        /// Why, and what to do.
        problem: String,
    },
    /// A write to standard input leaves a gap.
    #[error(
        "standard input of execution {id} stands at offset {expected}, the write begins at {offset}; resume from {expected}"
    )]
    StdinGap {
        /// The execution.
        id: ExecutionId,
        /// The offset the write carried.
        offset: u64,
        /// Where to resume.
        expected: u64,
    },
    /// Standard input is closed.
    #[error("standard input of execution {id} is closed")]
    StdinClosed {
        /// The execution.
        id: ExecutionId,
    },
    /// The guest does not read and the buffer is full.
    #[error("standard input of execution {id} is full: {capacity} bytes wait for the guest to read them")]
    StdinFull {
        /// The execution.
        id: ExecutionId,
        /// Size of the buffer.
        capacity: u64,
    },
    /// A sequence beyond the end of a finished journal.
    #[error("the journal of execution {id} ends at sequence {last}; {from} is beyond it")]
    SequenceOutOfRange {
        /// The execution.
        id: ExecutionId,
        /// The sequence asked for.
        from: u64,
        /// The last one there is.
        last: u64,
    },
    /// No or wrong credentials.
    #[error("not authenticated: {problem}")]
    Unauthenticated {
        /// What is missing or wrong.
        problem: &'static str,
    },
    /// The principal may not do this.
    #[error("{principal} may not call {method}: it needs {permission}")]
    PermissionDenied {
        /// Who.
        principal: String,
        /// What.
        method: String,
        /// What is missing.
        permission: &'static str,
    },
    /// Something was not done with a path in a container.
    #[error("{path}: {fault}")]
    File {
        /// The path, absolute.
        path: String,
        /// Why not.
        fault: FileFault,
    },
    /// An offset beyond the end of a file.
    #[error("offset {offset} is beyond the end of the file, which has {size} bytes")]
    OffsetOutOfRange {
        /// Asked for.
        offset: u64,
        /// What there is.
        size: u64,
    },
    /// A container without a supervisor cannot do this.
    #[error(
        "container {id} has no supervisor, which files, archives, watches, ports and the workspace of a snapshot need; its control.reason says why"
    )]
    Unsupervised {
        /// The container.
        id: ContainerId,
    },
    /// The server is going down.
    #[error("the server is shutting down and takes no new work; try again, on another server or later")]
    ShuttingDown,
    /// The store cannot take or give what is needed.
    #[error("the store is not available: {problem}")]
    StoreUnavailable {
        /// Why and what to do.
        problem: String,
    },
    /// What the store gave is not what was written to it.
    #[error("the store is damaged: {problem}")]
    StoreDamaged {
        /// Where, and what to do.
        problem: String,
    },
    /// A part of the contract this build does not have.
    #[error("{feature} is not part of this build")]
    Unimplemented {
        /// The feature.
        feature: &'static str,
    },
    /// A fault of the server.
    #[error("internal error: {0}")]
    Internal(String),
}

/// One problem of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field: a path such as `call.tool`, or a JSON pointer below one, such as `call.parameters/items/0`.
    pub field: String,
    /// What was expected.
    pub description: String,
}

impl Violation {
    /// A problem of a field.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Violation { field: field.into(), description: description.into() }
    }
}

impl Error {
    /// One invalid field.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Error::InvalidArgument(vec![Violation::new(field, description)])
    }
}

fn violations_text(violations: &[Violation]) -> String {
    const SHOWN: usize = 3;
    let mut text =
        violations.iter().take(SHOWN).map(|v| format!("{}: {}", v.field, v.description)).collect::<Vec<_>>().join("; ");
    if violations.len() > SHOWN {
        text.push_str(&format!("; and {} more", violations.len() - SHOWN));
    }
    text
}
