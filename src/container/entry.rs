//! One container in memory: what it is, how it stands, what runs in it.

use super::changes::Changes;
use super::gate;
use super::link::Link;
use super::manager::has_network;
use super::unsupervised::Handle;
use crate::domain::container::{Container, ContainerOrigin, ContainerState, ContainerStatus, Control, EndReason};
use crate::domain::health_check::Health;
use crate::domain::id::ExecutionId;
use crate::domain::loan::{Belonging, Loan};
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::execution::{Lane, Live};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// How long a call waits for a container that is being found again.
const ADOPTION: Duration = Duration::from_secs(5);

/// How a container that runs is spoken with.
pub(super) enum Way {
    /// Through its supervisor.
    Guest(Link),
    /// By the backend's own means.
    Backend,
}

/// A container in memory.
pub(super) struct Entry {
    pub(super) origin: Arc<ContainerOrigin>,
    status: Mutex<ContainerStatus>,
    belonging: Mutex<Option<Belonging>>,
    revision: AtomicU64,
    changes: Arc<Changes>,
    link: Mutex<Option<Link>>,
    /// Slots of the executions in it.
    pub(super) lane: Lane,
    /// What runs in it, its main process included.
    running: Mutex<BTreeMap<ExecutionId, Arc<Live>>>,
    /// Of those, what the backend runs.
    handles: Mutex<HashMap<ExecutionId, Handle>>,
    /// Told when it is to end without any grace.
    pub(super) hurry: Notify,
    /// Told when it runs, cannot, or is over.
    settled: Notify,
    /// Held while it is frozen or thawed, and while it is made a snapshot of.
    pub(super) still: tokio::sync::Mutex<()>,
    /// Somebody ends it.
    finishing: AtomicBool,
    /// What checks found of its health; none before the first.
    health: Mutex<Option<Health>>,
    /// Told when a check found something.
    checked: Notify,
}

impl Entry {
    pub(super) fn new(
        origin: ContainerOrigin,
        status: ContainerStatus,
        belonging: Option<Belonging>,
        changes: Arc<Changes>,
    ) -> Arc<Entry> {
        let lane = Lane::new(format!("container {:?}", origin.name), origin.spec.resources.executions);
        Arc::new(Entry {
            origin: Arc::new(origin),
            status: Mutex::new(status),
            belonging: Mutex::new(belonging),
            revision: AtomicU64::new(changes.next()),
            changes,
            link: Mutex::default(),
            lane,
            running: Mutex::default(),
            handles: Mutex::default(),
            hurry: Notify::new(),
            settled: Notify::new(),
            still: tokio::sync::Mutex::default(),
            finishing: AtomicBool::new(false),
            health: Mutex::default(),
            checked: Notify::new(),
        })
    }

    /// The status of a container that was just accepted.
    pub(super) fn accepted(now: Timestamp) -> ContainerStatus {
        ContainerStatus {
            state: ContainerState::Creating,
            problem: String::new(),
            backend_id: String::new(),
            started: None,
            ended: None,
            last_active: now,
            end: None,
            ending: None,
            control: Control::Unknown,
        }
    }

    pub(super) fn status(&self) -> ContainerStatus {
        self.status.lock().clone()
    }

    pub(super) fn state(&self) -> ContainerState {
        self.status.lock().state
    }

