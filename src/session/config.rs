//! Bounds of the sessions of a server.

use crate::domain::session::{Durability, SessionLimits};
use std::time::Duration;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const HOUR: Duration = Duration::from_secs(3600);

/// Bounds and habits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SessionsConfig {
    /// Open sessions.
    pub max_sessions: u64,
    /// Open sessions of one principal.
    pub max_per_principal: u64,
    /// Memory of all sessions together, in bytes; beyond it idle ones are suspended.
    pub max_memory: u64,
    /// Checkpoints of all sessions together, in bytes.
    pub max_checkpoints: u64,
    /// Checkpoint of one session, in bytes.
    pub max_checkpoint: u64,
    /// Snapshots, in bytes.
    pub max_snapshots: u64,
    /// Copies that one ForkSession may make.
    pub max_forks: u32,
    /// When state is made durable, where nobody asks.
    pub durability: Durability,
    /// Quiet time after which a session of [`Durability::Idle`] gets a checkpoint.
    pub checkpoint_idle: Duration,
    /// Quiet time after which a durable session leaves memory.
    pub suspend_idle: Duration,
    /// How long a closed session is remembered.
    pub keep_closed: Duration,
    /// Limits where nobody asks.
    pub defaults: SessionLimits,
    /// Limits that nobody exceeds.
    pub caps: SessionLimits,
}

impl Default for SessionsConfig {
    fn default() -> Self {
        SessionsConfig {
            max_sessions: 10_000,
            max_per_principal: 10_000,
            max_memory: 2 * GIB,
            max_checkpoints: 8 * GIB,
            max_checkpoint: GIB,
            max_snapshots: 8 * GIB,
            max_forks: 100,
            durability: Durability::Turn,
            checkpoint_idle: Duration::from_secs(5),
            suspend_idle: Duration::from_secs(300),
            keep_closed: HOUR,
            defaults: SessionLimits {
                time_to_live: 24 * HOUR,
                idle_timeout: HOUR,
                memory_bytes: 256 * MIB,
                scratch_bytes: 64 * MIB,
                queue_length: 16,
                turn_wall_time: Duration::from_secs(30),
            },
            caps: SessionLimits {
                time_to_live: 30 * 24 * HOUR,
                idle_timeout: 7 * 24 * HOUR,
                memory_bytes: 2 * GIB,
                scratch_bytes: 512 * MIB,
                queue_length: 1024,
                turn_wall_time: HOUR,
            },
        }
    }
}
