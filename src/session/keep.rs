//! What time and scarcity do to sessions: they are closed, made durable, and leave memory.

use super::entry::Entry;
use super::line::Pass;
use super::manager::Sessions;
use crate::domain::session::{ClosureReason, Durability};
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::store::sessions;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Time between two rounds.
const ROUND: Duration = Duration::from_millis(500);
/// How long the checkpoint of a session that is to leave memory is waited for.
const PATIENCE: Duration = Duration::from_millis(100);

/// The keeper's task; ends when the sessions are gone.
pub(super) async fn run(sessions: Weak<Sessions>) {
    loop {
        let Some(strong) = sessions.upgrade() else { return };
        let pressed = tokio::time::timeout(ROUND, strong.pressed.notified()).await.is_ok();
        if pressed {
            strong.relieve(strong.config.max_memory).await;
            // Where nothing could be done, not at once again.
            drop(strong);
            tokio::time::sleep(ROUND / 10).await;
        } else {
            strong.round(Timestamp::now()).await;
        }
    }
}

impl Sessions {
    /// Does what is due at `now`.
    pub(super) async fn round(self: &Arc<Self>, now: Timestamp) {
        let entries: Vec<Arc<Entry>> = self.entries.iter().map(|entry| entry.value().clone()).collect();
        let mut forgotten = Vec::new();
        for entry in &entries {
            match self.due(entry, now) {
                Due::Nothing => {}
                Due::Forget => forgotten.push(entry.id()),
                Due::Close(reason, message) => self.close_behind(entry, reason, message),
                Due::Save => {
                    if let Some(pass) = entry.line.try_pass() {
                        self.save(entry, pass).await;
                    }
                }
                Due::Suspend => {
                    self.suspend(entry).await;
                }
            }
            let mut standing = entry.standing.lock();
            if standing.row_old {
                // A failure is in the store's health; what matters is written again with the next change.
                drop(self.write_row(entry, &mut standing));
            }
        }
        for id in forgotten {
            self.entries.remove(&id);
            drop(self.store.write(move |db| sessions::delete(db, id)));
        }
    }

    fn due(&self, entry: &Entry, now: Timestamp) -> Due {
        let standing = entry.standing.lock();
        if let Some(closure) = &standing.closure {
            let over = standing.calls.is_empty() && now.since(closure.time) >= self.config.keep_closed;
            return if over { Due::Forget } else { Due::Nothing };
        }
        if now >= entry.origin.expires() {
            let life = humantime::format_duration(entry.origin.limits.time_to_live);
            let message = format!("its time to live of {life} passed; create a new session");
            return Due::Close(ClosureReason::Expired, message);
        }
        if !standing.calls.is_empty() || standing.starting {
            return Due::Nothing;
        }
        let quiet = now.since(standing.last_active);
        if quiet >= entry.origin.limits.idle_timeout {
            let idle = humantime::format_duration(entry.origin.limits.idle_timeout);
            let message = format!("no call came for its idle timeout of {idle}; create a new session");
            return Due::Close(ClosureReason::Idle, message);
        }
        if !standing.in_memory || !entry.is_durable() {
            return Due::Nothing;
        }
        if quiet >= self.config.suspend_idle {
            return Due::Suspend;
        }
        let waited = match entry.origin.durability {
            Durability::None => false,
            Durability::Idle => quiet >= self.config.checkpoint_idle,
            // The saver does that, but for a checkpoint that failed.
            Durability::Turn => !standing.saver,
        };
        let pause = standing.retry.is_some_and(|retry| retry > Instant::now());
        if standing.unsaved.is_some() && waited && !pause { Due::Save } else { Due::Nothing }
    }

