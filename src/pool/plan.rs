//! How many containers to make and how many to let go. Numbers in, numbers out.

use std::time::Duration;

/// Containers of one pool that are made at a time.
pub(super) const PARALLEL: u32 = 4;
/// The first and the longest pause after containers could not be made.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// What a pool has and wants.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Situation {
    /// Idle ones as they should be.
    pub fresh: u32,
    /// Idle ones that are too old, or of an earlier specification.
    pub stale: u32,
    /// Being made.
    pub starting: u32,
    /// On loan.
    pub leased: u32,
    /// Being destroyed.
    pub stopping: u32,
    /// Callers in line.
    pub waiting: u32,
    /// Idle ones to keep.
    pub target: u32,
    /// Containers at most.
    pub most: u32,
    /// Whether the last one could not be made.
    pub troubled: bool,
}

/// What to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Containers to make.
    pub start: u32,
    /// Stale ones to let go.
    pub drop_stale: u32,
    /// Fresh ones to let go.
    pub drop_fresh: u32,
}

impl Situation {
    /// What to do now.
    pub(super) fn plan(self) -> Plan {
        let held = self.fresh + self.stale + self.starting + self.leased;
        let room = self.most.saturating_sub(held + self.stopping);
        let wanted = (self.target + self.waiting).saturating_sub(self.fresh + self.starting);
        // In trouble one is tried at a time: the rest would fail alike.
        let parallel = if self.troubled { 1 } else { PARALLEL };
        let start = wanted.min(room).min(parallel.saturating_sub(self.starting));
        let excess = (self.fresh + self.stale).saturating_sub(self.target).max(held.saturating_sub(self.most));
        let mut drop_stale = excess.min(self.stale);
        let drop_fresh = (excess - drop_stale).min(self.fresh);
        // Where there is no room for a new one, an old one makes it, one at a time; unless a new one could not be made.
        let stuck = wanted > 0 && room == 0 && self.starting == 0 && self.stopping == 0 && !self.troubled;
        if stuck && drop_stale == 0 && self.stale > 0 {
            drop_stale = 1;
        }
        Plan { start, drop_stale, drop_fresh }
    }
}

/// How long to wait after so many failures in a row.
pub(super) fn pause(failures: u32) -> Duration {
    PAUSE.0.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(PAUSE.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(situation: Situation) -> (u32, u32, u32) {
        let plan = situation.plan();
        (plan.start, plan.drop_stale, plan.drop_fresh)
    }

    #[test]
    fn a_pool_is_filled_a_few_at_a_time_and_no_further_than_it_may() {
        let empty = Situation { target: 10, most: 100, ..Default::default() };
        assert_eq!(plan(empty), (PARALLEL, 0, 0));
        assert_eq!(plan(Situation { starting: 3, ..empty }), (1, 0, 0));
        assert_eq!(plan(Situation { fresh: 9, starting: 1, ..empty }), (0, 0, 0));
        assert_eq!(plan(Situation { fresh: 9, ..empty }), (1, 0, 0));
        assert_eq!(plan(Situation { most: 11, leased: 9, ..empty }), (2, 0, 0));
        assert_eq!(plan(Situation { most: 11, leased: 9, stopping: 2, ..empty }), (0, 0, 0));
        assert_eq!(plan(Situation { troubled: true, ..empty }), (1, 0, 0));
        assert_eq!(plan(Situation { troubled: true, starting: 1, ..empty }), (0, 0, 0));
    }

    #[test]
    fn callers_in_line_are_made_for_as_well() {
        let none = Situation { most: 5, ..Default::default() };
        assert_eq!(plan(none), (0, 0, 0));
        assert_eq!(plan(Situation { waiting: 3, ..none }), (3, 0, 0));
        assert_eq!(plan(Situation { waiting: 3, starting: 2, leased: 2, ..none }), (1, 0, 0));
    }

    #[test]
    fn what_is_too_much_goes_the_oldest_first() {
        let some = Situation { fresh: 3, stale: 2, target: 5, most: 10, ..Default::default() };
        assert_eq!(plan(some), (2, 0, 0), "new ones come before old ones go");
        assert_eq!(plan(Situation { fresh: 4, ..some }), (1, 1, 0));
        assert_eq!(plan(Situation { target: 1, ..some }), (0, 2, 2));
        assert_eq!(plan(Situation { most: 4, target: 4, leased: 1, ..some }), (0, 2, 0));
        assert_eq!(plan(Situation { most: 2, target: 2, leased: 6, ..some }), (0, 2, 3), "loans are left alone");
    }

    #[test]
    fn without_room_one_is_replaced_at_a_time_and_none_in_trouble() {
        let full = Situation { stale: 3, target: 3, most: 3, ..Default::default() };
        assert_eq!(plan(full), (0, 1, 0));
        assert_eq!(plan(Situation { stale: 2, stopping: 1, ..full }), (0, 0, 0));
        assert_eq!(plan(Situation { stale: 2, ..full }), (1, 0, 0));
        assert_eq!(plan(Situation { stale: 2, starting: 1, ..full }), (0, 0, 0));
        assert_eq!(plan(Situation { troubled: true, ..full }), (0, 0, 0));
    }

    #[test]
    fn pauses_grow_and_have_an_end() {
        assert_eq!([1, 2, 3].map(pause), [500, 1000, 2000].map(Duration::from_millis));
        assert_eq!([7, 100].map(pause), [PAUSE.1; 2]);
    }
}
