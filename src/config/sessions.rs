//! `[sessions]`: state between calls.

use super::forms;
use crate::domain::session::{Durability, SessionLimits};
use crate::session::SessionsConfig;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// `[sessions]`: how many sessions and snapshots there may be, and what becomes of idle ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionsSection {
    /// Open sessions.
    #[serde(with = "forms::count")]
    pub max_sessions: u64,
    /// Open sessions of one principal.
    #[serde(with = "forms::count")]
    pub max_per_principal: u64,
    /// Memory of all sessions; beyond it idle ones are suspended.
    #[serde(with = "forms::size")]
    pub max_memory: u64,
    /// Checkpoints of all sessions on disk.
    #[serde(with = "forms::size")]
    pub max_checkpoints: u64,
    /// Checkpoint of one session on disk.
    #[serde(with = "forms::size")]
    pub max_checkpoint: u64,
    /// Snapshots on disk.
    #[serde(with = "forms::size")]
    pub max_snapshots: u64,
    /// Copies that one ForkSession may make.
    #[serde(with = "forms::count")]
    pub max_forks: u32,
    /// When state is made durable, where nobody asks.
    pub durability: Durability,
    /// Quiet time after which a session that is durable when idle gets its checkpoint.
    #[serde(with = "forms::duration")]
    pub checkpoint_idle: Duration,
    /// Quiet time after which a durable session leaves memory.
    #[serde(with = "forms::duration")]
    pub suspend_idle: Duration,
    /// How long a closed session can be read.
    #[serde(with = "forms::duration")]
    pub keep_closed: Duration,
    /// What applies where nobody asks.
    #[serde(deserialize_with = "default_set")]
    pub default: SessionLimitSet,
    /// What nobody can exceed.
    #[serde(deserialize_with = "cap_set")]
    pub cap: SessionLimitSet,
}

impl Default for SessionsSection {
    fn default() -> Self {
        let config = SessionsConfig::default();
        SessionsSection {
            max_sessions: config.max_sessions,
            max_per_principal: config.max_per_principal,
            max_memory: config.max_memory,
            max_checkpoints: config.max_checkpoints,
            max_checkpoint: config.max_checkpoint,
            max_snapshots: config.max_snapshots,
            max_forks: config.max_forks,
            durability: config.durability,
            checkpoint_idle: config.checkpoint_idle,
            suspend_idle: config.suspend_idle,
            keep_closed: config.keep_closed,
            default: config.defaults.into(),
            cap: config.caps.into(),
        }
    }
}

impl SessionsSection {
    /// The bounds as the sessions know them.
    pub fn bounds(&self) -> SessionsConfig {
        SessionsConfig {
            max_sessions: self.max_sessions,
            max_per_principal: self.max_per_principal,
            max_memory: self.max_memory,
            max_checkpoints: self.max_checkpoints,
            max_checkpoint: self.max_checkpoint,
            max_snapshots: self.max_snapshots,
            max_forks: self.max_forks,
            durability: self.durability,
            checkpoint_idle: self.checkpoint_idle,
            suspend_idle: self.suspend_idle,
            keep_closed: self.keep_closed,
            defaults: self.default.limits(),
            caps: self.cap.limits(),
        }
    }

    /// Names of the limits whose default is above the cap.
    pub(super) fn above_caps(&self) -> Vec<&'static str> {
        let (default, cap) = (&self.default, &self.cap);
        let above = [
            ("time_to_live", default.time_to_live > cap.time_to_live),
            ("idle_timeout", default.idle_timeout > cap.idle_timeout),
            ("memory", default.memory > cap.memory),
            ("scratch", default.scratch > cap.scratch),
            ("queue_length", default.queue_length > cap.queue_length),
            ("turn_wall_time", default.turn_wall_time > cap.turn_wall_time),
        ];
        above.into_iter().filter(|(_, above)| *above).map(|(name, _)| name).collect()
    }
}

/// One set of a session's limits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SessionLimitSet {
    /// Longest life from creation.
    #[serde(with = "forms::duration")]
    pub time_to_live: Duration,
    /// Longest time without a call.
    #[serde(with = "forms::duration")]
    pub idle_timeout: Duration,
    /// Memory beyond the image it started from, in bytes.
    #[serde(with = "forms::size")]
    pub memory: u64,
    /// Files it may keep, in bytes.
    #[serde(with = "forms::size")]
    pub scratch: u64,
    /// Calls that may wait for their turn.
    #[serde(with = "forms::count")]
    pub queue_length: u32,
    /// Wall-clock time of a call that asks for none.
    #[serde(with = "forms::duration")]
    pub turn_wall_time: Duration,
}

impl SessionLimitSet {
    fn limits(&self) -> SessionLimits {
        SessionLimits {
            time_to_live: self.time_to_live,
            idle_timeout: self.idle_timeout,
            memory_bytes: self.memory,
            scratch_bytes: self.scratch,
            queue_length: self.queue_length,
            turn_wall_time: self.turn_wall_time,
        }
    }
}

impl From<SessionLimits> for SessionLimitSet {
    fn from(limits: SessionLimits) -> Self {
        SessionLimitSet {
            time_to_live: limits.time_to_live,
            idle_timeout: limits.idle_timeout,
            memory: limits.memory_bytes,
            scratch: limits.scratch_bytes,
            queue_length: limits.queue_length,
            turn_wall_time: limits.turn_wall_time,
        }
    }
}

// The two sets have the same keys and different defaults, so each is read over its own.
macro_rules! limit_set {
    ($reader:ident, $defaults:ident) => {
        fn $reader<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<SessionLimitSet, D::Error> {
            #[derive(Deserialize)]
            #[serde(default, deny_unknown_fields)]
            struct Keys {
                #[serde(with = "forms::duration")]
                time_to_live: Duration,
                #[serde(with = "forms::duration")]
                idle_timeout: Duration,
                #[serde(with = "forms::size")]
                memory: u64,
                #[serde(with = "forms::size")]
                scratch: u64,
                #[serde(with = "forms::count")]
                queue_length: u32,
                #[serde(with = "forms::duration")]
                turn_wall_time: Duration,
            }
            impl Default for Keys {
                fn default() -> Self {
                    let SessionLimitSet { time_to_live, idle_timeout, memory, scratch, queue_length, turn_wall_time } =
                        SessionLimitSet::from(SessionsConfig::default().$defaults);
                    Keys { time_to_live, idle_timeout, memory, scratch, queue_length, turn_wall_time }
                }
            }
            let Keys { time_to_live, idle_timeout, memory, scratch, queue_length, turn_wall_time } =
                Keys::deserialize(deserializer)?;
            Ok(SessionLimitSet { time_to_live, idle_timeout, memory, scratch, queue_length, turn_wall_time })
        }
    };
}
limit_set!(default_set, defaults);
limit_set!(cap_set, caps);
