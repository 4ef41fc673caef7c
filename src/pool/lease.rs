//! From a caller that asks to a container that is his.

use super::room::{Pool, State};
use crate::container::Fitness;
use crate::domain::container::Container;
use crate::domain::id::{ContainerId, LeaseId, RequestId};
use crate::domain::loan::Loan;
use crate::domain::time::Timestamp;
use crate::error::{Error, PoolError, Result};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// What somebody asks for.
#[derive(Clone, Debug)]
pub struct LeaseOrder {
    /// Who asks.
    pub principal: Arc<str>,
    /// Longest wait in line.
    pub wait: Duration,
    /// Length of the lease; none for the pool's longest.
    pub time: Option<Duration>,
    /// Labels to attach.
    pub labels: BTreeMap<String, String>,
    /// The request id, and a fingerprint of what is asked.
    pub request: Option<(RequestId, [u8; 32])>,
}

/// Somebody in line.
pub(super) struct Waiter {
    pub(super) order: LeaseOrder,
    pub(super) since: Instant,
    tell: oneshot::Sender<Result<Offer>>,
}

impl Waiter {
    /// Whether nobody waits any more.
    pub(super) fn is_gone(&self) -> bool {
        self.tell.is_closed()
    }

    /// Hands him a container. One that he does not take comes back.
    pub(super) fn give(self, offer: Offer) -> Option<Offer> {
        self.tell.send(Ok(offer)).err().and_then(Result::ok)
    }

    /// Sends him away.
    pub(super) fn refuse(self, why: Error) {
        // He may be gone.
        let _ = self.tell.send(Err(why));
    }
}

/// A container that was lent and whose borrower does not know yet. Without a request id nobody else will ever find it:
/// dropped, it is destroyed.
pub(super) struct Offer {
    pool: Arc<Pool>,
    container: Option<Box<Container>>,
}

impl Offer {
    /// Notes the loan, so that no kill of the server forgets it.
    async fn take(mut self) -> Result<Container> {
        let Some(container) = self.container.take() else {
            return Err(Error::Internal("a container was given twice".into()));
        };
        let (pool, id) = (self.pool.clone(), container.origin.id);
        if container.loan().is_none_or(|loan| loan.request_id.is_none()) {
            pool.note(&container)?;
        } else {
            // A caller that leaves finds it by its request id.
            let committed = tokio::spawn(commit(pool, id));
            committed.await.map_err(|error| Error::Internal(format!("a lease was not recorded: {error}")))??;
        }
        Ok(*container)
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        let Some(container) = self.container.take() else { return };
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        if container.loan().is_some_and(|loan| loan.request_id.is_some()) {
            tokio::spawn(commit(self.pool.clone(), container.origin.id));
        } else {
            self.pool.end_lease(container.origin.id, "its borrower left before it was told of it");
        }
    }
}

/// Puts a loan on disk, or takes it back.
async fn commit(pool: Arc<Pool>, id: ContainerId) -> Result<()> {
    let committed = pool.containers.keep_loan(id).await;
    if committed.is_err() {
        pool.end_lease(id, "its lease could not be recorded");
    }
    committed
}

/// What comes of a caller.
enum Come {
    Served(Offer),
    InLine(u64, oneshot::Receiver<Result<Offer>>),
}

/// A place in line, given up with this.
struct Place<'a> {
    pool: &'a Pool,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock();
        let left = state.line.leave(self.number);
        if left.is_some() {
            state.totals.abandoned += 1;
            state.unsaved = true;
            self.pool.wake.notify_one();
        }
    }
}

impl Pool {
    /// Lends a container: at once when one is idle, else in turn.
    pub(super) async fn lease(self: &Arc<Self>, order: LeaseOrder) -> Result<Container> {
        let wait = order.wait;
        let come = self.come(order);
        self.wake.notify_one();
        let (place, mut told) = match come? {
            Come::Served(offer) => return offer.take().await,
            Come::InLine(number, told) => (Place { pool: self, number }, told),
        };
        let answer = tokio::time::timeout(wait, &mut told).await;
        drop(place);
        match answer {
            Ok(Ok(offer)) => offer?.take().await,
            Ok(Err(_)) => Err(Error::ShuttingDown),
            // It may have come in this very moment.
            Err(_) => match told.try_recv() {
                Ok(offer) => offer?.take().await,
                Err(_) => Err(self.too_long(wait)),
            },
        }
    }

