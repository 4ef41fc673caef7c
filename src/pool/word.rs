//! What somebody says of a pool, and hears of it.

use crate::container::Wish;
use crate::domain::pool::{PoolFigures, PoolSettings, PoolState};
use crate::store::pools::PoolRecord;
use std::collections::BTreeMap;
use std::time::Duration;

/// A pool somebody asks for.
#[derive(Clone, Debug)]
pub struct PoolOrder {
    /// Its name.
    pub name: String,
    /// What its containers are to be.
    pub wish: Wish,
    /// The rest.
    pub settings: PoolSettings,
}

/// What somebody changes about a pool; none for what stays.
#[derive(Clone, Debug, Default)]
pub struct PoolChange {
    /// What its containers are.
    pub wish: Option<Wish>,
    /// What it is for.
    pub description: Option<String>,
    /// Idle containers.
    pub target_size: Option<u32>,
    /// Containers at most.
    pub max_size: Option<u32>,
    /// Callers in line at most.
    pub max_waiting: Option<Option<u32>>,
    /// Longest lease.
    pub max_lease_time: Option<Option<Duration>>,
    /// Age of idle ones at most.
    pub max_idle_age: Option<Option<Duration>>,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
}

/// Selects pools. What is set must all match.
#[derive(Clone, Debug, Default)]
pub struct PoolFilter {
    /// Any of these.
    pub states: Vec<PoolState>,
    /// How its name begins.
    pub prefix: String,
    /// All of these labels.
    pub labels: BTreeMap<String, String>,
    /// Owner.
    pub principal: String,
}

/// A pool as it stands.
#[derive(Clone, Debug)]
pub struct PoolView {
    /// What it is.
    pub record: PoolRecord,
    /// What its containers are.
    pub wish: Wish,
    /// Where it stands.
    pub state: PoolState,
    /// Why it is not ready.
    pub problem: String,
    /// Its figures.
    pub figures: PoolFigures,
}

impl PoolChange {
    /// Makes the change.
    pub(super) fn apply(self, settings: &mut PoolSettings, wish: &mut Wish) {
        fn set<T>(to: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *to = value;
            }
        }
        set(wish, self.wish);
        set(&mut settings.description, self.description);
        set(&mut settings.target_size, self.target_size);
        set(&mut settings.max_size, self.max_size);
        set(&mut settings.max_waiting, self.max_waiting);
        set(&mut settings.max_lease_time, self.max_lease_time);
        set(&mut settings.max_idle_age, self.max_idle_age);
        set(&mut settings.labels, self.labels);
    }
}

impl PoolFilter {
    /// Whether it selects a pool.
    pub(super) fn selects(&self, found: &PoolView) -> bool {
        let (origin, settings) = (&found.record.origin, &found.record.settings);
        (self.states.is_empty() || self.states.contains(&found.state))
            && origin.name.starts_with(&self.prefix)
            && self.labels.iter().all(|(key, value)| settings.labels.get(key) == Some(value))
            && (self.principal.is_empty() || *self.principal == *origin.principal)
    }
}
