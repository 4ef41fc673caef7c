//! How many open sessions there may be, in all and for each principal, and how many bytes on disk.

use crate::error::{Error, Result};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// The places.
#[derive(Default)]
pub(super) struct Rooms {
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    total: u64,
    by_principal: HashMap<Arc<str>, u64>,
}

/// Places of one principal, given back when dropped.
pub(super) struct Room {
    taken: Arc<Mutex<Taken>>,
    principal: Arc<str>,
}

impl Rooms {
    /// `count` places at once, or none.
    pub fn take(&self, principal: &Arc<str>, count: u64, max: u64, max_each: u64) -> Result<Vec<Room>> {
        let mut taken = self.taken.lock();
        let own = taken.by_principal.get(principal).copied().unwrap_or(0);
        let todo = "close sessions that are no longer needed, or have the operator raise the bound";
        if taken.total + count > max {
            return Err(Error::QuotaReached {
                what: format!("{} open sessions on this server (sessions.max_sessions)", taken.total),
                limit: max.to_string(),
                todo,
            });
        }
        if own + count > max_each {
            return Err(Error::QuotaReached {
                what: format!("{own} open sessions of {principal} (sessions.max_per_principal)"),
                limit: max_each.to_string(),
                todo,
            });
        }
        Ok(taken.add(&self.taken, principal, count))
    }

    /// A place for a session that was there before the bounds were set.
    pub fn take_anyway(&self, principal: &Arc<str>) -> Option<Room> {
        self.taken.lock().add(&self.taken, principal, 1).pop()
    }

    /// Open sessions.
    pub fn total(&self) -> u64 {
        self.taken.lock().total
    }
}

impl Taken {
    fn add(&mut self, taken: &Arc<Mutex<Taken>>, principal: &Arc<str>, count: u64) -> Vec<Room> {
        self.total += count;
        *self.by_principal.entry(principal.clone()).or_default() += count;
        (0..count).map(|_| Room { taken: taken.clone(), principal: principal.clone() }).collect()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        taken.total -= 1;
        if let Some(own) = taken.by_principal.get_mut(&self.principal) {
            *own -= 1;
            if *own == 0 {
                taken.by_principal.remove(&self.principal);
            }
        }
    }
}

/// Bytes on disk, up to a bound.
pub(super) struct Bytes {
    used: Mutex<u64>,
    max: u64,
}

impl Bytes {
    pub fn new(max: u64) -> Bytes {
        Bytes { used: Mutex::new(0), max }
    }

    /// Takes so many, or answers how many are taken.
    pub fn take(&self, bytes: u64) -> std::result::Result<(), u64> {
        let mut used = self.used.lock();
        if used.saturating_add(bytes) > self.max {
            return Err(*used);
        }
        *used += bytes;
        Ok(())
    }

    /// Counts what is there already.
    pub fn count(&self, bytes: u64) {
        let mut used = self.used.lock();
        *used = used.saturating_add(bytes);
    }

    pub fn give_back(&self, bytes: u64) {
        let mut used = self.used.lock();
        *used = used.saturating_sub(bytes);
    }

    pub fn used(&self) -> u64 {
        *self.used.lock()
    }

    pub fn max(&self) -> u64 {
        self.max
    }
}