    fn too_long(&self, waited: Duration) -> Error {
        PoolError::WaitTooLong { name: self.origin.name.clone(), waited }.into()
    }

    /// Serves a caller, gives it a place in line, or says why neither.
    fn come(self: &Arc<Self>, order: LeaseOrder) -> Result<Come> {
        let mut state = self.state.lock();
        if let Some(why) = self.closed(&state) {
            return Err(why);
        }
        // Nobody passes those who wait.
        if state.line.is_empty()
            && let Some(offer) = self.lend_one(&mut state, &order, Duration::ZERO)
        {
            return Ok(Come::Served(offer));
        }
        if let Some(why) = self.barren(&state) {
            return Err(why);
        }
        if let Some(why) = self.full(&state) {
            state.totals.rejected += 1;
            state.unsaved = true;
            return Err(why);
        }
        if order.wait.is_zero() {
            return Err(self.too_long(order.wait));
        }
        let (tell, told) = oneshot::channel();
        let number = state.line.join(Waiter { order, since: Instant::now(), tell });
        Ok(Come::InLine(number, told))
    }

    /// Lends the first idle container that answers.
    pub(super) fn lend_one(self: &Arc<Self>, state: &mut State, order: &LeaseOrder, waited: Duration) -> Option<Offer> {
        let longest = state.record.settings.lease_time();
        loop {
            let id = self.first_fit(state)?;
            let now = Timestamp::now();
            let loan = Loan {
                lease: LeaseId::new(),
                principal: order.principal.clone(),
                labels: order.labels.clone(),
                request_id: order.request.map(|(id, _)| id),
                fingerprint: order.request.map(|(_, fingerprint)| fingerprint),
                created: now,
                expires: now.after(order.time.unwrap_or(longest).min(longest)),
                waited,
            };
            let expires = loan.expires;
            let Some(container) = self.containers.lend(id, loan) else {
                // It fell silent in this moment; if not, somebody had it before, and nobody is to have it again.
                if self.containers.fitness(id) == Fitness::Fit {
                    self.end(state, id, "it had been lent before");
                }
                continue;
            };
            state.idle.retain(|idle| idle.id != id);
            state.leased.insert(id, expires);
            state.totals.leases += 1;
            state.unsaved = true;
            state.waits.add(Instant::now(), waited);
            self.observer.leased(waited);
            return Some(Offer { pool: self.clone(), container: Some(Box::new(container)) });
        }
    }

    /// Notes a loan so that it survives a kill of the server, and has it recorded behind.
    fn note(self: &Arc<Self>, container: &Container) -> Result<()> {
        let id = container.origin.id;
        let Some(loan) = container.loan() else { return Ok(()) };
        if let Err(error) = self.marks.write(id, loan) {
            self.end_lease(id, "its lease could not be noted");
            let problem = format!("a lease could not be noted in the data directory: {error}");
            return Err(Error::StoreUnavailable { problem });
        }
        let (saved, marks) = (self.containers.keep_loan(id), self.marks.clone());
        tokio::spawn(async move {
            match saved.await {
                Ok(()) => marks.remove(id),
                Err(error) => tracing::error!(container = %id, %error, "a lease could not be recorded yet"),
            }
        });
        Ok(())
    }

    /// Ends a lease with its container; nothing for one that has ended. Answers whether it had not.
    pub(super) fn end_lease(self: &Arc<Self>, id: ContainerId, message: &str) -> bool {
        let mut state = self.state.lock();
        let running = state.leased.contains_key(&id);
        if running {
            self.end(&mut state, id, message);
        }
        drop(state);
        self.wake.notify_one();
        running
    }
}
