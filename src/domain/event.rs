//! The events of an execution's journal.

use super::execution::{ExecutionState, Outcome};
use super::time::Timestamp;
use bytes::Bytes;
use std::sync::Arc;

/// One numbered event. Cheap to clone: data is shared.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Position in the journal, from 1, without gaps (see [`EventKind::Truncated`]).
    pub sequence: u64,
    /// When it happened.
    pub time: Timestamp,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum EventKind {
    /// The guest began to run; the process id is 0 for WASM.
    Started {
        /// Process id inside the container.
        pid: i32,
    },
    /// The guest wrote bytes.
    Output {
        /// To which stream.
        stream: OutputStream,
        /// Offset of the first byte in that stream.
        offset: u64,
        /// The bytes.
        data: Bytes,
    },
    /// The guest sent a log line.
    Log {
        /// How important.
        level: LogLevel,
        /// The line.
        message: Arc<str>,
    },
    /// The guest told its progress.
    Progress(Arc<Progress>),
    /// Stands for the events `first_sequence..=sequence`, which are gone.
    Truncated(Truncated),
    /// The end; always last, exactly once.
    Finished {
        /// The final state.
        state: ExecutionState,
        /// The result.
        outcome: Arc<Outcome>,
    },
}

/// The output streams of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Importance of a guest's log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// The finest detail.
    Trace,
    /// Detail for debugging.
    Debug,
    /// Ordinary news.
    Info,
    /// Something odd.
    Warn,
    /// Something failed.
    Error,
}

/// Progress of a long run.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// What is being done.
    pub message: String,
    /// Done so far.
    pub current: f64,
    /// What `current` reaches at the end; 0 when unknown.
    pub total: f64,
    /// Structured detail.
    pub detail: Option<serde_json::Value>,
}

/// What a run of dropped events held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Truncated {
    /// Sequence of the first event dropped.
    pub first_sequence: u64,
    /// Bytes of standard output among them.
    pub stdout_bytes: u64,
    /// Bytes of standard error among them.
    pub stderr_bytes: u64,
    /// Log and progress events among them.
    pub other_events: u64,
}

impl EventKind {
    /// What the event counts against the kept-output limit: its payload plus what keeping it costs, so
    /// that a flood of tiny events is bounded as well.
    pub fn weight(&self) -> u64 {
        const OVERHEAD: u64 = 64;
        OVERHEAD
            + match self {
                EventKind::Output { data, .. } => data.len() as u64,
                EventKind::Log { message, .. } => message.len() as u64,
                EventKind::Progress(progress) => {
                    progress.message.len() as u64 + progress.detail.as_ref().map_or(0, |d| d.to_string().len() as u64)
                }
                EventKind::Started { .. } | EventKind::Truncated(_) | EventKind::Finished { .. } => 0,
            }
    }
}
