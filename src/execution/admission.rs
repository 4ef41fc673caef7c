//! Who may run now, who waits, and who is turned away at once.

use crate::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// The slots of the server and its queue.
pub struct Admission {
    server: Lane,
    queued: Arc<AtomicUsize>,
    max_queued: usize,
    /// Smoothed run time in microseconds, for an honest guess of when a retry makes sense.
    typical_run: AtomicU64,
}

/// A bounded number of slots: the server's, or one tool's. Cheap to clone.
#[derive(Clone)]
pub struct Lane {
    own: Row,
    /// Where each of its slots takes others along, and how many.
    pool: Option<(Row, u32)>,
}

#[derive(Clone)]
struct Row {
    slots: Arc<Semaphore>,
    size: u32,
    name: Arc<str>,
}

impl Lane {
    /// A lane of `size` slots; `name` is how errors call it, such as `tool "echo"`.
    pub fn new(name: impl Into<Arc<str>>, size: u32) -> Self {
        Lane { own: Row { slots: Arc::new(Semaphore::new(size as usize)), size, name: name.into() }, pool: None }
    }

    /// This lane, for a run that also takes `slots` of a pool: whoever has a slot of it never waits for the
    /// pool. `slots` is at most the pool's size.
    pub fn drawing(&self, pool: &Lane, slots: u32) -> Lane {
        Lane { own: self.own.clone(), pool: Some((pool.own.clone(), slots)) }
    }

    /// How many slots it has.
    pub fn size(&self) -> u32 {
        self.own.size
    }

    /// A slot, or the row that has none.
    fn try_take(&self) -> Result<Taken, &Row> {
        let own = self.own.slots.clone().try_acquire_owned().map_err(|_| &self.own)?;
        let pool = match &self.pool {
            Some((row, slots)) => Some(row.slots.clone().try_acquire_many_owned(*slots).map_err(|_| row)?),
            None => None,
        };
        Ok(Taken { _own: own, _pool: pool })
    }

    async fn take(&self) -> Result<Taken, AcquireError> {
        let own = self.own.slots.clone().acquire_owned().await?;
        let pool = match &self.pool {
            Some((row, slots)) => Some(row.slots.clone().acquire_many_owned(*slots).await?),
            None => None,
        };
        Ok(Taken { _own: own, _pool: pool })
    }
}

struct Taken {
    _own: OwnedSemaphorePermit,
    _pool: Option<OwnedSemaphorePermit>,
}

/// A place: slots taken at once, or a seat in the queue.
pub enum Place {
    /// May run now.
    Slot(Slot),
    /// Waits; `Seat::slot` gives the slot.
    Seat(Seat),
}

/// The right to run; returns its slots when dropped.
pub struct Slot {
    _lane: Taken,
    /// None of a child's: its parent has one, and waits for it.
    _server: Option<Taken>,
}

/// A seat in the queue; gives it up when dropped.
pub struct Seat {
    lane: Lane,
    server: Option<Lane>,
    _counted: Counted,
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admission {
    /// Slots for `max_running` executions and a queue of `max_queued`.
    pub fn new(max_running: u32, max_queued: usize) -> Self {
        Admission {
            server: Lane::new("the server", max_running),
            queued: Arc::new(AtomicUsize::new(0)),
            max_queued,
            typical_run: AtomicU64::new(0),
        }
    }

    /// A slot, or a seat, or at once [`Error::Overloaded`].
    pub fn enter(&self, lane: &Lane) -> Result<Place, Error> {
        // The lane first: a run that waits for its tool must not hold a slot of the server.
        let full = match lane.try_take() {
            Err(full) => full,
            Ok(taken) => match self.server.try_take() {
                Ok(server) => return Ok(Place::Slot(Slot { _lane: taken, _server: Some(server) })),
                Err(full) => full,
            },
        };
        self.seat(lane, full, Some(&self.server))
    }

    /// As [`Admission::enter`], for a run that another run waits for. It takes no slot of the server: if each
    /// of those that have one waited for another, all would wait for ever.
    pub fn enter_child(&self, lane: &Lane) -> Result<Place, Error> {
        match lane.try_take() {
            Ok(taken) => Ok(Place::Slot(Slot { _lane: taken, _server: None })),
            Err(full) => self.seat(lane, full, None),
        }
    }

    /// A slot of a lane for a run that takes none of the server's, at once or never.
    pub fn enter_outside(&self, lane: &Lane) -> Result<Slot, Error> {
        match lane.try_take() {
            Ok(taken) => Ok(Slot { _lane: taken, _server: None }),
            Err(full) => Err(self.overloaded(full)),
        }
    }

    fn overloaded(&self, full: &Row) -> Error {
        Error::Overloaded {
            scope: full.name.to_string(),
            limit: u64::from(full.size),
            retry_after: self.retry_after(full.size),
        }
    }

    fn seat(&self, lane: &Lane, full: &Row, server: Option<&Lane>) -> Result<Place, Error> {
        let counted = Counted(self.queued.clone());
        if self.queued.fetch_add(1, Ordering::Relaxed) >= self.max_queued {
            return Err(self.overloaded(full));
        }
        Ok(Place::Seat(Seat { lane: lane.clone(), server: server.cloned(), _counted: counted }))
    }

    /// A slot for whoever waits outside of the queue: it is bounded elsewhere.
    pub async fn wait(&self, lane: &Lane) -> Result<Slot, Error> {
        let closed = |_| Error::ShuttingDown;
        let lane = lane.take().await.map_err(closed)?;
        let server = self.server.take().await.map_err(closed)?;
        Ok(Slot { _lane: lane, _server: Some(server) })
    }

    /// Learns how long runs take.
    pub fn ran(&self, time: Duration) {
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX / 16);
        let old = self.typical_run.load(Ordering::Relaxed);
        // A lost update costs nothing: it is an average.
        self.typical_run.store(old - old / 8 + time / 8, Ordering::Relaxed);
    }

