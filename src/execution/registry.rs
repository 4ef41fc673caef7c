//! All executions: how they begin, run, end, and are found again.

use super::admission::{Admission, Lane, Place};
use super::ended::Ended;
use super::keeper::{self, Keeper};
use super::ledger::Ledgers;
use super::live::Live;
use super::recent::Recent;
use super::run::Run;
use super::stdin::Stdin;
use super::survival;
use crate::domain::execution::{Execution, Exit, Origin, Subject};
use crate::domain::id::{ExecutionId, RequestId, SessionId};
use crate::domain::limits::Limits;
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::executions::{self, Filter, Intent, Retention};
use bytes::Bytes;
use dashmap::DashMap;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Bounds of a registry.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// Executions that run at the same time.
    pub max_running: u32,
    /// Executions that wait for a slot.
    pub max_queued: usize,
    /// What the store keeps.
    pub retention: Retention,
    /// Bytes of ended executions that stay in memory as well.
    pub memory: u64,
    /// Where ledgers are, of executions that outlive the server; without one, none does.
    pub ledgers: Option<PathBuf>,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        RegistryConfig {
            max_running: 1024,
            max_queued: 1024,
            retention: Retention {
                max_count: 100_000,
                max_age: Duration::from_secs(7 * 24 * 3600),
                max_bytes: 1 << 30,
            },
            memory: 64 << 20,
            ledgers: None,
        }
    }
}

/// Hears of executions; the metrics do.
pub trait RegistryObserver: Send + Sync + 'static {
    /// One ended.
    fn ended(&self, execution: &Execution);
    /// One was turned away.
    fn rejected(&self);
}

/// Hears nothing.
pub struct NoObserver;

impl RegistryObserver for NoObserver {
    fn ended(&self, _: &Execution) {}
    fn rejected(&self) {}
}

/// What is to be run.
pub struct Start {
    /// Its id, if somebody chose it before.
    pub id: Option<ExecutionId>,
    /// What it is.
    pub subject: Subject,
    /// Who asks.
    pub principal: Arc<str>,
    /// The caller's request id, and a fingerprint of what it asks for.
    pub request: Option<(RequestId, [u8; 32])>,
    /// The caller's labels.
    pub labels: BTreeMap<String, String>,
    /// The limits in force.
    pub limits: Limits,
    /// What standard input begins with, and what callers' offsets do not count: a tool's parameters.
    pub stdin: Bytes,
    /// What callers gave for standard input with the call: it follows, and counts.
    pub stdin_given: Bytes,
    /// Whether standard input stays open after that.
    pub stdin_open: bool,
    /// The session it runs in.
    pub session: Option<SessionId>,
    /// The execution whose code called this tool.
    pub parent: Option<ExecutionId>,
    /// The session, container, pool or snapshot it runs in, in words; empty for a fresh isolate.
    pub target: Arc<str>,
    /// The slots it takes besides the server's.
    pub lane: Lane,
}

/// What became of a start.
pub enum Begun {
    /// A new execution, to be driven.
    New(Run),
    /// The execution that an earlier call with the same request id started.
    Existing(Arc<Live>),
}

/// The registry. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) running: DashMap<ExecutionId, Arc<Live>>,
    recent: Recent,
    pub(super) admission: Admission,
    pub(super) keeper: Keeper,
    observer: Arc<dyn RegistryObserver>,
    pub(super) closing: AtomicBool,
    /// Told whenever the last running execution ends.
    idle: Notify,
    ledgers: Option<Arc<Ledgers>>,
    /// Those that went on while there was no server, until somebody takes them up.
    pub(super) survivors: Mutex<Vec<Run>>,
}

impl Registry {
    /// A registry over a store. Executions that a killed server left unfinished become lost first.
    pub async fn open(
        store: Arc<Store>,
        config: RegistryConfig,
        observer: Arc<dyn RegistryObserver>,
    ) -> Result<Registry> {
        let ledgers = config.ledgers.map(survival::open).transpose()?;
        let found = survival::find(&store, ledgers.as_ref()).await?;
        let shared = Arc::new(Shared {
            running: DashMap::new(),
            recent: Recent::new(config.memory),
            admission: Admission::new(config.max_running, config.max_queued),
            keeper: Keeper::new(store, config.retention),
            observer,
            closing: AtomicBool::new(false),
            idle: Notify::new(),
            ledgers,
            survivors: Mutex::default(),
        });
        for live in found {
            shared.running.insert(live.origin().id, live.clone());
            let run = Run { live, place: None, later: None, shared: shared.clone(), over: false };
            shared.survivors.lock().push(run);
        }
        tokio::spawn(keeper::run(Arc::downgrade(&shared)));
        Ok(Registry { shared })
    }

