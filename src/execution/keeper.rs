//! Writes executions to the store: at once for those that must survive a crash, behind for the others.
//!
//! The one that carries a request id is recorded before it runs and before its outcome is told. All
//! others wait for nobody: a few times a second, whatever has ended since is written in one
//! transaction, and so is what longer runs have said so far.

use super::live::Live;
use super::registry::Shared;
use crate::domain::time::Timestamp;
use crate::error::Result;
use crate::store::Store;
use crate::store::executions::{self, Retention, Tally};
use parking_lot::Mutex;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// How long an outcome may wait in memory, and how old a run must be for its output to be written.
const PERIOD: Duration = Duration::from_millis(200);
/// Executions in one transaction.
const BATCH: usize = 4096;
/// Executions that retention removes in one transaction.
const REMOVALS: u64 = 10_000;
/// Bytes of output that one flush takes from one run; the rest follows, or is in the final record.
const FLUSH_BYTES: usize = 4 << 20;

pub(super) struct Keeper {
    store: Arc<Store>,
    retention: Retention,
    /// Ended, not yet in the store.
    pending: Mutex<Vec<Arc<Live>>>,
    wake: Notify,
    /// One flush at a time, so that a flush that answers has everything before it on disk.
    turn: tokio::sync::Mutex<()>,
}

impl Keeper {
    pub(super) fn new(store: Arc<Store>, retention: Retention) -> Self {
        Keeper { store, retention, pending: Mutex::default(), wake: Notify::new(), turn: Default::default() }
    }

    pub(super) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Queues an ended execution.
    pub(super) fn later(&self, live: Arc<Live>) {
        let mut pending = self.pending.lock();
        pending.push(live);
        if pending.len() == 1 {
            self.wake.notify_one();
        }
    }

    /// Tells the keeper that something runs.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Writes an ended execution now and answers when it is on disk.
    pub(super) async fn now(&self, live: Arc<Live>) -> Result<()> {
        let record = live.clone();
        self.store
            .write(move |db| {
                let mut tally = Tally::default();
                put_ended(db, &record, &mut tally)?;
                tally.write(db)
            })
            .await?;
        live.set_kept();
        Ok(())
    }

