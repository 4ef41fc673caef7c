//! The start: what becomes of the sessions that the server had when it went down.

use super::checkpoint::Files;
use super::config::SessionsConfig;
use super::entry::{Durable, Entry};
use super::kernel::{Extent, Kernels};
use super::manager::{SessionObserver, Sessions};
use super::room::{Bytes, Rooms};
use super::snapshot_draft::BuiltIns;
use super::snapshots::Snapshots;
use crate::domain::execution::{Execution, ExecutionState};
use crate::domain::id::{ExecutionId, SessionId};
use crate::domain::interruption::{Interruption, InterruptionReason};
use crate::domain::session::{ClosureReason, Durability};
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::execution::Registry;
use crate::store::Store;
use crate::store::executions::Filter;
use crate::store::sessions::{self, CheckpointRecord, SessionRecord};
use crate::store::shelf::Shelf;
use dashmap::DashMap;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};

/// Runs that were cut off and are looked through, at most.
const MOST_CUT_OFF: usize = 10_000;

/// What sessions are made of.
pub struct SessionsParts {
    /// The embedded database.
    pub store: Arc<Store>,
    /// Where calls become executions.
    pub registry: Registry,
    /// The data directory; `sessions` and `snapshots` below it are theirs.
    pub directory: PathBuf,
    /// Bounds and habits.
    pub config: SessionsConfig,
    /// Where snapshots stand.
    pub shelf: Arc<Shelf>,
    /// The interpreters that keep state.
    pub kernels: Vec<Arc<dyn Kernels>>,
    /// The snapshots that come with them.
    pub built_ins: Arc<dyn BuiltIns>,
    /// Hears how the state of sessions is kept.
    pub observer: Arc<dyn SessionObserver>,
}

impl Sessions {
    /// The sessions as of their last checkpoints. Those that cannot go on are closed and say why.
    pub async fn open(parts: SessionsParts) -> Result<Arc<Sessions>> {
        let SessionsParts { store, registry, directory, config, shelf, kernels, built_ins, observer } = parts;
        let unusable = |error: std::io::Error| Error::StoreUnavailable {
            problem: format!("the directory of sessions in {} cannot be used: {error}", directory.display()),
        };
        let kernels: Arc<HashMap<String, Arc<dyn Kernels>>> =
            Arc::new(kernels.into_iter().map(|kernels| (kernels.tool().to_owned(), kernels)).collect());
        let files = Files::open(directory.join("sessions")).map_err(unusable)?;
        let mut records = Vec::new();
        for found in store.read(sessions::all).await? {
            match found {
                Ok(record) => records.push(record),
                Err(id) => {
                    tracing::error!(session = %id, "the record of a session is damaged; the session is forgotten");
                    store.write(move |db| sessions::delete(db, id)).await?;
                }
            }
        }
        let open = |record: &&SessionRecord| record.closure.is_none();
        let in_use: HashSet<_> = records.iter().filter(open).filter_map(|record| record.origin.snapshot).collect();
        let snapshots =
            Snapshots::open(store.clone(), directory.join("snapshots"), shelf, kernels.clone(), built_ins, &in_use)
                .await?;
        let keep: HashMap<_, Vec<String>> = records
            .iter()
            .filter(open)
            .filter(|record| record.origin.durability != Durability::None)
            .map(|record| {
                let chain = record.checkpoint.iter().flat_map(|chain| &chain.files);
                (record.origin.id, chain.map(|file| file.name.clone()).collect())
            })
            .collect();
        let removed = {
            let files = files.clone();
            let sweep = move || files.sweep(|session| keep.get(&session).cloned());
            tokio::task::spawn_blocking(sweep).await.map_err(super::manager::panicked)?.map_err(unusable)?
        };
        if removed > 0 {
            tracing::info!(files = removed, "files of sessions that nothing refers to were removed");
        }
        let sessions = Arc::new(Sessions {
            config,
            entries: DashMap::new(),
            store,
            files,
            kernels,
            snapshots,
            rooms: Rooms::default(),
            disk: Bytes::new(config.max_checkpoints),
            failing: Default::default(),
            observer,
            once: Default::default(),
            pressed: Default::default(),
            closing: AtomicBool::new(false),
            registry,
            memory: AtomicI64::new(0),
        });
        let cut_off = match records.iter().any(|record| record.closure.is_none() && is_lost(record)) {
            true => sessions.cut_off().await?,
            false => HashMap::new(),
        };
        for record in records {
            let execution = match is_lost(&record) {
                true => sessions.running_then(&record, &cut_off).await,
                false => None,
            };
            sessions.bring_back(record, execution);
        }
        tokio::spawn(super::keep::run(Arc::downgrade(&sessions)));
        Ok(sessions)
    }

