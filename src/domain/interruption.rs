//! The loss of a session's live state that the session survived.

use super::id::ExecutionId;
use super::time::Timestamp;
use serde::{Deserialize, Serialize};

/// What was lost, and where the session goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interruption {
    /// Why.
    pub reason: InterruptionReason,
    /// When.
    pub time: Timestamp,
    /// The execution that ended with it or was cut off; `None` when none was running.
    pub execution: Option<ExecutionId>,
    /// The last turn completed before the loss.
    pub last_turn: u64,
    /// The turn the session goes on from; turns between it and `last_turn` are undone.
    pub resumed_turn: u64,
}

/// Why live state was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InterruptionReason {
    /// A call passed its wall time.
    TimedOut,
    /// A call was cancelled while it ran.
    Cancelled,
    /// The interpreter trapped or crashed.
    Trapped,
    /// The interpreter did not survive its memory limit.
    OutOfMemory,
    /// The server was killed.
    ServerLost,
}