    pub(super) fn backend_id(&self) -> String {
        self.status.lock().backend_id.clone()
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Changes how it stands, and tells whoever watches.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut ContainerStatus) -> T) -> T {
        let (changed, settled) = {
            let mut status = self.status.lock();
            let changed = change(&mut status);
            (changed, !matches!(status.state, ContainerState::Creating | ContainerState::Starting))
        };
        self.touch();
        if settled {
            self.settled.notify_waiters();
        }
        changed
    }

    fn touch(&self) {
        self.revision.store(self.changes.next(), Ordering::Release);
        self.changes.tell();
    }

    /// Says why it is to end, if nobody did before. Answers whether this is the first.
    pub(super) fn doom(&self, reason: EndReason) -> bool {
        self.change(|status| {
            let first = status.ending.is_none() && !status.state.is_over();
            if first {
                status.ending = Some(reason);
                status.state = ContainerState::Stopping;
            }
            first
        })
    }

    /// How it stands, for whoever asks.
    pub(super) fn container(&self) -> Container {
        let main = self.origin.main_execution;
        let running = self.running.lock().keys().filter(|id| **id != main).count();
        Container {
            origin: self.origin.clone(),
            status: self.status(),
            belonging: self.belonging(),
            running_executions: u32::try_from(running).unwrap_or(u32::MAX),
            revision: self.revision(),
            health: self.health(),
        }
    }

    /// What checks found of its health.
    pub(super) fn health(&self) -> Option<Health> {
        self.health.lock().clone()
    }

    /// Takes what a check found. Watchers are told when that is another verdict.
    pub(super) fn check(&self, note: impl FnOnce(&mut Health)) {
        let changed = {
            let mut health = self.health.lock();
            let health = health.get_or_insert_default();
            let before = health.verdict;
            note(health);
            before != health.verdict
        };
        if changed {
            self.touch();
        }
        self.checked.notify_waiters();
    }

    /// Ready when a check has found something, from this moment on.
    pub(super) fn told_health(&self) -> impl Future<Output = ()> {
        let mut told = Box::pin(self.checked.notified());
        told.as_mut().enable();
        told
    }

    /// The pool it was made for.
    pub(super) fn belonging(&self) -> Option<Belonging> {
        self.belonging.lock().clone()
    }

    /// Lends it. False if it belongs to no pool, or was lent before.
    pub(super) fn lend(&self, loan: Loan) -> bool {
        let lent = match &mut *self.belonging.lock() {
            Some(Belonging { loan: free @ None, .. }) => free.replace(loan).is_none(),
            _ => false,
        };
        if lent {
            self.touch();
        }
        lent
    }

    /// Whether it is somebody's: it was made for him, or is on loan to him.
    pub(super) fn is_of(&self, principal: &str) -> bool {
        match &*self.belonging.lock() {
            Some(Belonging { loan: Some(loan), .. }) => *loan.principal == *principal,
            _ => *self.origin.principal == *principal,
        }
    }

    pub(super) fn link(&self) -> Option<Link> {
        self.link.lock().clone()
    }

    pub(super) fn take_link(&self) -> Option<Link> {
        self.link.lock().take()
    }

    pub(super) fn set_link(&self, link: Link) {
        *self.link.lock() = Some(link);
    }

    /// Whether its processes have a gate: those that reach no network otherwise, and whose supervisor passes them on.
    pub(super) fn has_gate(&self) -> bool {
        !has_network(self.origin.spec.policy) && !self.is_unsupervised()
    }

    /// Variables that its processes have.
    pub(super) fn environment(&self) -> BTreeMap<String, String> {
        let mut all = self.origin.environment.clone();
        if self.has_gate() {
            gate::point(&mut all);
        }
        all
    }

    /// Whether it has no supervisor, and never will.
    pub(super) fn is_unsupervised(&self) -> bool {
        matches!(self.status.lock().control, Control::Backend { .. })
    }

    /// Whether this is the first to end it: who wants that, and who finds after a restart that it was wanted, may meet.
    pub(super) fn begins_to_finish(&self) -> bool {
        !self.finishing.swap(true, Ordering::AcqRel)
    }

    /// Whether somebody wants it to end.
    pub(super) fn is_ending(&self) -> bool {
        self.status.lock().ending.is_some()
    }

    /// How to speak with a container that runs.
    pub(super) fn ready(&self) -> Result<Way> {
        let id = self.origin.id;
        if let Some(Belonging { pool, loan: None, .. }) = &*self.belonging.lock() {
            let problem = format!("waits in pool {pool:?}, and nobody uses it before it is leased (LeaseContainer)");
            return Err(Error::ContainerNotReady { id, problem });
        }
        self.reachable()
    }

    /// As [`Entry::ready`], whether or not it is lent.
    pub(super) fn reachable(&self) -> Result<Way> {
        let id = self.origin.id;
        let problem = match self.state() {
            ContainerState::Running if self.is_unsupervised() => return Ok(Way::Backend),
            ContainerState::Running => match self.link() {
                Some(link) => return Ok(Way::Guest(link)),
                None => "cannot be reached yet; try again".to_owned(),
            },
            ContainerState::Paused => "is paused; resume it first (ResumeContainer)".into(),
            ContainerState::Creating | ContainerState::Starting => {
                "does not run yet; wait for it (WatchContainers)".into()
            }
            ContainerState::Stopping => "is being stopped; spawn another".into(),
            ContainerState::Ended | ContainerState::Failed => "is over; spawn another".into(),
            ContainerState::Unreachable => {
                return Err(Error::BackendUnavailable {
                    problem: format!("container {id} cannot be reached until the backend answers again; try again"),
                });
            }
        };
        Err(Error::ContainerNotReady { id, problem })
    }

    /// Waits a moment for a container that a new server has not found again yet.
    pub(super) async fn adopted(&self) {
        let found = self.until(|state| state != ContainerState::Unreachable);
        let _ = tokio::time::timeout(ADOPTION, found).await;
    }

    /// Something runs in it.
    pub(super) fn entered(&self, live: Arc<Live>) {
        self.running.lock().insert(live.origin().id, live);
        self.active();
    }

    /// The backend runs it.
    pub(super) fn hold(&self, id: ExecutionId, handle: Handle) {
        self.handles.lock().insert(id, handle);
    }

    /// What acts upon something that the backend runs, while it does.
    pub(super) fn handle(&self, id: ExecutionId) -> Option<Handle> {
        self.handles.lock().get(&id).cloned()
    }

    /// It runs no more.
    pub(super) fn left(&self, id: ExecutionId) {
        self.running.lock().remove(&id);
        self.handles.lock().remove(&id);
        self.active();
    }

    /// Something happened in it.
    pub(super) fn active(&self) {
        self.status.lock().last_active = Timestamp::now();
        self.touch();
    }

    /// All that runs in it.
    pub(super) fn running(&self) -> Vec<Arc<Live>> {
        self.running.lock().values().cloned().collect()
    }

    /// Its main process, while that runs.
    pub(super) fn main(&self) -> Option<Arc<Live>> {
        self.running.lock().get(&self.origin.main_execution).cloned()
    }

    /// Waits until its state is as wanted.
    pub(super) async fn until(&self, wanted: impl Fn(ContainerState) -> bool) {
        let mut told = std::pin::pin!(self.settled.notified());
        loop {
            told.as_mut().enable();
            if wanted(self.state()) {
                return;
            }
            told.as_mut().await;
            told.set(self.settled.notified());
        }
    }
}
