//! One execution on its way from its start to its end.

use super::admission::{Lane, Place, Slot};
use super::ended::Ended;
use super::live::Live;
use super::registry::Shared;
use crate::domain::execution::Exit;
use crate::domain::id::RequestId;
use crate::error::{Error, Result};
use crate::store::executions::{self, Intent};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The one handle that drives a new execution. Dropping it before its end cancels the execution.
pub struct Run {
    pub(super) live: Arc<Live>,
    pub(super) place: Option<Place>,
    /// Where it gets its slot later, if it has no place yet.
    pub(super) later: Option<Box<Lane>>,
    pub(super) shared: Arc<Shared>,
    pub(super) over: bool,
}

impl Run {
    /// The execution.
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Waits for a slot, runs `guest`, and records how it ended. Answers when readers see the end, which
    /// for an execution with a request id is when it is on disk; an error says that it could not get there.
    pub async fn drive<F>(mut self, guest: impl FnOnce(Arc<Live>) -> F) -> Result<Arc<Live>>
    where
        F: Future<Output = Ended>,
    {
        let ended = self.supervise(guest).await;
        self.finish(ended).await
    }

    /// As [`Run::drive`], for an execution that was begun with [`Registry::begin_later`]: the guest itself waits
    /// for its slot when it needs one, says when it starts, and heeds [`Live::end_wished`].
    pub async fn conduct<F>(mut self, guest: impl FnOnce(Arc<Live>, Turnstile) -> F) -> Result<Arc<Live>>
    where
        F: Future<Output = Ended>,
    {
        let turnstile = Turnstile { shared: self.shared.clone(), lane: self.later.take() };
        let ended = guest(self.live.clone(), turnstile).await;
        self.finish(ended).await
    }

    async fn finish(mut self, ended: Ended) -> Result<Arc<Live>> {
        self.live.close(ended);
        self.over = true;
        let (shared, live) = (self.shared.clone(), self.live.clone());
        if live.is_durable() {
            // A task of its own: the caller may go away while the disk is busy.
            tokio::spawn(shared.settle_durably(live.clone())).await.map_err(|error| {
                Error::Internal(format!("recording execution {} failed: {error}", live.origin().id))
            })??;
        } else {
            live.journal().publish();
            shared.settle(live.clone());
        }
        Ok(live)
    }

    async fn supervise<F>(&mut self, guest: impl FnOnce(Arc<Live>) -> F) -> Ended
    where
        F: Future<Output = Ended>,
    {
        let live = self.live.clone();
        let _slot = match self.place.take() {
            Some(Place::Slot(slot)) => slot,
            Some(Place::Seat(seat)) => tokio::select! {
                biased;
                ended = live.end_wished() => return ended,
                slot = seat.slot() => match slot {
                    Ok(slot) => slot,
                    Err(error) => return Ended::new(Exit::ServerShutdown, error.to_string()),
                },
            },
            None => return Ended::new(Exit::Internal, "it had no place to run"),
        };
        live.journal().start(0);
        tokio::select! {
            biased;
            ended = live.end_wished() => ended,
            ended = guest(live.clone()) => ended,
        }
    }

    /// Records the intent. Answers the earlier one if there was one.
    pub(super) async fn commit_intent(&self, request_id: RequestId) -> Result<Option<Intent>> {
        let live = self.live.clone();
        self.shared
            .keeper
            .store()
            .write(move |db| {
                let execution = live.execution();
                if let Some(known) = executions::intent(db, &execution.origin.principal, request_id)? {
                    return Ok(Some(known));
                }
                executions::put(db, &execution, live.fingerprint(), None)?;
                Ok(None)
            })
            .await
    }

    /// Takes back an execution that never was.
    pub(super) fn forget(mut self) {
        self.over = true;
        self.shared.running.remove(&self.live.origin().id);
        if let Some(ledger) = self.live.ledger() {
            ledger.remove();
        }
    }

    /// Takes back an execution that could not begin, for the caller to be told why. One with a request id stays, as one
    /// that never began: a retry is told the same.
    pub async fn refuse(self, message: String) -> Result<()> {
        if self.live.is_durable() {
            return self.finish(Ended::new(Exit::NotStarted, message)).await.map(drop);
        }
        self.forget();
        Ok(())
    }
}

/// Lets a conducted execution through to a slot.
pub struct Turnstile {
    shared: Arc<Shared>,
    lane: Option<Box<Lane>>,
}

impl Turnstile {
    /// Waits for a slot, first come, first served; an error when the server shuts down.
    pub async fn slot(&self) -> Result<Slot> {
        let lane = self.lane.as_deref();
        let lane = lane.ok_or_else(|| Error::Internal("an execution with a place of its own was conducted".into()))?;
        self.shared.admission.wait(lane).await
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // One that goes on without this server is found by the next.
        if self.over || (self.live.survives() && self.shared.closing.load(Ordering::Acquire)) {
            return;
        }
        let live = self.live.clone();
        // A guest that was conducted may have left word of what its sudden end did.
        let early = || Ended::new(Exit::Cancelled, "the call that ran it ended early, and so did the run");
        live.close(live.end_reason().unwrap_or_else(early));
        let shared = self.shared.clone();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if live.is_durable() => {
                runtime.spawn(shared.settle_durably(live));
            }
            _ => {
                live.journal().publish();
                shared.settle(live);
            }
        }
    }
}
