//! The end of a session: its calls end, its memory, room and files are given back, and its row says why.

use super::entry::Entry;
use super::manager::Sessions;
use crate::domain::execution::Exit;
use crate::domain::session::{Closure, ClosureReason};
use crate::domain::time::Timestamp;
use crate::error::Result;
use crate::execution::Ended;
use std::future::Future;
use std::sync::Arc;

impl Sessions {
    /// Closes a session; its row is written behind.
    pub(super) fn close_behind(self: &Arc<Self>, entry: &Arc<Entry>, reason: ClosureReason, message: String) {
        // A failure is in the store's health; the next start finds the session without its files.
        drop(self.close_entry(entry, reason, message));
    }

    /// Closes a session; `None` if it was closed before. The future ends when its row is on disk.
    pub(super) fn close_entry(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        reason: ClosureReason,
        message: String,
    ) -> Option<impl Future<Output = Result<()>> + Send + use<>> {
        let (written, calls, running) = {
            let mut standing = entry.standing.lock();
            if standing.closure.is_some() {
                return None;
            }
            standing.closure = Some(Closure { reason, message: message.clone(), time: Timestamp::now() });
            if let Some(chain) = standing.chain.take() {
                standing.stale.extend(chain.files);
            }
            standing.durable = None;
            standing.unsaved = None;
            let written = self.write_row(entry, &mut standing);
            (written, standing.calls.clone(), standing.running)
        };
        tracing::info!(session = %entry.id(), ?reason, message, "a session was closed");
        for live in calls {
            let runs = running == Some(live.origin().id);
            let exit = if runs || reason == ClosureReason::Closed { Exit::Cancelled } else { Exit::NotStarted };
            live.end(Ended::new(exit, format!("its session was closed: {message}")));
        }
        entry.release_room();
        if let Some(kernel) = entry.take_kernel() {
            let change = entry.standing.lock().forget_kernel();
            self.count_memory(change);
            kernel.end();
        }
        self.told_durable(entry.id(), None);
        let (sessions, entry) = (self.clone(), entry.clone());
        tokio::spawn(async move {
            // A checkpoint that is being written must not come after.
            let _saving = entry.saving.lock().await;
            let bytes = std::mem::take(&mut entry.standing.lock().stale).iter().map(|file| file.size).sum();
            let (files, id) = (sessions.files.clone(), entry.id());
            if tokio::task::spawn_blocking(move || files.remove_all(id)).await.is_ok() {
                sessions.disk.give_back(bytes);
            }
        });
        Some(written)
    }
}
