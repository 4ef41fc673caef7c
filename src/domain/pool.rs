//! Pools of warm containers: what they are to be, how they stand, what they did.

use super::id::RequestId;
use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The longest lease, and the age of an idle container, where nobody says otherwise.
pub const DEFAULT_SPAN: Duration = Duration::from_secs(3600);

/// What is known of a pool from the moment it is made; never changes after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolOrigin {
    /// Its name.
    pub name: String,
    /// Who owns it.
    pub principal: Arc<str>,
    /// The request id of the call that made it.
    pub request_id: Option<RequestId>,
    /// When it was made.
    pub created: Timestamp,
}

/// What its owner can change, its containers' specification aside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSettings {
    /// What it is for.
    pub description: String,
    /// Idle containers to keep ready.
    pub target_size: u32,
    /// Containers at most; 0 for the server's bound.
    pub max_size: u32,
    /// Callers that may wait in line; none for the server's bound.
    pub max_waiting: Option<u32>,
    /// Longest lease.
    pub max_lease_time: Option<Duration>,
    /// Age at which an idle container is replaced.
    pub max_idle_age: Option<Duration>,
    /// Labels of the pool and its containers.
    pub labels: BTreeMap<String, String>,
}

impl PoolSettings {
    /// Longest lease, as it applies.
    pub fn lease_time(&self) -> Duration {
        self.max_lease_time.unwrap_or(DEFAULT_SPAN)
    }

    /// Age at which an idle container is replaced, as it applies.
    pub fn idle_age(&self) -> Duration {
        self.max_idle_age.unwrap_or(DEFAULT_SPAN)
    }
}

/// Where a pool stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolState {
    /// It makes more containers.
    Filling,
    /// It has as many idle ones as it should, or as it may.
    Ready,
    /// Containers cannot be made; it tries again.
    Degraded,
    /// It is being deleted.
    Deleting,
    /// The backend does not answer.
    Unreachable,
}

/// What a pool did since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolTotals {
    /// Leases.
    pub leases: u64,
    /// Leases that ended because their time had passed.
    pub expired: u64,
    /// Leases that ended because their container did.
    pub broken: u64,
    /// Containers made.
    pub created: u64,
    /// Containers that could not be made.
    pub failed: u64,
    /// Idle containers replaced because they were dead or did not answer.
    pub unhealthy: u64,
    /// Idle containers replaced because of their age.
    pub aged: u64,
    /// Callers turned away because the line was full.
    pub rejected: u64,
    /// Callers that left the line without a container.
    pub abandoned: u64,
}

/// How many containers and callers a pool has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCounts {
    /// Ready to be leased.
    pub idle: u32,
    /// Being made.
    pub starting: u32,
    /// On loan.
    pub leased: u32,
    /// Being destroyed.
    pub stopping: u32,
    /// Callers in line.
    pub waiting: u32,
}

/// Figures of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolFigures {
    /// What there is now.
    pub counts: PoolCounts,
    /// What was.
    pub totals: PoolTotals,
    /// Median and 99th percentile of the waits of the last minutes.
    pub waits: Option<(Duration, Duration)>,
}