    /// Executions in the queue.
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// Executions that hold a slot of the server.
    pub fn running(&self) -> usize {
        self.server.own.size as usize - self.server.own.slots.available_permits()
    }

    fn retry_after(&self, slots: u32) -> Duration {
        let queue = self.max_queued as u64 + 1;
        let drain = self.typical_run.load(Ordering::Relaxed).saturating_mul(queue) / u64::from(slots.max(1));
        Duration::from_micros(drain).clamp(Duration::from_millis(100), Duration::from_secs(30))
    }
}

impl Seat {
    /// Waits, first come, first served.
    pub async fn slot(self) -> Result<Slot, Error> {
        let closed = |_| Error::ShuttingDown;
        let lane = self.lane.take().await.map_err(closed)?;
        let server = match &self.server {
            Some(server) => Some(server.take().await.map_err(closed)?),
            None => None,
        };
        Ok(Slot { _lane: lane, _server: server })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn slots_then_seats_then_overloaded_at_once() {
        let admission = Admission::new(8, 1);
        let lane = Lane::new("tool \"t\"", 1);
        let Ok(Place::Slot(slot)) = admission.enter(&lane) else { panic!("the first gets a slot") };
        let Ok(Place::Seat(seat)) = admission.enter(&lane) else { panic!("the second gets a seat") };
        assert_eq!((admission.running(), admission.queued()), (1, 1));
        match admission.enter(&lane) {
            Err(Error::Overloaded { scope, limit: 1, retry_after }) => {
                assert_eq!(scope, "tool \"t\"");
                assert!(retry_after >= Duration::from_millis(100));
            }
            _ => panic!("the third is turned away"),
        }
        drop(slot);
        let slot = seat.slot().await.unwrap();
        assert_eq!((admission.running(), admission.queued()), (1, 0));
        drop(slot);
        assert_eq!(admission.running(), 0);
    }

    #[test]
    fn a_child_needs_no_slot_of_the_server() {
        let admission = Admission::new(1, 0);
        let (parents, children) = (Lane::new("tool \"parent\"", 2), Lane::new("tool \"child\"", 1));
        let _slot = admission.enter(&parents).unwrap();
        assert!(matches!(admission.enter(&children), Err(Error::Overloaded { .. })));
        let child = admission.enter_child(&children).unwrap();
        assert!(matches!(child, Place::Slot(_)));
        // Its tool's slots it needs.
        assert!(matches!(admission.enter_child(&children), Err(Error::Overloaded { .. })));
        assert_eq!(admission.running(), 1);
    }

    #[test]
    fn a_full_tool_does_not_hold_slots_of_the_server() {
        let admission = Admission::new(2, 10);
        let (busy, free) = (Lane::new("tool \"busy\"", 1), Lane::new("tool \"free\"", 1));
        let _slot = admission.enter(&busy).unwrap();
        let _seat = admission.enter(&busy).unwrap();
        assert!(matches!(admission.enter(&free), Ok(Place::Slot(_))));
    }

    #[tokio::test]
    async fn a_full_pool_is_waited_for_in_the_queue_and_then_turns_away() {
        let admission = Admission::new(8, 1);
        let (pool, lane) = (Lane::new("the small pool", 4), Lane::new("tool \"t\"", 8));
        let drawing = lane.drawing(&pool, 2);
        let slots = [admission.enter(&drawing).unwrap(), admission.enter(&drawing).unwrap()];
        let Ok(Place::Seat(seat)) = admission.enter(&drawing) else { panic!("the third gets a seat") };
        match admission.enter(&drawing) {
            Err(Error::Overloaded { scope, limit: 4, .. }) => assert_eq!(scope, "the small pool"),
            _ => panic!("the fourth is turned away"),
        }
        // What draws on nothing is not held up, and whoever was turned away holds nothing.
        assert!(matches!(admission.enter(&lane), Ok(Place::Slot(_))));
        assert_eq!(lane.own.slots.available_permits(), 6);
        drop(slots);
        drop(seat.slot().await.unwrap());
        assert_eq!((pool.own.slots.available_permits(), lane.own.slots.available_permits()), (4, 8));
    }
}
