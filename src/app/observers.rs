//! Who hears of what: the threads between the working parts and what the server tells of itself.

use crate::container::ContainersObserver;
use crate::container::backend::BackendFacts;
use crate::domain::container::Container;
use crate::execution::Registry;
use crate::health::{ComponentState, Health};
use crate::interpreter::Interpreters;
use crate::pool::PoolsObserver;
use crate::rpc::RpcObserver;
use crate::session::{self, SessionObserver};
use crate::store::Store;
use crate::telemetry::{Metrics, Readings};
use crate::tool::{Catalog, CatalogObserver, Entry};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tonic::Code;

// RegistryObserver and CommitObserver for Metrics stand in telemetry/observers.rs: do not add them here.

/// Counts calls.
pub(super) struct Calls(pub Arc<Metrics>);

impl RpcObserver for Calls {
    fn ended(&self, method: usize, code: Code, time: Duration) {
        self.0.rpc(method).answered(code.into(), time);
    }
}

/// Keeps health and metric labels in step with the tools there are.
pub(super) struct Tools {
    metrics: Arc<Metrics>,
    health: Health,
    known: Mutex<HashSet<Arc<str>>>,
}

impl Tools {
    pub(super) fn new(metrics: Arc<Metrics>, health: Health) -> Self {
        Tools { metrics, health, known: Mutex::default() }
    }
}

impl CatalogObserver for Tools {
    fn changed(&self, entries: &[Arc<Entry>]) {
        let now: HashSet<Arc<str>> = entries.iter().map(|entry| entry.name().clone()).collect();
        let mut known = self.known.lock();
        known.difference(&now).for_each(|gone| self.metrics.remove_tool(gone));
        for new in now.difference(&known) {
            self.metrics.tool(new);
        }
        *known = now;
        let faulty: Vec<&str> =
            entries.iter().filter(|entry| entry.problem().is_some()).map(|entry| &**entry.name()).collect();
        let (state, detail) = match faulty.as_slice() {
            [] => (ComponentState::Up, format!("{} tools", entries.len())),
            [one] => (ComponentState::Degraded, format!("tool {one:?} could not be loaded; GetTool says why")),
            [first, ..] => (
                ComponentState::Degraded,
                format!("{} tools could not be loaded, among them {first:?}; GetTool says why", faulty.len()),
            ),
        };
        self.health.set("tools", state, detail);
    }
}

/// Shows in the health whether the state of sessions can be made durable.
pub(super) struct Sessions {
    health: Health,
}

impl Sessions {
    pub(super) fn new(health: Health) -> Self {
        health.set("sessions", ComponentState::Up, "");
        Sessions { health }
    }
}

impl SessionObserver for Sessions {
    fn durability(&self, problem: Option<(usize, &str)>) {
        match problem {
            None => self.health.set("sessions", ComponentState::Up, ""),
            // They go on; a crash would take what they did since.
            Some((count, problem)) => {
                let detail = format!("{count} sessions are not durable now: the newest checkpoint failed: {problem}");
                self.health.set("sessions", ComponentState::Degraded, detail);
            }
        }
    }
}

/// Shows in the health whether containers can be had, and counts them.
pub(super) struct Containers {
    metrics: Arc<Metrics>,
    health: Health,
    /// Whether they ever could.
    had: AtomicBool,
}

impl Containers {
    pub(super) fn new(metrics: Arc<Metrics>, health: Health) -> Self {
        health.set("containers", ComponentState::Disabled, "the backend was not asked yet");
        Containers { metrics, health, had: AtomicBool::new(false) }
    }
}

impl ContainersObserver for Containers {
    fn backend(&self, facts: &Result<BackendFacts, String>) {
        match facts {
            Ok(facts) => {
                self.had.store(true, Ordering::Relaxed);
                self.health.set("containers", ComponentState::Up, facts.version.clone());
            }
            // A machine without one lacks nothing; one that lost it does.
            Err(problem) => {
                let had = self.had.load(Ordering::Relaxed);
                let state = if had { ComponentState::Degraded } else { ComponentState::Disabled };
                self.health.set("containers", state, problem.clone());
            }
        }
    }

    fn spawned(&self, time: Duration) {
        self.metrics.containers().spawned(time);
    }

    fn failed(&self) {
        self.metrics.containers().failed();
    }

    fn ended(&self, container: &Container) {
        if let Some(end) = &container.status.end {
            self.metrics.containers().ended(end.reason);
        }
    }
}

/// Counts leases.
pub(super) struct Pools(pub(super) Arc<Metrics>);

impl PoolsObserver for Pools {
    fn leased(&self, waited: Duration) {
        self.0.pools().leased(waited);
    }
}

/// Shows the store's last failure in the health until a transaction succeeds again.
pub(super) fn follow_store(store: &Store, health: Health) {
    let mut problem = store.problem();
    health.set("store", ComponentState::Up, "");
    tokio::spawn(async move {
        while problem.changed().await.is_ok() {
            match &*problem.borrow_and_update() {
                None => health.set("store", ComponentState::Up, ""),
                // Calls without a request id go on, so the server is not taken out of service for it.
                Some(text) => health.set("store", ComponentState::Degraded, text.as_str()),
            }
        }
    });
}

/// Gives the metrics the figures that others keep.
pub(super) fn read_from(
    metrics: &Metrics,
    registry: Registry,
    store: &Arc<Store>,
    catalog: &Arc<Catalog>,
    sessions: &Arc<session::Sessions>,
) {
    let (store, catalog, sessions) = (Arc::downgrade(store), Arc::downgrade(catalog), Arc::downgrade(sessions));
    metrics.read_from(move || {
        let (running, queued) = registry.load();
        let entries = catalog.upgrade().map(|catalog| catalog.list()).unwrap_or_default();
        let broken = entries.iter().filter(|entry| entry.serving().is_none()).count();
        let faulty = entries.iter().filter(|entry| entry.problem().is_some()).count();
        let (open, memory, checkpoints) = sessions.upgrade().map(|sessions| sessions.load()).unwrap_or_default();
        Readings {
            sessions: [open, memory, checkpoints],
            running,
            queued,
            store_pending: store.upgrade().map_or(0, |store| store.pending()),
            tools_ready: entries.len() - faulty,
            tools_stale: faulty - broken,
            tools_broken: broken,
        }
    });
}

/// Loads the installed interpreters in the background and tells the health of each: without them the server
/// serves everything else.
pub fn load_interpreters(interpreters: &Interpreters, health: &Health) {
    for interpreter in interpreters.all() {
        let name = interpreter.name();
        if let Err(problem) = interpreter.installed() {
            let detail = format!("{problem}; `casemate interpreters install` installs it");
            health.set(name, ComponentState::Disabled, detail);
            continue;
        }
        health.set(name, ComponentState::Up, "being loaded");
        let (interpreter, health) = (interpreter.clone(), health.clone());
        tokio::spawn(async move {
            match interpreter.load().await {
                Ok(()) => {
                    let artifact = interpreter.artifact();
                    let what = format!("{} {}", artifact.package, artifact.version);
                    match interpreter.packages_problem() {
                        None => health.set(name, ComponentState::Up, what),
                        Some(problem) => health.set(name, ComponentState::Degraded, format!("{what}; {problem}")),
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "an interpreter cannot be loaded");
                    health.set(name, ComponentState::Degraded, error.to_string());
                }
            }
        });
    }
}
