//! What changed, for whoever watches all containers.

use crate::domain::id::ContainerId;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// Removals that are remembered: who was away for longer begins anew.
const REMEMBERED: usize = 4096;

/// Numbers of changes, and who is told of them.
pub(super) struct Changes {
    last: AtomicU64,
    told: watch::Sender<()>,
    removed: Mutex<Removed>,
}

#[derive(Default)]
struct Removed {
    /// Removals before this number are forgotten.
    known_from: u64,
    ids: VecDeque<(u64, ContainerId)>,
}

impl Changes {
    /// Numbers go on after a restart: they begin with the time, which no server counts up to.
    pub(super) fn new(first: u64) -> Changes {
        Changes {
            last: AtomicU64::new(first),
            told: watch::Sender::new(()),
            removed: Mutex::new(Removed { known_from: first, ids: VecDeque::new() }),
        }
    }

    pub(super) fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::AcqRel) + 1
    }

    pub(super) fn last(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    pub(super) fn tell(&self) {
        self.told.send_replace(());
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.told.subscribe()
    }

    /// A container is gone.
    pub(super) fn removed(&self, id: ContainerId) {
        let number = self.next();
        let mut removed = self.removed.lock();
        removed.ids.push_back((number, id));
        while removed.ids.len() > REMEMBERED {
            if let Some((number, _)) = removed.ids.pop_front() {
                removed.known_from = number;
            }
        }
        drop(removed);
        self.tell();
    }

    /// Containers that went after a number; none when that is too long ago to know.
    pub(super) fn removed_after(&self, number: u64) -> Option<Vec<(u64, ContainerId)>> {
        let removed = self.removed.lock();
        let known = (removed.known_from..=self.last()).contains(&number);
        known.then(|| removed.ids.iter().filter(|(at, _)| *at > number).copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_away_too_long_is_told() {
        let changes = Changes::new(100);
        assert_eq!(changes.removed_after(100), Some(vec![]));
        assert!(changes.removed_after(99).is_none() && changes.removed_after(101).is_none());
        let id = ContainerId::new();
        changes.removed(id);
        assert_eq!(changes.removed_after(100), Some(vec![(101, id)]));
        for _ in 0..REMEMBERED {
            changes.removed(ContainerId::new());
        }
        assert!(changes.removed_after(100).is_none());
        assert_eq!(changes.removed_after(101).map(|ids| ids.len()), Some(REMEMBERED));
    }
}