    /// Admits an execution, or finds the one that the same request id started. With a request id, the
    /// intent is on disk when this answers.
    pub async fn begin(&self, start: Start) -> Result<Begun> {
        let child = start.parent.is_some();
        self.begin_with(start, false, |shared, lane| {
            let place = if child { shared.admission.enter_child(lane) } else { shared.admission.enter(lane) };
            place.map(Some).inspect_err(|_| shared.observer.rejected())
        })
        .await
    }

    /// As [`Registry::begin`], for an execution that waits for something else before it needs a slot: it is to be
    /// conducted, not driven.
    pub async fn begin_later(&self, start: Start) -> Result<Begun> {
        self.begin_with(start, false, |_, _| Ok(None)).await
    }

    /// As [`Registry::begin_later`], for an execution that runs outside of this server and outlives it. It takes a slot
    /// of its lane alone, at once or never, and gives it back with its end.
    pub async fn begin_outside(&self, start: Start) -> Result<Begun> {
        self.begin_with(start, true, enter_outside).await
    }

    /// As [`Registry::begin_outside`], for one that runs outside of this server and ends with it all the same.
    pub async fn begin_beside(&self, start: Start) -> Result<Begun> {
        self.begin_with(start, false, enter_outside).await
    }

    /// The executions that went on while there was no server, each to be conducted. They are found once.
    pub fn take_survivors(&self) -> Vec<Run> {
        std::mem::take(&mut *self.shared.survivors.lock())
    }

    /// The execution that an earlier call with this request id started, if there is one.
    pub async fn earlier(
        &self,
        principal: &Arc<str>,
        request_id: RequestId,
        fingerprint: &[u8; 32],
    ) -> Result<Option<Arc<Live>>> {
        let Some(known) = self.known(principal, request_id).await? else { return Ok(None) };
        match self.existing(request_id, fingerprint, known).await? {
            Begun::Existing(live) => Ok(Some(live)),
            Begun::New(_) => Ok(None),
        }
    }

    async fn begin_with(
        &self,
        start: Start,
        survives: bool,
        enter: impl FnOnce(&Shared, &Lane) -> Result<Option<Place>>,
    ) -> Result<Begun> {
        let shared = &self.shared;
        if let Some((request_id, fingerprint)) = &start.request
            && let Some(known) = self.known(&start.principal, *request_id).await?
        {
            return self.existing(*request_id, fingerprint, known).await;
        }
        if shared.closing.load(Ordering::Acquire) {
            return Err(Error::ShuttingDown);
        }
        let place = enter(shared, &start.lane)?;
        let later = place.is_none().then(|| Box::new(start.lane));
        let (request_id, fingerprint) = start.request.unzip();
        let origin = Origin {
            id: start.id.unwrap_or_else(ExecutionId::new),
            subject: start.subject,
            principal: start.principal,
            request_id,
            labels: start.labels,
            limits: start.limits,
            created: Timestamp::now(),
            session: start.session,
            parent: start.parent,
            target: start.target,
        };
        let stdin = match survives {
            true => Stdin::outside(start.stdin_given, start.stdin_open),
            false => Stdin::new(start.stdin, start.stdin_given, start.stdin_open),
        };
        let ledger = match &shared.ledgers {
            Some(ledgers) if survives => Some(survival::begin(ledgers, &origin, fingerprint.as_ref())?),
            _ => None,
        };
        let live = Live::new(origin, fingerprint, stdin, ledger);
        let id = live.origin().id;
        shared.running.insert(id, live.clone());
        shared.keeper.wake();
        let run = Run { live, place, later, shared: shared.clone(), over: false };
        if let Some((request_id, fingerprint)) = request_id.zip(fingerprint) {
            match run.commit_intent(request_id).await {
                Ok(None) => {}
                Ok(Some(known)) => {
                    run.forget();
                    return self.existing(request_id, &fingerprint, known).await;
                }
                Err(error) => {
                    run.forget();
                    return Err(error);
                }
            }
        }
        Ok(Begun::New(run))
    }

    async fn known(&self, principal: &Arc<str>, request_id: RequestId) -> Result<Option<Intent>> {
        let principal = principal.clone();
        self.shared.keeper.store().read(move |db| executions::intent(db, &principal, request_id)).await
    }

    async fn existing(&self, request_id: RequestId, fingerprint: &[u8; 32], known: Intent) -> Result<Begun> {
        if known.fingerprint != *fingerprint {
            let first = format!("a different call, execution {}", known.execution);
            return Err(Error::RequestIdReused { request_id, first });
        }
        Ok(Begun::Existing(self.find(known.execution).await?))
    }

