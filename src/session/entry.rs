//! One session in memory: what does not change, how it stands, and its kernel.

use super::kernel::{Extent, Image, Kernel, KernelSpec};
use super::line::Line;
use super::room::Room;
use crate::domain::id::{ExecutionId, SessionId};
use crate::domain::interruption::Interruption;
use crate::domain::session::{Closure, Durability, Session, SessionOrigin, SessionState};
use crate::domain::time::Timestamp;
use crate::error::Error;
use crate::execution::Live;
use crate::store::sessions::{CheckpointRecord, SessionRecord};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Instant;

/// A session. Whoever has the pass of its line may take the kernel.
pub(super) struct Entry {
    pub origin: Arc<SessionOrigin>,
    /// Holds the files of the snapshot it started from, for as long as it may need them again.
    pub image: Option<Arc<Image>>,
    pub line: Line,
    pub standing: Mutex<Standing>,
    /// One checkpoint at a time. Taken after the pass, never before it.
    pub saving: tokio::sync::Mutex<()>,
    kernel: Mutex<Option<Box<dyn Kernel>>>,
    room: Mutex<Option<Room>>,
}

/// How a session stands.
pub(super) struct Standing {
    /// Whether its first kernel is being made.
    pub starting: bool,
    /// Number of the last completed turn.
    pub turn: u64,
    pub last_active: Timestamp,
    /// Calls that were accepted and are not over.
    pub calls: Vec<Arc<Live>>,
    pub running: Option<ExecutionId>,
    /// Since when there is state beyond the last freeze.
    pub unsaved: Option<Instant>,
    /// When the last turn ended, and when the last freeze was.
    pub last_end: Instant,
    pub last_freeze: Option<Instant>,
    /// The files to go on from. They are on disk, whether or not the store has been told.
    pub chain: Option<CheckpointRecord>,
    /// What the store was told for good.
    pub durable: Option<Durable>,
    /// Files that the next row to be committed no longer names.
    pub stale: Vec<crate::store::sessions::FileRecord>,
    /// What the next freeze must be; `Whole` after one that was lost.
    pub extent: Extent,
    /// Counts the losses of live state: a checkpoint of a state that was lost since is not used.
    pub incarnation: u64,
    /// Whether a task looks after the checkpoints.
    pub saver: bool,
    /// Set after a checkpoint that failed: no other before.
    pub retry: Option<Instant>,
    /// Memory of its kernel in bytes; 0 without one.
    pub memory: u64,
    pub in_memory: bool,
    /// Whether the row says that there is unsaved state, and whether it lags behind.
    pub row_unsaved: bool,
    pub row_old: bool,
    pub interruption: Option<Interruption>,
    pub closure: Option<Closure>,
}

/// A checkpoint that survives a crash.
#[derive(Clone, Copy, Debug)]
pub(super) struct Durable {
    pub turn: u64,
    pub time: Timestamp,
    pub bytes: u64,
}

impl Durable {
    pub fn of(chain: &CheckpointRecord) -> Durable {
        Durable { turn: chain.turn, time: chain.time, bytes: chain.bytes() }
    }
}

impl Entry {
    pub fn new(origin: SessionOrigin, image: Option<Arc<Image>>, room: Option<Room>) -> Entry {
        let standing = Standing {
            starting: false,
            turn: origin.first_turn,
            last_active: origin.created,
            calls: Vec::new(),
            running: None,
            unsaved: None,
            last_end: Instant::now(),
            last_freeze: None,
            chain: None,
            durable: None,
            stale: Vec::new(),
            extent: Extent::Whole,
            incarnation: 0,
            saver: false,
            retry: None,
            memory: 0,
            in_memory: false,
            row_unsaved: false,
            row_old: false,
            interruption: None,
            closure: None,
        };
        Entry {
            origin: Arc::new(origin),
            image,
            line: Line::default(),
            standing: Mutex::new(standing),
            saving: tokio::sync::Mutex::new(()),
            kernel: Mutex::new(None),
            room: Mutex::new(room),
        }
    }

    pub fn id(&self) -> SessionId {
        self.origin.id
    }

    pub fn take_kernel(&self) -> Option<Box<dyn Kernel>> {
        self.kernel.lock().take()
    }

