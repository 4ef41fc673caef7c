//! The line before one session: first come, first served, one at a time.
//!
//! Whoever enters has its place from that moment, not from when it begins to wait. Leaving is dropping the
//! ticket; a pass that nobody takes goes to the next.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The line. Cheap to clone.
#[derive(Clone, Default)]
pub struct Line {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    taken: bool,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    /// Whether it counts against the bound: calls do, the server's own work does not.
    counted: bool,
    hand: oneshot::Sender<Pass>,
}

/// A place in the line.
pub struct Ticket {
    place: Place,
}

enum Place {
    First(Pass),
    Behind(oneshot::Receiver<Pass>),
}

/// The right to use the session; goes to the next when dropped.
pub struct Pass {
    line: Option<Line>,
}

impl Line {
    /// A place for a call, or `None` when `bound` others wait.
    pub fn enter(&self, bound: u32) -> Option<Ticket> {
        let mut inner = self.inner.lock();
        if !inner.taken {
            inner.taken = true;
            drop(inner);
            return Some(Ticket { place: Place::First(Pass { line: Some(self.clone()) }) });
        }
        inner.waiting.retain(|waiting| !waiting.hand.is_closed());
        if inner.waiting.iter().filter(|waiting| waiting.counted).count() >= bound as usize {
            return None;
        }
        Some(inner.join(true))
    }

    /// A place for work of the server's own, behind whoever waits now.
    pub fn enter_uncounted(&self) -> Ticket {
        let mut inner = self.inner.lock();
        if inner.taken {
            return inner.join(false);
        }
        inner.taken = true;
        drop(inner);
        Ticket { place: Place::First(Pass { line: Some(self.clone()) }) }
    }

    /// The pass, if nobody has it and nobody waits.
    pub fn try_pass(&self) -> Option<Pass> {
        let mut inner = self.inner.lock();
        if inner.taken {
            return None;
        }
        inner.taken = true;
        Some(Pass { line: Some(self.clone()) })
    }

    /// Whether nobody has the pass.
    pub fn is_free(&self) -> bool {
        !self.inner.lock().taken
    }

    /// Calls that wait.
    pub fn waiting(&self) -> u32 {
        let inner = self.inner.lock();
        let calls = inner.waiting.iter().filter(|waiting| waiting.counted && !waiting.hand.is_closed()).count();
        u32::try_from(calls).unwrap_or(u32::MAX)
    }
}

impl Inner {
    fn join(&mut self, counted: bool) -> Ticket {
        let (hand, receive) = oneshot::channel();
        self.waiting.push_back(Waiting { counted, hand });
        Ticket { place: Place::Behind(receive) }
    }
}

impl Ticket {
    /// Whether its turn has come already.
    pub fn is_first(&self) -> bool {
        matches!(self.place, Place::First(_))
    }

    /// Waits for the pass. `None` only if the line itself is gone.
    pub async fn pass(self) -> Option<Pass> {
        match self.place {
            Place::First(pass) => Some(pass),
            Place::Behind(receive) => receive.await.ok(),
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let Some(line) = self.line.take() else { return };
        loop {
            let next = {
                let mut inner = line.inner.lock();
                match inner.waiting.pop_front() {
                    Some(next) => next,
                    None => {
                        inner.taken = false;
                        return;
                    }
                }
            };
            // Outside of the lock: a pass that comes back, or that is dropped unread, takes it again.
            match next.hand.send(Pass { line: Some(line.clone()) }) {
                Ok(()) => return,
                // It left the line: this loop goes on, so that pass must not begin another.
                Err(mut unwanted) => unwanted.line = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[tokio::test]
    async fn first_come_first_served_and_bounded() {
        let line = Line::default();
        let first = line.enter(1).unwrap();
        assert!(first.is_first());
        let second = line.enter(1).unwrap();
        assert!(!second.is_first() && line.enter(1).is_none());
        assert_eq!(line.waiting(), 1);
        // The server's own work is not counted, and stands behind.
        let own = line.enter_uncounted();
        assert!(line.try_pass().is_none());
        drop(first.pass().await);
        let pass = second.pass().await.unwrap();
        assert_eq!(line.waiting(), 0);
        drop(pass);
        drop(own.pass().await.unwrap());
        assert!(line.is_free() && line.try_pass().is_some());
    }

    proptest! {
        /// Whatever order tickets are taken, used and dropped in: one pass at a time, in order, none lost.
        #[test]
        fn no_pass_is_lost(steps in proptest::collection::vec((0u8..4, any::<prop::sample::Index>()), 1..60)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let line = Line::default();
                let mut tickets: VecDeque<(u32, Ticket)> = VecDeque::new();
                let mut next = 0;
                let mut last = None;
                for (step, index) in steps {
                    match step {
                        0 | 1 => {
                            tickets.push_back((next, line.enter_uncounted()));
                            next += 1;
                        }
                        2 if !tickets.is_empty() => drop(tickets.remove(index.index(tickets.len()))),
                        3 => if let Some((number, ticket)) = tickets.pop_front() {
                            let pass = ticket.pass().await.expect("the line is there");
                            assert!(last < Some(number) || last.is_none());
                            last = Some(number);
                            assert!(line.try_pass().is_none());
                            drop(pass);
                        },
                        _ => {}
                    }
                }
                tickets.clear();
                assert!(line.is_free());
            });
        }
    }
}