    /// An execution, from memory or from the store.
    pub async fn find(&self, id: ExecutionId) -> Result<Arc<Live>> {
        if let Some(live) = self.shared.running.get(&id) {
            return Ok(live.clone());
        }
        if let Some(live) = self.shared.recent.get(id) {
            return Ok(live);
        }
        let found = self
            .shared
            .keeper
            .store()
            .read(move |db| {
                let Some(execution) = executions::get(db, id)? else { return Ok(None) };
                Ok(Some((execution, executions::events(db, id)?)))
            })
            .await?;
        let (execution, events) = found.ok_or(Error::ExecutionNotFound { id })?;
        Ok(Live::from_store(execution, events))
    }

    /// Executions that a filter selects, newest first, from the one before `before`.
    pub async fn list(&self, filter: Filter, before: Option<ExecutionId>, limit: usize) -> Result<Vec<Execution>> {
        // The store answers, so it must know everything, also what began a moment ago.
        self.shared.flush(Duration::ZERO).await?;
        let states = filter.states.clone();
        let mut listed =
            self.shared.keeper.store().read(move |db| executions::list(db, &filter, before, limit)).await?;
        for execution in &mut listed {
            if !execution.state.is_final()
                && let Ok(live) = self.find(execution.origin.id).await
            {
                *execution = live.execution();
            }
        }
        listed.retain(|execution| states.is_empty() || states.contains(&execution.state));
        Ok(listed)
    }

    /// Writes to the store what is not there yet; answers when it is.
    pub async fn flush(&self) -> Result<()> {
        self.shared.flush(Duration::ZERO).await
    }

    /// Executions that hold a slot, and executions that wait for one.
    pub fn load(&self) -> (usize, usize) {
        (self.shared.admission.running(), self.shared.admission.queued())
    }

    /// Takes no new executions, gives those that run until `grace` has passed, ends the rest, and
    /// writes everything to the store.
    pub async fn shut_down(&self, grace: Duration) -> Result<()> {
        self.shared.closing.store(true, Ordering::Release);
        if tokio::time::timeout(grace, self.shared.idle()).await.is_err() {
            let rest: Vec<Arc<Live>> = self.shared.bound().collect();
            tracing::warn!(executions = rest.len(), "the grace period is over; ending what still runs");
            for live in rest {
                live.end(Ended::new(
                    Exit::ServerShutdown,
                    "the server shut down and its grace period passed; run it again on a live server",
                ));
            }
            // Runs end as soon as their future is polled; this bounds one that never is.
            let _ = tokio::time::timeout(Duration::from_secs(2), self.shared.idle()).await;
        }
        self.shared.flush(Duration::ZERO).await
    }
}

/// A slot of a lane alone, at once or never.
fn enter_outside(shared: &Shared, lane: &Lane) -> Result<Option<Place>> {
    let slot = shared.admission.enter_outside(lane).inspect_err(|_| shared.observer.rejected())?;
    Ok(Some(Place::Slot(slot)))
}

impl Shared {
    pub(super) async fn flush(&self, min_age: Duration) -> Result<()> {
        let now = Timestamp::now();
        let running = self
            .running
            .iter()
            .filter(|entry| now.since(entry.origin().created) >= min_age)
            .map(|entry| entry.value().clone())
            .collect();
        self.keeper.flush(running).await
    }

    /// Those that end with the server.
    fn bound(&self) -> impl Iterator<Item = Arc<Live>> {
        self.running.iter().filter(|entry| !entry.survives()).map(|entry| entry.value().clone())
    }

    async fn idle(&self) {
        let mut told = std::pin::pin!(self.idle.notified());
        loop {
            told.as_mut().enable();
            if self.bound().next().is_none() {
                return;
            }
            told.as_mut().await;
            told.set(self.idle.notified());
        }
    }

    /// Writes how an execution ended, then shows it.
    pub(super) async fn settle_durably(self: Arc<Self>, live: Arc<Live>) -> Result<()> {
        let kept = self.keeper.now(live.clone()).await;
        if let Err(error) = &kept {
            tracing::error!(%error, execution = %live.origin().id, "the end of an execution could not be recorded");
        }
        live.journal().publish();
        self.settle(live);
        kept
    }

    /// An execution has ended: from here on it is found among the recent ones.
    pub(super) fn settle(&self, live: Arc<Live>) {
        let execution = live.execution();
        self.observer.ended(&execution);
        if let Some(outcome) = &execution.outcome {
            self.admission.ran(outcome.usage.run_time);
        }
        let id = execution.origin.id;
        self.recent.insert(live.clone());
        self.running.remove(&id);
        if !live.is_kept() {
            self.keeper.later(live);
        }
        if self.closing.load(Ordering::Acquire) && self.bound().next().is_none() {
            self.idle.notify_waiters();
        }
    }
}