    /// Puts the kernel back for the next one who has the pass; a closed session keeps none. Answers how much its
    /// memory changed: what it is now less what it was.
    pub fn put_kernel(&self, kernel: Box<dyn Kernel>) -> i64 {
        let memory = kernel.memory_bytes();
        let mut standing = self.standing.lock();
        if standing.closure.is_some() {
            let change = standing.forget_kernel();
            drop(standing);
            kernel.end();
            return change;
        }
        let change = signed(memory) - signed(standing.memory);
        standing.memory = memory;
        standing.in_memory = true;
        *self.kernel.lock() = Some(kernel);
        change
    }

    pub fn spec(&self) -> KernelSpec {
        KernelSpec {
            session: self.id(),
            image: self.image.clone(),
            limits: self.origin.limits,
            environment: self.origin.environment.clone(),
            principal: self.origin.principal.clone(),
            home: self.origin.home.clone(),
            parameters: self.origin.parameters.clone(),
        }
    }

    /// Gives up its place among the open sessions.
    pub fn release_room(&self) {
        drop(self.room.lock().take());
    }

    /// Whether its kernel lives elsewhere, and is there whether or not the server is.
    pub fn is_housed(&self) -> bool {
        self.origin.home.is_some()
    }

    /// An error if its state cannot be had as data.
    pub fn is_copied(&self) -> Result<(), Error> {
        let feature = "a copy of a session in a container; SnapshotContainer keeps its files";
        if self.is_housed() { Err(Error::Unimplemented { feature }) } else { Ok(()) }
    }

    pub fn is_durable(&self) -> bool {
        self.origin.durability != Durability::None
    }

    /// The session as others see it.
    pub fn view(&self) -> Session {
        let standing = self.standing.lock();
        let state = match &*standing {
            Standing { closure: Some(_), .. } => SessionState::Closed,
            Standing { running: Some(_), .. } => SessionState::Busy,
            Standing { starting: true, .. } => SessionState::Starting,
            Standing { in_memory: true, .. } => SessionState::Ready,
            _ => SessionState::Suspended,
        };
        let quiet = standing.calls.is_empty() && standing.closure.is_none();
        Session {
            origin: self.origin.clone(),
            state,
            last_active: standing.last_active,
            idle_expires: quiet.then(|| standing.last_active.after(self.origin.limits.idle_timeout)),
            turn: standing.turn,
            checkpoint_turn: standing.durable.map_or(self.origin.first_turn, |durable| durable.turn),
            checkpoint_time: standing.durable.map(|durable| durable.time),
            checkpoint_bytes: standing.durable.map_or(0, |durable| durable.bytes),
            memory_bytes: standing.memory,
            running: standing.running,
            queued: u32::try_from(standing.calls.len() - usize::from(standing.running.is_some())).unwrap_or(u32::MAX),
            interruption: standing.interruption.clone(),
            closure: standing.closure.clone(),
        }
    }

    /// An error if it is closed.
    pub fn open(&self) -> Result<(), Error> {
        match &self.standing.lock().closure {
            Some(closure) => Err(self.closed_error(closure)),
            None => Ok(()),
        }
    }

    pub fn closed_error(&self, closure: &Closure) -> Error {
        Error::SessionClosed { id: self.id(), message: closure.message.clone() }
    }

    /// What the store is to know.
    pub fn record(&self, standing: &Standing) -> SessionRecord {
        SessionRecord {
            origin: (*self.origin).clone(),
            turn: standing.turn,
            last_active: standing.last_active,
            unsaved: standing.unsaved.is_some() || standing.running.is_some(),
            running: standing.running,
            checkpoint: standing.chain.clone(),
            interruption: standing.interruption.clone(),
            closure: standing.closure.clone(),
            home: self.origin.home.clone(),
        }
    }
}

impl Standing {
    /// Notes that the kernel is gone; answers how much memory that changes.
    pub fn forget_kernel(&mut self) -> i64 {
        let change = -signed(self.memory);
        self.memory = 0;
        self.in_memory = false;
        change
    }

    /// Whether nothing would be lost if the kernel were dropped: all is frozen, or it never ran.
    pub fn is_saved(&self, origin: &SessionOrigin) -> bool {
        match self.durable {
            _ if self.unsaved.is_some() || self.running.is_some() => false,
            Some(durable) => durable.turn == self.turn,
            None => self.turn == origin.first_turn && origin.forked_from.is_none(),
        }
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