    /// Writes all that waits, and what `running` have said.
    pub(super) async fn flush(&self, running: Vec<Arc<Live>>) -> Result<()> {
        let _turn = self.turn.lock().await;
        if !running.is_empty() {
            let running = running.clone();
            self.store.write(move |db| running.iter().try_for_each(|live| put_running(db, live))).await?;
        }
        loop {
            let batch: Arc<[Arc<Live>]> = {
                let mut pending = self.pending.lock();
                let some = pending.len().min(BATCH);
                pending.drain(..some).collect()
            };
            if batch.is_empty() {
                break;
            }
            let (written, retention) = (batch.clone(), self.retention);
            let result = self
                .store
                .write(move |db| {
                    let mut tally = Tally::default();
                    for live in written.iter().filter(|live| !live.is_kept()) {
                        put_ended(db, live, &mut tally)?;
                    }
                    tally.write(db)?;
                    executions::enforce_retention(db, &retention, Timestamp::now(), REMOVALS)
                })
                .await;
            match result {
                Ok(_) => batch.iter().for_each(|live| live.set_kept()),
                Err(error) => {
                    // Kept for the next try, but not without bound: the newest matter most.
                    let mut pending = self.pending.lock();
                    pending.splice(0..0, batch.iter().cloned());
                    let excess = pending.len().saturating_sub(16 * BATCH);
                    if excess > 0 {
                        tracing::error!(executions = excess, "records of executions are lost: the store takes none");
                        pending.drain(..excess).for_each(|live| live.set_kept());
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Applies retention to what has merely grown old.
    async fn retain(&self) -> Result<usize> {
        let retention = self.retention;
        self.store.write(move |db| executions::enforce_retention(db, &retention, Timestamp::now(), REMOVALS)).await
    }
}

/// The keeper's task; ends when the registry is gone.
pub(super) async fn run(shared: Weak<Shared>) {
    let mut next_retain = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let Some(strong) = shared.upgrade() else { return };
        let idle = strong.running.is_empty() && strong.keeper.pending.lock().is_empty();
        if idle {
            // Nothing to write until somebody calls; wake up now and then for retention, and to notice the end.
            let wait = tokio::time::timeout(Duration::from_secs(5), strong.keeper.wake.notified());
            let _ = wait.await;
        }
        drop(strong);
        tokio::time::sleep(PERIOD).await;
        let Some(strong) = shared.upgrade() else { return };
        // A failure is in the store's health and in the log; the next round tries again.
        let _ = strong.flush(PERIOD).await;
        if tokio::time::Instant::now() >= next_retain {
            next_retain = tokio::time::Instant::now() + Duration::from_secs(60);
            let _ = strong.keeper.retain().await;
        }
    }
}

fn put_ended(db: &rusqlite::Connection, live: &Live, tally: &mut Tally) -> rusqlite::Result<()> {
    let (standing, events) = live.journal().record();
    executions::put_counted(db, &live.execution_with(standing), live.fingerprint(), Some(&events), tally)?;
    if live.flushed().load(Ordering::Relaxed) > 0 {
        executions::remove_chunks(db, live.origin().id)?;
    }
    Ok(())
}

fn put_running(db: &rusqlite::Connection, live: &Live) -> rusqlite::Result<()> {
    let execution = live.execution();
    let flushed = live.flushed().load(Ordering::Relaxed);
    // An end that nobody was shown yet may be written already, by a job before this one.
    if live.journal().is_closed() {
        return Ok(());
    }
    // If this transaction fails, the record comes with the end instead.
    let turn = execution.session_turn;
    let turn_is_new = live.recorded_turn().swap(turn, Ordering::Relaxed) != turn;
    if !live.recorded().swap(true, Ordering::Relaxed) || flushed == 0 || turn_is_new {
        executions::put(db, &execution, live.fingerprint(), None)?;
    }
    if execution.last_sequence == flushed {
        return Ok(());
    }
    let id = execution.origin.id;
    // Whoever outlives the server is asked for the rest: so its beginning is kept, not its newest words.
    let events = match live.survives() {
        true => live.journal().export_oldest(flushed + 1, FLUSH_BYTES),
        false => live.journal().export_newest(flushed + 1, FLUSH_BYTES),
    };
    let Some(last) = events.last().map(|event| event.sequence) else { return Ok(()) };
    executions::add_chunk(db, id, &events)?;
    executions::trim_chunks(db, id, live.journal().oldest_of_tail())?;
    // If this transaction fails, the next flush leaves a gap here; the final record has it all.
    live.flushed().store(last, Ordering::Relaxed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::execution::{Exit, Origin, Subject};
    use crate::domain::id::ExecutionId;
    use crate::domain::limits::LimitsPolicy;
    use crate::execution::Ended;
    use crate::execution::stdin::Stdin;
    use bytes::Bytes;

    #[test]
    fn what_runs_is_not_written_over_an_end_that_is_not_shown_yet() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Arc::new(Store::in_memory().unwrap());
            let retention = Retention { max_count: 10, max_age: Duration::from_secs(1000), max_bytes: 1 << 20 };
            let keeper = Keeper::new(store.clone(), retention);
            let origin = Origin {
                id: ExecutionId::new(),
                subject: Subject::Tool { name: "t".into(), version: "".into(), digest: "".into() },
                principal: "p".into(),
                request_id: None,
                labels: Default::default(),
                limits: LimitsPolicy::default().defaults,
                created: Timestamp::now(),
                session: None,
                parent: None,
                target: "".into(),
            };
            let id = origin.id;
            let live = Live::new(origin, None, Stdin::new(Bytes::new(), Bytes::new(), false), None);
            live.close(Ended::new(Exit::Exited { code: 3 }, ""));
            keeper.now(live.clone()).await.unwrap();
            // As a flush does that was begun while it ran.
            keeper.flush(vec![live.clone()]).await.unwrap();
            let kept = store.read(move |db| executions::get(db, id)).await.unwrap().unwrap();
            assert_eq!(kept.outcome.map(|outcome| outcome.exit.clone()), Some(Exit::Exited { code: 3 }));
        });
    }
}
