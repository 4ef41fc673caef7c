//! Checkpoints: when they are taken, and how each comes to count.
//!
//! Nobody waits for one. The kernel is held only while its state is copied; the copy is written, flushed and
//! recorded while calls go on.

use super::checkpoint::{Heading, largest_size};
use super::entry::{Durable, Entry};
use super::kernel::{Extent, Frozen};
use super::line::Pass;
use super::manager::Sessions;
use crate::domain::id::SessionId;
use crate::domain::session::Durability;
use crate::domain::time::Timestamp;
use crate::error::Result;
use crate::store::sessions::{CheckpointRecord, FileRecord};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::sleep_until;

/// How long a session must be quiet before it is frozen between calls that follow each other.
const QUIET: Duration = Duration::from_millis(1);
/// At most one freeze in so long a time, and none of its turns waits longer for one.
const INTERVAL: Duration = Duration::from_millis(50);
/// Pause after a checkpoint that failed.
const PAUSE: Duration = Duration::from_secs(5);
/// Files of one chain; more would make the way back slow.
const MAX_FILES: usize = 64;

impl Sessions {
    /// Has a task see to the checkpoint of a session that was changed.
    pub(super) fn schedule(self: &Arc<Self>, entry: &Arc<Entry>) {
        if entry.origin.durability != Durability::Turn {
            return;
        }
        let mut standing = entry.standing.lock();
        let pause = standing.retry.is_some_and(|retry| retry > Instant::now());
        if standing.saver || pause || standing.closure.is_some() || standing.unsaved.is_none() {
            return;
        }
        standing.saver = true;
        drop(standing);
        tokio::spawn(look_after(self.clone(), entry.clone()));
    }

    /// Takes a checkpoint of a session whose pass is given, and answers when it counts. The pass is free again
    /// once the state is copied. Failures are told where they belong; `false` says that there was one.
    pub(super) async fn save(self: &Arc<Self>, entry: &Arc<Entry>, pass: Pass) -> bool {
        let _saving = entry.saving.lock().await;
        match self.checkpoint(entry, pass).await {
            Ok(()) => {
                self.told_durable(entry.id(), None);
                true
            }
            Err(problem) => {
                {
                    let mut standing = entry.standing.lock();
                    standing.extent = Extent::Whole;
                    standing.retry = Some(Instant::now() + PAUSE);
                    if standing.closure.is_some() {
                        return false;
                    }
                    if standing.in_memory {
                        standing.unsaved.get_or_insert_with(Instant::now);
                    }
                }
                self.told_durable(entry.id(), Some(problem));
                false
            }
        }
    }

    async fn checkpoint(self: &Arc<Self>, entry: &Arc<Entry>, pass: Pass) -> Result<(), String> {
        let Some(mut kernel) = entry.take_kernel() else { return Ok(()) };
        let (extent, turn, incarnation) = {
            let mut standing = entry.standing.lock();
            let extent = match &standing.chain {
                Some(chain) if standing.extent == Extent::Changed && !outgrown(chain) => Extent::Changed,
                _ => Extent::Whole,
            };
            // What comes after this freeze is new. Should the freeze fail, it is noted again.
            standing.unsaved = None;
            standing.last_freeze = Some(Instant::now());
            standing.extent = Extent::Changed;
            (extent, standing.turn, standing.incarnation)
        };
        let time = Timestamp::now();
        let freeze = move || {
            let frozen = kernel.freeze(extent);
            (kernel, frozen)
        };
        let (kernel, frozen) = match tokio::task::spawn_blocking(freeze).await {
            Ok(frozen) => frozen,
            Err(error) => {
                // The kernel went down with it, and so did its state.
                let reason = crate::domain::interruption::InterruptionReason::Trapped;
                self.lose(entry, reason, None);
                return Err(format!("freezing the state panicked: {error}"));
            }
        };
        self.count_memory(entry.put_kernel(kernel));
        drop(pass);
        let frozen = frozen.map_err(|error| error.to_string())?;
        if extent == Extent::Whole && !frozen.whole {
            return Err("the interpreter gave a change where its whole state was asked for".into());
        }
        let file = self.write_file(entry, turn, &frozen).await?;
        self.commit(entry, turn, time, incarnation, file).await
    }

    /// Writes the file of a checkpoint, within the bounds.
    async fn write_file(&self, entry: &Entry, turn: u64, frozen: &Frozen) -> Result<FileRecord, String> {
        let size = largest_size(frozen);
        let chain = entry.standing.lock().chain.as_ref().map_or(0, CheckpointRecord::bytes);
        let total = if frozen.whole { size } else { size + chain };
        if total > self.config.max_checkpoint {
            let max = self.config.max_checkpoint;
            return Err(format!("it takes {total} bytes, of at most {max} (sessions.max_checkpoint)"));
        }
        self.disk.take(size).map_err(|used| {
            let max = self.disk.max();
            format!("it takes {size} bytes, and {used} of at most {max} are used (sessions.max_checkpoints)")
        })?;
        let kernels = self.kernels(&entry.origin.tool).map_err(|error| error.to_string())?;
        let heading = Heading { fingerprint: kernels.fingerprint(), session: entry.id(), turn };
        let (files, frozen) = (self.files.clone(), frozen.clone());
        let write = move || {
            let file = files.write_aside(&heading, &frozen)?;
            files
                .settle(heading.session, &file)
                .inspect_err(|_| files.remove(heading.session, std::slice::from_ref(&file)))?;
            Ok(file)
        };
        let written: Result<std::io::Result<FileRecord>, _> = tokio::task::spawn_blocking(write).await;
        match written {
            Ok(Ok(file)) => {
                self.disk.give_back(size.saturating_sub(file.size));
                Ok(file)
            }
            Ok(Err(error)) => {
                self.disk.give_back(size);
                Err(format!("its file cannot be written: {error}"))
            }
            Err(error) => {
                self.disk.give_back(size);
                Err(format!("writing its file panicked: {error}"))
            }
        }
    }

