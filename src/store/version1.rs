//! What version 1 of the blobs held: read, never written. Its types are those of the domain as they were then.

use crate::domain::event::{Event, EventKind, LogLevel, OutputStream, Progress, Truncated};
use crate::domain::execution::{ExecutionState, Exit, Outcome, Subject, Usage};
use crate::domain::limits::Limits;
use crate::domain::time::Timestamp;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// What of a record is not in columns.
#[derive(Deserialize)]
pub(super) struct Detail {
    pub(super) subject: Subject,
    pub(super) limits: OldLimits,
    pub(super) outcome: Option<OldOutcome>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
pub(super) struct OldLimits {
    wall_time: Duration,
    memory_bytes: u64,
    table_elements: u64,
    stack_bytes: u64,
    output_bytes: u64,
    host_calls: u64,
    fuel: Option<u64>,
}

impl From<OldLimits> for Limits {
    fn from(old: OldLimits) -> Self {
        let OldLimits { wall_time, memory_bytes, table_elements, stack_bytes, output_bytes, host_calls, fuel } = old;
        Limits {
            wall_time,
            memory_bytes,
            table_elements,
            stack_bytes,
            output_bytes,
            host_calls,
            fuel,
            // Then a run had no scratch directory, and its code could call no tools.
            scratch_bytes: 0,
            child_executions: 0,
            child_depth: 0,
        }
    }
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
pub(super) struct OldOutcome {
    exit: Exit,
    message: String,
    usage: OldUsage,
}

impl From<OldOutcome> for Outcome {
    fn from(old: OldOutcome) -> Self {
        Outcome::new(old.exit, old.message, old.usage.into())
    }
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
struct OldUsage {
    queue_time: Duration,
    run_time: Duration,
    peak_memory_bytes: u64,
    fuel: u64,
    host_calls: u64,
    stdout_bytes: u64,
    stderr_bytes: u64,
    dropped_bytes: u64,
    truncated: bool,
}

impl From<OldUsage> for Usage {
    fn from(old: OldUsage) -> Self {
        Usage {
            queue_time: old.queue_time,
            run_time: old.run_time,
            peak_memory_bytes: old.peak_memory_bytes,
            fuel: old.fuel,
            host_calls: old.host_calls,
            stdout_bytes: old.stdout_bytes,
            stderr_bytes: old.stderr_bytes,
            dropped_bytes: old.dropped_bytes,
            truncated: old.truncated,
            ..Usage::default()
        }
    }
}

/// An event of a journal.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
pub(super) struct OldEvent {
    sequence: u64,
    time: Timestamp,
    kind: OldKind,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
enum OldKind {
    Started { pid: i32 },
    Output { stream: OutputStream, offset: u64, data: bytes::Bytes },
    Log { level: LogLevel, message: Arc<str> },
    Progress(Arc<Progress>),
    Truncated(Truncated),
    Finished { state: ExecutionState, outcome: OldOutcome },
}

impl From<OldEvent> for Event {
    fn from(OldEvent { sequence, time, kind }: OldEvent) -> Self {
        let kind = match kind {
            OldKind::Started { pid } => EventKind::Started { pid },
            OldKind::Output { stream, offset, data } => EventKind::Output { stream, offset, data },
            OldKind::Log { level, message } => EventKind::Log { level, message },
            OldKind::Progress(progress) => EventKind::Progress(progress),
            OldKind::Truncated(gap) => EventKind::Truncated(gap),
            OldKind::Finished { state, outcome } => EventKind::Finished { state, outcome: Arc::new(outcome.into()) },
        };
        Event { sequence, time, kind }
    }
}
