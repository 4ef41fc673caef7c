//! Executions that have ended and are still in memory: until the store has them, and as a cache after.

use super::live::Live;
use crate::domain::id::ExecutionId;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// What an execution weighs beside its events.
const OVERHEAD: u64 = 1024;

pub(super) struct Recent {
    inner: Mutex<Inner>,
    max_bytes: u64,
}

#[derive(Default)]
struct Inner {
    by_id: HashMap<ExecutionId, Arc<Live>>,
    order: VecDeque<(ExecutionId, u64)>,
    bytes: u64,
}

impl Recent {
    pub(super) fn new(max_bytes: u64) -> Self {
        Recent { inner: Mutex::default(), max_bytes }
    }

    pub(super) fn insert(&self, live: Arc<Live>) {
        let (id, weight) = (live.origin().id, live.journal().weight() + OVERHEAD);
        let mut evicted = None;
        let mut inner = self.inner.lock();
        inner.by_id.insert(id, live);
        inner.order.push_back((id, weight));
        inner.bytes += weight;
        // What the store does not have yet stays: it exists nowhere else.
        while inner.bytes > self.max_bytes
            && let Some((oldest, weight)) = inner.order.front().copied()
            && inner.by_id.get(&oldest).is_none_or(|live| live.is_kept())
        {
            inner.order.pop_front();
            inner.bytes -= weight;
            // Freed after the lock is released, as far as one value allows.
            evicted = inner.by_id.remove(&oldest);
        }
        drop(inner);
        drop(evicted);
    }

    pub(super) fn get(&self, id: ExecutionId) -> Option<Arc<Live>> {
        self.inner.lock().by_id.get(&id).cloned()
    }
}