    /// Takes an idle session out of memory; answers whether it is out.
    pub(super) async fn suspend(self: &Arc<Self>, entry: &Arc<Entry>) -> bool {
        let (saved, pause) = {
            let standing = entry.standing.lock();
            (standing.is_saved(&entry.origin), standing.retry.is_some_and(|retry| retry > Instant::now()))
        };
        if !saved {
            if pause {
                return false;
            }
            let Some(pass) = pass_soon(entry).await else { return false };
            if !self.save(entry, pass).await {
                return false;
            }
        }
        let Some(_pass) = pass_soon(entry).await else { return false };
        {
            let mut standing = entry.standing.lock();
            if !standing.calls.is_empty() || !standing.is_saved(&entry.origin) {
                return false;
            }
            let change = standing.forget_kernel();
            self.count_memory(change);
        }
        drop(entry.take_kernel());
        true
    }

    /// Room in memory for one more kernel, or an error.
    pub(super) async fn make_room(self: &Arc<Self>) -> Result<()> {
        let max = self.config.max_memory;
        if self.memory_used() < max || self.relieve(max.saturating_sub(1)).await {
            return Ok(());
        }
        Err(Error::Overloaded {
            scope: "the memory of sessions (sessions.max_memory, in bytes)".into(),
            limit: max,
            retry_after: Duration::from_secs(1),
        })
    }

    /// Takes sessions out of memory, the longest idle first, until no more than `target` bytes are used; answers
    /// whether it got there. Sessions that are not durable are closed, but only once no other is left.
    pub(super) async fn relieve(self: &Arc<Self>, target: u64) -> bool {
        let mut idle: Vec<(bool, Timestamp, Arc<Entry>)> = self
            .entries
            .iter()
            .filter_map(|entry| {
                let standing = entry.standing.lock();
                // One that lives elsewhere takes nothing here.
                let idle = standing.in_memory && standing.calls.is_empty() && !standing.starting && !entry.is_housed();
                idle.then(|| (!entry.is_durable(), standing.last_active, entry.value().clone()))
            })
            .collect();
        idle.sort_by_key(|(last_resort, time, _)| (*last_resort, *time));
        for (last_resort, _, entry) in idle {
            if self.memory_used() <= target {
                break;
            }
            if last_resort {
                let message = "the server needed its memory for other sessions, and it was not durable; create a \
                               new one with another durability";
                self.close_behind(&entry, ClosureReason::Evicted, message.into());
            } else {
                self.suspend(&entry).await;
            }
        }
        self.memory_used() <= target
    }

    /// Takes no more sessions, makes durable what can be, and closes the rest. Executions have ended by then.
    pub async fn shut_down(self: &Arc<Self>) {
        self.closing.store(true, Ordering::Release);
        let entries: Vec<Arc<Entry>> = self.entries.iter().map(|entry| entry.value().clone()).collect();
        for entry in &entries {
            if entry.standing.lock().closure.is_some() {
                continue;
            }
            if entry.is_housed() {
                continue;
            }
            if !entry.is_durable() {
                let message = "the server shut down, and it was not durable; create a new session";
                self.close_behind(entry, ClosureReason::ServerShutdown, message.into());
                continue;
            }
            let pass = entry.line.enter_uncounted().pass().await;
            let saved = entry.standing.lock().is_saved(&entry.origin);
            if let Some(pass) = pass
                && !saved
                && !self.save(entry, pass).await
            {
                tracing::warn!(session = %entry.id(), "a session could not be made durable before the shutdown");
            }
        }
        // What was saved just now has not only its files but its row on disk: that is what saving waits for. What
        // merely changed is handed over before the store closes.
        for entry in &entries {
            let mut standing = entry.standing.lock();
            if standing.row_old {
                drop(self.write_row(entry, &mut standing));
            }
        }
    }
}

/// The pass of an idle session: a checkpoint may have it for a moment. Not longer: whoever else has it may in turn
/// be waiting for memory.
async fn pass_soon(entry: &Entry) -> Option<Pass> {
    tokio::time::timeout(PATIENCE, entry.line.enter_uncounted().pass()).await.ok().flatten()
}

enum Due {
    Nothing,
    Forget,
    Close(ClosureReason, String),
    Save,
    Suspend,
}
