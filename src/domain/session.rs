//! Sessions: what keeps state between calls, how it stands, how it was interrupted, how it ended.

use super::id::{ContainerId, ExecutionId, RequestId, SessionId, SnapshotId};
use super::interruption::{Interruption, InterruptionReason};
use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionState {
    /// Its kernel is being started.
    Starting,
    /// In memory, waiting for a call.
    Ready,
    /// A call runs in it.
    Busy,
    /// Not in memory: the next call brings it back.
    Suspended,
    /// Over.
    Closed,
}

/// When a session's state is made durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Never.
    None,
    /// When it has been idle for a while, and when the server shuts down in order.
    Idle,
    /// After each turn.
    #[default]
    Turn,
}

/// The limits in force for one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionLimits {
    /// Longest life from creation.
    pub time_to_live: Duration,
    /// Longest time without a call.
    pub idle_timeout: Duration,
    /// Memory beyond the image it started from, in bytes.
    pub memory_bytes: u64,
    /// Files it may keep, in bytes.
    pub scratch_bytes: u64,
    /// Calls that may wait for their turn.
    pub queue_length: u32,
    /// Wall-clock time of a call that asks for none.
    pub turn_wall_time: Duration,
}

/// Limits somebody asks for; `None` takes the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionLimitsRequest {
    /// See [`SessionLimits::time_to_live`].
    pub time_to_live: Option<Duration>,
    /// See [`SessionLimits::idle_timeout`].
    pub idle_timeout: Option<Duration>,
    /// See [`SessionLimits::memory_bytes`].
    pub memory_bytes: Option<u64>,
    /// See [`SessionLimits::scratch_bytes`].
    pub scratch_bytes: Option<u64>,
    /// See [`SessionLimits::queue_length`].
    pub queue_length: Option<u32>,
    /// See [`SessionLimits::turn_wall_time`].
    pub turn_wall_time: Option<Duration>,
}

impl SessionLimits {
    /// These limits where `asked` has none, never above `caps`.
    pub fn resolve(&self, asked: &SessionLimitsRequest, caps: &SessionLimits) -> SessionLimits {
        SessionLimits {
            time_to_live: asked.time_to_live.unwrap_or(self.time_to_live).min(caps.time_to_live),
            idle_timeout: asked.idle_timeout.unwrap_or(self.idle_timeout).min(caps.idle_timeout),
            memory_bytes: asked.memory_bytes.unwrap_or(self.memory_bytes).min(caps.memory_bytes),
            scratch_bytes: asked.scratch_bytes.unwrap_or(self.scratch_bytes).min(caps.scratch_bytes),
            queue_length: asked.queue_length.unwrap_or(self.queue_length).min(caps.queue_length),
            turn_wall_time: asked.turn_wall_time.unwrap_or(self.turn_wall_time).min(caps.turn_wall_time),
        }
    }
}

impl InterruptionReason {
    /// What happened, as the beginning of a sentence.
    pub fn words(self) -> &'static str {
        match self {
            InterruptionReason::TimedOut => "a call passed its wall time",
            InterruptionReason::Cancelled => "a call was cancelled while it ran",
            InterruptionReason::Trapped => "the interpreter crashed",
            InterruptionReason::OutOfMemory => "the interpreter did not survive its memory limit",
            InterruptionReason::ServerLost => "the server was killed",
        }
    }
}

/// How a session was closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closure {
    /// Why.
    pub reason: ClosureReason,
    /// One sentence: what happened and what to do.
    pub message: String,
    /// When.
    pub time: Timestamp,
}

/// Why a session was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClosureReason {
    /// Somebody closed it.
    Closed,
    /// No call came for its idle timeout.
    Idle,
    /// Its time to live passed.
    Expired,
    /// The server needed its room.
    Evicted,
    /// Its live state was lost and there was no checkpoint.
    Interrupted,
    /// Its checkpoint could not be read back, or is of another interpreter.
    CheckpointUnusable,
    /// The container it lived in ended.
    ContainerEnded,
    /// The server shut down and it was not durable.
    ServerShutdown,
}

/// What is known of a session from the moment it is made; never changes after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionOrigin {
    /// Its id.
    pub id: SessionId,
    /// The tool whose kernel it holds.
    pub tool: Arc<str>,
    /// The snapshot it started from; `None` for the built-in image.
    pub snapshot: Option<SnapshotId>,
    /// Who owns it.
    pub principal: Arc<str>,
    /// The request id of the call that made it.
    pub request_id: Option<RequestId>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The limits in force.
    pub limits: SessionLimits,
    /// When its state is made durable.
    pub durability: Durability,
    /// Environment variables of the kernel.
    pub environment: BTreeMap<String, String>,
    /// What the tool takes at the start, as the text of a JSON object.
    pub parameters: String,
    /// When it was made.
    pub created: Timestamp,
    /// The session it was forked from.
    pub forked_from: Option<SessionId>,
    /// The turn it began with: 0, or the turn of its origin for a fork.
    pub first_turn: u64,
    /// Where its kernel lives, if not in the server. Kept beside the rest in records.
    #[serde(skip)]
    pub home: Option<Home>,
}

/// Where somebody wants a kernel to live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HomeWish {
    /// In the container of this name or id.
    Container(String),
    /// In a container of this pool.
    Pool(String),
}

/// Where a kernel lives that does not live in the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Home {
    /// In this container.
    Container(ContainerId),
    /// In a container that is leased from this pool for as long as the session lives.
    Pool(String),
}

impl SessionOrigin {
    /// When it is closed, whatever happens.
    pub fn expires(&self) -> Timestamp {
        self.created.after(self.limits.time_to_live)
    }
}

/// A session as it stands at one moment.
#[derive(Clone, Debug)]
pub struct Session {
    /// What was known from the start.
    pub origin: Arc<SessionOrigin>,
    /// Where it stands.
    pub state: SessionState,
    /// When its last call was accepted or ended.
    pub last_active: Timestamp,
    /// When it is closed unless a call comes before; `None` while calls run or wait.
    pub idle_expires: Option<Timestamp>,
    /// Number of the last completed turn.
    pub turn: u64,
    /// Number of the last turn that is durable.
    pub checkpoint_turn: u64,
    /// When that checkpoint was taken; `None` without one.
    pub checkpoint_time: Option<Timestamp>,
    /// Size of the checkpoint in bytes.
    pub checkpoint_bytes: u64,
    /// Memory of its own in bytes; 0 while suspended.
    pub memory_bytes: u64,
    /// The execution that runs in it.
    pub running: Option<ExecutionId>,
    /// Calls that wait.
    pub queued: u32,
    /// The last interruption.
    pub interruption: Option<Interruption>,
    /// How it was closed.
    pub closure: Option<Closure>,
}