    /// The newest run of each session that began and that a kill of the server cut off.
    async fn cut_off(&self) -> Result<HashMap<SessionId, Execution>> {
        let filter = Filter { states: vec![ExecutionState::Lost], ..Filter::default() };
        let mut found = HashMap::new();
        for execution in self.registry.list(filter, None, MOST_CUT_OFF).await? {
            if let (Some(session), Some(_)) = (execution.origin.session, execution.started) {
                found.entry(session).or_insert(execution);
            }
        }
        Ok(found)
    }

    /// The execution that ran in a session when the server was killed, as far as that is known.
    async fn running_then(
        &self,
        record: &SessionRecord,
        cut_off: &HashMap<SessionId, Execution>,
    ) -> Option<ExecutionId> {
        if let Some(execution) = cut_off.get(&record.origin.id) {
            // One of an earlier kill has its own interruption, or one that came after.
            let earlier = record.interruption.as_ref().map(|interruption| interruption.time);
            if execution.ended > earlier {
                return Some(execution.origin.id);
            }
        }
        // A run of a moment may not have got into the records. One that is there and over was not cut off.
        let running = record.running?;
        self.registry.find(running).await.is_err().then_some(running)
    }

    fn bring_back(self: &Arc<Self>, record: SessionRecord, execution: Option<ExecutionId>) {
        let lost = if record.home.is_some() { record.running.is_some() } else { is_lost(&record) };
        let SessionRecord { origin, turn, last_active, checkpoint, interruption, closure, .. } = record;
        let room = closure.is_none().then(|| self.rooms.take_anyway(&origin.principal)).flatten();
        let image = origin.snapshot.filter(|_| closure.is_none()).map(|id| self.snapshots.held(id));
        let entry = Arc::new(Entry::new(origin, image, room));
        self.entries.insert(entry.id(), entry.clone());
        self.disk.count(checkpoint.as_ref().map_or(0, CheckpointRecord::bytes));
        let origin = &entry.origin;
        let closed = closure.is_some();
        let over = {
            let mut standing = entry.standing.lock();
            standing.last_active = last_active;
            standing.interruption = interruption;
            standing.closure = closure;
            standing.durable = checkpoint.as_ref().map(Durable::of);
            standing.extent = if checkpoint.is_some() { Extent::Changed } else { Extent::Whole };
            let resumed_turn = checkpoint.as_ref().map_or(origin.first_turn, |chain| chain.turn);
            standing.chain = checkpoint;
            let resumed_turn = if entry.is_housed() { turn } else { resumed_turn };
            standing.turn = if closed { turn } else { resumed_turn };
            if closed {
                return;
            }
            if lost {
                standing.interruption = Some(Interruption {
                    reason: InterruptionReason::ServerLost,
                    time: Timestamp::now(),
                    execution,
                    last_turn: turn,
                    resumed_turn,
                });
                standing.row_old = true;
            }
            standing.chain.is_none() && (lost || origin.forked_from.is_some())
        };
        if entry.is_housed() {
            return self.bring_home(entry);
        }
        if origin.durability == Durability::None {
            let message = "the server went down, and it was not durable; create a new session";
            self.close_behind(&entry, ClosureReason::Interrupted, message.into());
        } else if over {
            let message = "the server was killed before its first checkpoint; create a new session";
            self.close_behind(&entry, ClosureReason::Interrupted, message.into());
        }
    }
}

impl Sessions {
    /// Finds the kernel of a session again that went on while there was no server. Calls wait for that.
    fn bring_home(self: &Arc<Self>, entry: Arc<Entry>) {
        let sessions = Arc::downgrade(self);
        tokio::spawn(async move {
            let Some(_pass) = entry.line.enter_uncounted().pass().await else { return };
            let Some(sessions) = sessions.upgrade() else { return };
            // A failure is told to the next call, which tries again.
            if let Ok(kernel) = sessions.wake(&entry).await {
                sessions.count_memory(entry.put_kernel(kernel));
            }
        });
    }
}

/// Whether the server went down with state that no checkpoint has.
fn is_lost(record: &SessionRecord) -> bool {
    let resumed_turn = record.checkpoint.as_ref().map_or(record.origin.first_turn, |chain| chain.turn);
    record.unsaved || record.turn > resumed_turn
}