    /// Makes a file that is on disk count.
    async fn commit(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        turn: u64,
        time: Timestamp,
        incarnation: u64,
        file: FileRecord,
    ) -> Result<(), String> {
        let accepted = {
            let mut standing = entry.standing.lock();
            if standing.closure.is_some() || standing.incarnation != incarnation {
                Err(file)
            } else {
                let chain = match standing.chain.take() {
                    Some(mut chain) if !file.whole => {
                        chain.files.push(file);
                        CheckpointRecord { turn, time, ..chain }
                    }
                    old => {
                        standing.stale.extend(old.into_iter().flat_map(|old| old.files));
                        CheckpointRecord { turn, time, files: vec![file] }
                    }
                };
                let durable = Durable::of(&chain);
                standing.chain = Some(chain);
                Ok((self.write_row(entry, &mut standing), durable))
            }
        };
        let (written, durable) = match accepted {
            Ok(accepted) => accepted,
            // The session went on from an older state, or not at all.
            Err(unwanted) => {
                self.remove_files(entry, vec![unwanted]).await;
                return Ok(());
            }
        };
        // Should this fail, the files stay in use all the same, and the next row that gets through names them. Those
        // they replace stay until then.
        written.await.map_err(|error| error.to_string())?;
        {
            let mut standing = entry.standing.lock();
            if standing.closure.is_none() {
                standing.durable = Some(durable);
            }
        }
        let stale = std::mem::take(&mut entry.standing.lock().stale);
        self.remove_files(entry, stale).await;
        Ok(())
    }

    async fn remove_files(&self, entry: &Entry, unwanted: Vec<FileRecord>) {
        if unwanted.is_empty() {
            return;
        }
        let bytes = unwanted.iter().map(|file| file.size).sum();
        let (files, id) = (self.files.clone(), entry.id());
        // A panic there leaves files that the next start removes.
        let _ = tokio::task::spawn_blocking(move || files.remove(id, &unwanted)).await;
        self.disk.give_back(bytes);
    }

    /// Tells whether the state of a session can be made durable, when that changed.
    pub(super) fn told_durable(&self, session: SessionId, problem: Option<String>) {
        let mut failing = self.failing.lock();
        let before = failing.len();
        match problem {
            Some(problem) => {
                if failing.insert(session, problem.clone()).is_none() {
                    tracing::warn!(%session, %problem, "the state of a session is not durable now; it goes on");
                }
                self.observer.durability(Some((failing.len(), &problem)));
            }
            None if failing.remove(&session).is_some() => {
                tracing::info!(%session, "the state of a session is durable again, or the session is over");
                let other = failing.values().next();
                self.observer.durability(other.map(|problem| (before - 1, problem.as_str())));
            }
            None => {}
        }
    }
}

/// Whether the changes outweigh the state they began with: a new whole state is then the smaller chain.
fn outgrown(chain: &CheckpointRecord) -> bool {
    let whole: u64 = chain.files.iter().filter(|file| file.whole).map(|file| file.size).sum();
    chain.files.len() >= MAX_FILES || chain.bytes() - whole > whole
}

/// Takes checkpoints of one session until nothing is unsaved.
async fn look_after(sessions: Arc<Sessions>, entry: Arc<Entry>) {
    loop {
        let Some(pass) = right_moment(&entry).await else { return };
        let saved = sessions.save(&entry, pass).await;
        let mut standing = entry.standing.lock();
        if !saved || standing.unsaved.is_none() || standing.closure.is_some() {
            standing.saver = false;
            return;
        }
    }
}

/// Waits until the session is quiet, or until it was not for too long. `None`, with the task signed off, when
/// there is nothing to do any more.
async fn right_moment(entry: &Entry) -> Option<Pass> {
    loop {
        let (quiet, last, earliest) = {
            let mut standing = entry.standing.lock();
            let (Some(since), None) = (standing.unsaved, &standing.closure) else {
                standing.saver = false;
                return None;
            };
            let earliest = standing.last_freeze.map_or(since, |freeze| freeze + INTERVAL);
            (standing.last_end + QUIET, since + INTERVAL, earliest)
        };
        let now = Instant::now();
        if now >= last {
            // In line with the calls: those that wait now go first, those that come later do not.
            let pass = entry.line.enter_uncounted().pass().await?;
            if entry.standing.lock().unsaved.is_some() {
                return Some(pass);
            }
            continue;
        }
        let due = quiet.max(earliest);
        if now >= due
            && let Some(pass) = entry.line.try_pass()
        {
            return Some(pass);
        }
        let next = if due > now { due } else { now + QUIET };
        sleep_until(next.min(last).into()).await;
    }
}
