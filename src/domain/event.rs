//! The events of an execution's journal.

use super::execution::{ExecutionState, Outcome};
use super::output::{ChildEvent, FileChunk, RichOutput, Stage};
use super::time::Timestamp;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One numbered event. Cheap to clone: data is shared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Position in the journal, from 1, without gaps (see [`EventKind::Truncated`]).
    pub sequence: u64,
    /// When it happened.
    pub time: Timestamp,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// The guest produced something to look at.
    RichOutput(Arc<RichOutput>),
    /// The guest's code called another tool, or such a call ended.
    Child(Arc<ChildEvent>),
    /// A piece of a file that the run left; after all output, before the end.
    FileChunk(Arc<FileChunk>),
    /// A stage begins.
    Stage(Stage),
}

/// The output streams of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Importance of a guest's log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done.
    pub message: String,
    /// Done so far.
    pub current: f64,
    /// What `current` reaches at the end; 0 when unknown.
    pub total: f64,
    /// Structured detail, as JSON text.
    pub detail: Option<String>,
}

/// A gap: events that were dropped, or that a reader missed. The event that carries it has the
/// sequence of the last one it stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truncated {
    /// Sequence of the first event in the gap.
    pub first_sequence: u64,
    /// Offset at which standard output goes on after the gap.
    pub stdout_offset: u64,
    /// Offset at which standard error goes on after the gap.
    pub stderr_offset: u64,
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
                    progress.message.len() as u64 + progress.detail.as_ref().map_or(0, |detail| detail.len() as u64)
                }
                EventKind::RichOutput(output) => output.weight(),
                EventKind::Child(child) => (child.tool.len() + child.message.len()) as u64,
                EventKind::FileChunk(chunk) => (chunk.path.len() + chunk.data.len()) as u64,
                EventKind::Started { .. }
                | EventKind::Truncated(_)
                | EventKind::Finished { .. }
                | EventKind::Stage(_) => 0,
            }
    }
}
