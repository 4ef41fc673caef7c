//! What pools do with containers: they have them made, lend each once, and end them.

use super::entry::Entry;
use super::link::LinkState;
use super::manager::{Containers, Roster, Viewer};
use super::wish::Wish;
use crate::domain::container::{Container, ContainerSpec, ContainerState, EndReason, PullPolicy};
use crate::domain::health_check::{Health, Verdict};
use crate::domain::id::{ContainerId, LeaseId, RequestId};
use crate::domain::image::ImageReference;
use crate::domain::loan::Loan;
use crate::error::{Error, Result};
use crate::store::pools;
use std::sync::Arc;
use std::time::Duration;

impl Roster {
    /// A container is on loan, or was.
    pub(super) fn lent(&mut self, id: ContainerId, loan: &Loan) {
        self.leases.insert(loan.lease, id);
        if let Some(request_id) = loan.request_id {
            self.requests.insert((loan.principal.clone(), request_id), id);
        }
    }

    /// Nobody remembers that loan any more.
    pub(super) fn returned(&mut self, loan: &Loan) {
        self.leases.remove(&loan.lease);
        if let Some(request_id) = loan.request_id {
            self.requests.remove(&(loan.principal.clone(), request_id));
        }
    }
}

/// How a container of a pool stands, for whoever wants to lend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fitness {
    /// It runs and answers.
    Fit,
    /// It may run, but does not answer now, or was not found healthy yet.
    Silent,
    /// Its health check found it unhealthy.
    Unwell,
    /// It is over, or ends.
    Over,
}

impl Containers {
    /// What a wish of somebody comes to: with its template's word, and as a specification under the operator's policy.
    pub fn consider(&self, wish: Wish, owner: &Arc<str>) -> Result<(Wish, ContainerSpec)> {
        let (wish, _) = self.source(wish, &Viewer { name: owner.clone(), administers: false })?;
        let spec = self.policy().resolve(wish.clone(), "pool")?;
        Ok((wish, spec))
    }

    /// Tells what would keep a container from being made here, as far as that shows before it is tried.
    pub async fn try_out(&self, wish: &Wish, spec: &ContainerSpec) -> Result<()> {
        self.check_backend(spec)?;
        // A snapshot is looked at as a whole by whoever starts from it.
        if spec.pull == PullPolicy::Never && wish.snapshot.is_empty() {
            let reference =
                ImageReference::parse(&spec.image).map_err(|problem| Error::invalid("spec.image", problem))?;
            let here = self.backend.image(&reference).await.map_err(super::manager::backend_error)?;
            if here.is_none() {
                let problem = "it is not here and is not to be pulled; pull it (PullImage), or leave pull_policy unset";
                return Err(Error::ImageNotFound { reference: reference.to_string(), problem: problem.into() });
            }
        }
        Ok(())
    }

    /// Containers there may be at most.
    pub fn most(&self) -> u32 {
        self.config.max_containers
    }

    /// All containers that were made for pools and are not over.
    pub fn of_pools(&self) -> Vec<Container> {
        let entries = self.entries.iter().filter(|entry| !entry.state().is_over());
        entries.map(|entry| entry.container()).filter(|container| container.belonging.is_some()).collect()
    }

    /// How a container stands.
    pub fn fitness(&self, id: ContainerId) -> Fitness {
        self.entry(id).map_or(Fitness::Over, |entry| fitness(&entry))
    }

    /// Lends a container that runs and that nobody has used. It is his at once; what is on disk follows with
    /// [`Containers::keep_loan`]. None if it cannot be lent.
    pub fn lend(&self, id: ContainerId, loan: Loan) -> Option<Container> {
        let entry = self.entry(id)?;
        (fitness(&entry) == Fitness::Fit).then(|| self.lent(&entry, loan)).flatten()
    }

    /// As [`Containers::lend`], for a loan that was told of before the server died.
    pub fn lend_again(&self, id: ContainerId, loan: Loan) -> Option<Container> {
        self.lent(&self.entry(id)?, loan)
    }

    fn lent(&self, entry: &Arc<Entry>, loan: Loan) -> Option<Container> {
        let mut roster = self.roster.lock();
        if !entry.lend(loan.clone()) {
            return None;
        }
        roster.lent(entry.origin.id, &loan);
        drop(roster);
        entry.active();
        Some(entry.container())
    }

    /// Writes how a container stands; answers when that is on disk.
    pub async fn keep_record(&self, id: ContainerId) -> Result<()> {
        match self.entry(id) {
            Some(entry) => self.save(&entry).await,
            None => Ok(()),
        }
    }

    /// Writes that a container was lent, once for each loan; answers when that is on disk.
    pub fn keep_loan(&self, id: ContainerId) -> impl Future<Output = Result<()>> + Send + use<> {
        let (entry, store) = (self.entry(id), self.store.clone());
        // Handed over now, awaited later.
        let saved = entry.map(|entry| {
            store.write(move |db| pools::lent(db, &entry.origin, &entry.status(), entry.belonging().as_ref()))
        });
        async move {
            match saved {
                Some(saved) => saved.await,
                None => Ok(()),
            }
        }
    }

    /// A container that was lent with this lease, or has this id and was lent.
    pub fn lent_as(&self, lease: LeaseId) -> Option<Container> {
        let by_lease = self.roster.lock().leases.get(&lease).copied();
        let id = by_lease.unwrap_or(ContainerId::from_bytes(*lease.as_bytes()));
        self.entry(id).map(|entry| entry.container()).filter(|container| container.loan().is_some())
    }

    /// The container that a request id led to, made or lent.
    pub fn requested(&self, principal: &Arc<str>, request_id: RequestId) -> Option<Container> {
        let id = self.roster.lock().requests.get(&(principal.clone(), request_id)).copied()?;
        self.entry(id).map(|entry| entry.container())
    }

    /// Ends a container of a pool at once, with all that is in it. False if somebody else began that before.
    pub fn dismiss(&self, id: ContainerId, message: &str) -> bool {
        let (Some(entry), Ok(this)) = (self.entry(id), self.share()) else { return false };
        let (state, ending) = (entry.state(), entry.is_ending());
        if state == ContainerState::Unreachable && !ending {
            // Whoever looks for it after a start comes first: what is found is ended once.
            let message = message.to_owned();
            tokio::spawn(async move {
                entry.until(|state| state != ContainerState::Unreachable).await;
                this.begin_end(&entry, EndReason::Released, message, Duration::ZERO);
            });
            return true;
        }
        this.begin_end(&entry, EndReason::Released, message.to_owned(), Duration::ZERO);
        !ending && !state.is_over()
    }

    /// Waits until a container answers and its health is known, if somebody checks it; or until it never will.
    pub async fn answers(&self, id: ContainerId) -> Fitness {
        let Some(entry) = self.entry(id) else { return Fitness::Over };
        // One that is being made is settled when it runs; one that a new server looks for, when it was found.
        entry.until(|state| state != ContainerState::Unreachable && !made(state)).await;
        if let Some(link) = entry.link()
            && fitness(&entry) == Fitness::Silent
        {
            let connected = async { drop(link.connected().await) };
            tokio::select! {
                () = connected => {}
                () = entry.until(leaves) => {}
            }
        }
        entry.verdict().await;
        fitness(&entry)
    }

    /// Waits until the end of a container begins.
    pub fn leaves(&self, id: ContainerId) -> impl Future<Output = ()> + Send + use<> {
        until(self.entry(id), leaves)
    }

    /// Waits until a container is over, whoever asks.
    pub fn left(&self, id: ContainerId) -> impl Future<Output = ()> + Send + use<> {
        until(self.entry(id), ContainerState::is_over)
    }

    /// Waits until a container is found unhealthy, or its end begins; without a check until then.
    pub fn unwell(&self, id: ContainerId) -> impl Future<Output = ()> + Send + use<> {
        let entry = self.entry(id);
        async move {
            let Some(entry) = entry else { return };
            let unwell = async {
                loop {
                    let told = entry.told_health();
                    if entry.health().is_some_and(|health| health.verdict == Some(Verdict::Unhealthy)) {
                        return;
                    }
                    told.await;
                }
            };
            tokio::select! {
                () = unwell => {}
                () = entry.until(leaves) => {}
            }
        }
    }

    /// What checks found of a container's health.
    pub fn health(&self, id: ContainerId) -> Option<Health> {
        self.entry(id)?.health()
    }

    fn entry(&self, id: ContainerId) -> Option<Arc<Entry>> {
        self.entries.get(&id).map(|entry| entry.value().clone())
    }
}

/// Holds the container alone, for as long as that takes.
async fn until(entry: Option<Arc<Entry>>, wanted: fn(ContainerState) -> bool) {
    if let Some(entry) = entry {
        entry.until(wanted).await;
    }
}

/// Whether it is being made.
fn made(state: ContainerState) -> bool {
    matches!(state, ContainerState::Creating | ContainerState::Starting)
}

fn leaves(state: ContainerState) -> bool {
    state == ContainerState::Stopping || state.is_over()
}

fn fitness(entry: &Entry) -> Fitness {
    let verdict = entry.health().and_then(|health| health.verdict);
    match entry.state() {
        state if leaves(state) => Fitness::Over,
        ContainerState::Running if verdict == Some(Verdict::Unhealthy) => Fitness::Unwell,
        ContainerState::Running if verdict.is_none() && entry.origin.health_check.is_some() => Fitness::Silent,
        ContainerState::Running if entry.is_unsupervised() => Fitness::Fit,
        ContainerState::Running => {
            match entry.link().map(|link| matches!(*link.state().borrow(), LinkState::Connected { .. })) {
                Some(true) => Fitness::Fit,
                _ => Fitness::Silent,
            }
        }
        _ => Fitness::Silent,
    }
}
