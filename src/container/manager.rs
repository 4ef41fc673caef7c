//! All containers of this server.

use super::backend::{Backend, BackendError, BackendFacts};
use super::changes::Changes;
use super::entry::Entry;
use super::gate::Gate;
use super::guests::Guests;
use super::policy::ContainerPolicy;
use super::raise::ControlMode;
use super::snapshots::Snapshots;
use super::{adopt, keeping};
use crate::domain::container::{Consumption, Container, ContainerState, SandboxPolicy};
use crate::domain::id::{ContainerId, LeaseId, RequestId};
use crate::domain::image::ImageReference;
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::execution::Registry;
use crate::store::once::Once;
use crate::store::shelf::Shelf;
use crate::store::{Store, containers};
use dashmap::DashMap;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// How long the start waits for the backend's first answer.
const FIRST_LOOK: Duration = Duration::from_millis(500);

/// Bounds and habits.
#[derive(Clone, Debug)]
pub struct ContainersConfig {
    /// What the operator allows.
    pub policy: ContainerPolicy,
    /// Containers that are not over.
    pub max_containers: u32,
    /// Of those, containers of one principal.
    pub max_per_principal: u32,
    /// How long a container that is over can be read.
    pub keep_ended: Duration,
    /// Containers that are over and can be read.
    pub max_ended: usize,
    /// Where supervisors and their sockets are.
    pub directory: PathBuf,
    /// Where the workspaces of snapshots are.
    pub snapshots: PathBuf,
    /// Bytes of output that a supervisor keeps of one process.
    pub journal_bytes: u64,
    /// Wall time of a process: where nobody asks, and at most.
    pub wall_time: (Duration, Duration),
    /// Output of a process that is kept: where nobody asks, and at most.
    pub output_bytes: (u64, u64),
    /// Entries of one archive, in or out.
    pub archive_entries: u64,
    /// Bytes of all files of one archive, in or out.
    pub archive_bytes: u64,
    /// How long the supervisor of a new container may take to answer.
    pub start_timeout: Duration,
    /// Whether ports of containers can be reached through the server.
    pub forward: bool,
    /// How containers are spoken with.
    pub control: ControlMode,
    /// Whether containers go on when the server is shut down.
    pub outlive: bool,
}

/// Hears of containers; metrics and health do.
pub trait ContainersObserver: Send + Sync + 'static {
    /// The backend answers, or why it does not.
    fn backend(&self, facts: &Result<BackendFacts, String>);
    /// One was spawned, in so much time.
    fn spawned(&self, time: Duration);
    /// One could not be.
    fn failed(&self);
    /// One ended.
    fn ended(&self, container: &Container);
}

/// Who asks, and whether they may see what belongs to others.
#[derive(Clone, Debug)]
pub struct Viewer {
    /// Name of the principal.
    pub name: Arc<str>,
    /// Whether it sees everything.
    pub administers: bool,
}

/// Selects containers. What is set must all match.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerFilter {
    /// Any of these; none for all that are not over.
    pub states: Vec<ContainerState>,
    /// All of these labels.
    pub labels: BTreeMap<String, String>,
    /// Reference in full, or id.
    pub image: String,
    /// Template.
    pub template: String,
    /// Accepted at this time or later.
    pub created_after: Option<Timestamp>,
    /// Accepted before this time.
    pub created_before: Option<Timestamp>,
    /// Owner.
    pub principal: String,
    /// Pool.
    pub pool: String,
}

/// All containers.
pub struct Containers {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) store: Arc<Store>,
    pub(super) registry: Registry,
    pub(super) config: ContainersConfig,
    pub(super) observer: Arc<dyn ContainersObserver>,
    pub(super) guests: Guests,
    pub(super) snapshots: Snapshots,
    pub(super) gate: Arc<dyn Gate>,
    pub(super) installation: String,
    pub(super) changes: Arc<Changes>,
    pub(super) entries: DashMap<ContainerId, Arc<Entry>>,
    pub(super) roster: Mutex<Roster>,
    pub(super) facts: watch::Sender<Result<BackendFacts, String>>,
    pub(super) once: Once,
    pub(super) closing: AtomicBool,
    pub(super) this: Weak<Containers>,
}

/// What changed.
pub struct News {
    /// Containers that are new or changed, as they are now.
    pub found: Vec<Container>,
    /// Those that went, or do not match any more, each with its number.
    pub gone: Vec<(u64, ContainerId)>,
}

/// What there is by name, and whose.
#[derive(Default)]
pub(super) struct Roster {
    /// Of those that are not over.
    pub(super) names: HashMap<String, ContainerId>,
    /// Containers of each principal that are not over.
    pub(super) owned: HashMap<Arc<str>, u32>,
    /// What a request id led to.
    pub(super) requests: HashMap<(Arc<str>, RequestId), ContainerId>,
    /// What was lent with which lease.
    pub(super) leases: HashMap<LeaseId, ContainerId>,
}

/// What containers are made of.
pub struct ContainersParts {
    /// What runs them.
    pub backend: Arc<dyn Backend>,
    /// Where they are recorded.
    pub store: Arc<Store>,
    /// Where snapshots stand, whatever they hold.
    pub shelf: Arc<Shelf>,
    /// Where their processes are executions.
    pub registry: Registry,
    /// Bounds and habits.
    pub config: ContainersConfig,
    /// Who hears of them.
    pub observer: Arc<dyn ContainersObserver>,
    /// What answers processes that want out.
    pub gate: Arc<dyn Gate>,
}

impl Containers {
    /// Opens what there is: containers that live are found again in the background, with the processes in them.
    pub async fn open(parts: ContainersParts) -> Result<Arc<Containers>> {
        let ContainersParts { backend, store, shelf, registry, config, observer, gate } = parts;
        let fresh = ContainerId::new().to_string();
        let installation = store.write(move |db| containers::installation(db, &fresh)).await?;
        let records = store.read(containers::all).await?;
        let directory = config.directory.clone();
        let guests = Guests::open(&directory).map_err(|error| Error::StoreUnavailable {
            problem: format!("cannot write in {} (containers.directory): {error}", directory.display()),
        })?;
        let (snapshots, left) = Snapshots::open(&store, shelf, config.snapshots.clone()).await?;
        let unknown = Err("it was not asked yet".to_owned());
        let containers = Arc::new_cyclic(|this| Containers {
            backend,
            gate,
            store,
            registry,
            config,
            observer,
            guests,
            snapshots,
            installation,
            changes: Arc::new(Changes::new(Timestamp::now().0)),
            entries: DashMap::new(),
            roster: Mutex::default(),
            facts: watch::Sender::new(unknown),
            once: Once::default(),
            closing: AtomicBool::new(false),
            this: this.clone(),
        });
        // So that who calls first is not told that nobody asked yet; a backend that is slow is not waited for.
        let _ = tokio::time::timeout(FIRST_LOOK, containers.look_at_backend()).await;
        adopt::all(&containers, records);
        containers.clear(left);
        tokio::spawn(keeping::watch_backend(Arc::downgrade(&containers)));
        tokio::spawn(keeping::keep(Arc::downgrade(&containers)));
        Ok(containers)
    }

    /// This, to be shared with a task.
    pub(super) fn share(&self) -> Result<Arc<Containers>> {
        self.this.upgrade().ok_or(Error::ShuttingDown)
    }

    /// What the backend is, or why it does not answer.
    pub fn facts(&self) -> Result<BackendFacts, String> {
        self.facts.borrow().clone()
    }

    /// What runs containers, for questions about images.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// What the operator allows.
    pub fn policy(&self) -> &ContainerPolicy {
        &self.config.policy
    }

    /// One container, by id or by name.
    pub fn get(&self, name: &str, viewer: &Viewer) -> Result<Container> {
        self.find(name, viewer).map(|entry| entry.container())
    }

    pub(super) fn find(&self, name: &str, viewer: &Viewer) -> Result<Arc<Entry>> {
        if name.is_empty() {
            return Err(Error::invalid("container_id", "is required: an id or a name"));
        }
        let visible = |entry: &Arc<Entry>| viewer.administers || entry.is_of(&viewer.name);
        let id = name.parse().ok().or_else(|| self.roster.lock().names.get(name).copied());
        let entry = match id {
            Some(id) => self.entries.get(&id).map(|entry| entry.value().clone()),
            // The name of one that is over is free, but the last that had it can still be read by it.
            None => {
                let named = self.entries.iter().filter(|entry| entry.origin.name == name && visible(entry.value()));
                named.max_by_key(|entry| entry.origin.id).map(|entry| entry.value().clone())
            }
        };
        entry.filter(visible).ok_or_else(|| Error::ContainerNotFound { name: name.chars().take(80).collect() })
    }

    /// Containers that a filter selects, newest first, from the one before `before`.
    pub fn list(
        &self,
        filter: &ContainerFilter,
        viewer: &Viewer,
        before: Option<ContainerId>,
        limit: usize,
    ) -> Vec<Container> {
        let mut ids: Vec<ContainerId> = self.entries.iter().map(|entry| *entry.key()).collect();
        ids.retain(|id| before.is_none_or(|before| *id < before));
        ids.sort_unstable_by(|one, other| other.cmp(one));
        let entries = ids.into_iter().filter_map(|id| self.entries.get(&id).map(|entry| entry.value().clone()));
        entries.map(|entry| entry.container()).filter(|found| filter.selects(found, viewer)).take(limit).collect()
    }

    /// What changed after a number: containers with their numbers, and those that went. None when that number is of
    /// another time, and everything is to be told anew.
    pub fn changed(&self, after: u64, filter: &ContainerFilter, viewer: &Viewer) -> Option<News> {
        let mut gone = match after {
            0 => Vec::new(),
            after => self.changes.removed_after(after)?,
        };
        let mut found = Vec::new();
        let newer = self.entries.iter().filter(|entry| entry.revision() > after);
        let newer: Vec<Arc<Entry>> = newer.map(|entry| entry.value().clone()).collect();
        for container in newer.iter().map(|entry| entry.container()) {
            if filter.selects(&container, viewer) {
                found.push(container);
            } else if after > 0 && (filter.may_see(&container, viewer) || container.origin.principal == viewer.name) {
                gone.push((container.revision, container.origin.id));
            }
        }
        Some(News { found, gone })
    }

    /// Waits until a container is over.
    pub async fn over(&self, name: &str, viewer: &Viewer) -> Result<Container> {
        let entry = self.find(name, viewer)?;
        entry.until(ContainerState::is_over).await;
        Ok(entry.container())
    }

    /// What a container consumes, and how many executions run in it.
    pub async fn consumption(&self, name: &str, viewer: &Viewer) -> Result<(Consumption, u32)> {
        let entry = self.find(name, viewer)?;
        entry.adopted().await;
        if entry.state() != ContainerState::Paused {
            entry.reachable()?;
        }
        let found = self.backend.consumption(&entry.backend_id()).await.map_err(|error| match error {
            BackendError::NotFound(_) => {
                Error::ContainerNotReady { id: entry.origin.id, problem: "is over; spawn another".into() }
            }
            other => backend_error(other),
        })?;
        Ok((found, entry.container().running_executions))
    }

    /// Tells when something changed.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Number of the newest change.
    pub fn revision(&self) -> u64 {
        self.changes.last()
    }

    /// Containers by state, for the metrics.
    pub fn counts(&self) -> HashMap<ContainerState, u64> {
        let mut counts = HashMap::new();
        for entry in &self.entries {
            *counts.entry(entry.state()).or_default() += 1;
        }
        counts
    }

    /// Writes how a container stands; answers when that is on disk.
    pub(super) async fn save(&self, entry: &Arc<Entry>) -> Result<()> {
        let entry = entry.clone();
        self.store
            .write(move |db| containers::put(db, &entry.origin, &entry.status(), entry.belonging().as_ref()))
            .await
    }

    /// As [`Containers::save`], for whoever need not wait.
    pub(super) fn save_later(&self, entry: &Arc<Entry>) {
        let (id, saved) = (entry.origin.id, {
            let entry = entry.clone();
            self.store.write(move |db| containers::put(db, &entry.origin, &entry.status(), entry.belonging().as_ref()))
        });
        tokio::spawn(async move {
            if let Err(error) = saved.await {
                tracing::error!(container = %id, %error, "how a container stands could not be recorded");
            }
        });
    }

    /// Stops taking new ones. Leaves what runs to the next server, or ends it.
    pub async fn shut_down(&self) {
        self.closing.store(true, Ordering::Release);
        if self.config.outlive {
            return;
        }
        let Ok(this) = self.share() else { return };
        let running: Vec<Arc<Entry>> = self.entries.iter().map(|entry| entry.value().clone()).collect();
        let ends = running.into_iter().filter(|entry| !entry.state().is_over()).map(|entry| {
            let this = this.clone();
            tokio::spawn(async move { this.end_for_shutdown(entry).await })
        });
        for end in ends.collect::<Vec<_>>() {
            let _ = end.await;
        }
    }
}

impl ContainerFilter {
    fn may_see(&self, container: &Container, viewer: &Viewer) -> bool {
        viewer.administers || *container.owner() == viewer.name
    }

    /// Whether it selects a container that somebody asks for.
    pub fn selects(&self, container: &Container, viewer: &Viewer) -> bool {
        let (origin, spec) = (&container.origin, &container.origin.spec);
        let state = container.status.state;
        let image = |wanted: &str| {
            wanted == origin.image_id
                || wanted == spec.image
                || ImageReference::parse(wanted).is_ok_and(|wanted| wanted.to_string() == spec.image)
        };
        self.may_see(container, viewer)
            && (if self.states.is_empty() { !state.is_over() } else { self.states.contains(&state) })
            && (self.labels.is_empty() || has_all(&container.labels(), &self.labels))
            && (self.image.is_empty() || image(&self.image))
            && (self.template.is_empty() || self.template == spec.template)
            && self.created_after.is_none_or(|time| origin.created >= time)
            && self.created_before.is_none_or(|time| origin.created < time)
            && (self.principal.is_empty() || *self.principal == **container.owner())
            && (self.pool.is_empty() || container.belonging.as_ref().is_some_and(|home| home.pool == self.pool))
    }
}

fn has_all(labels: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// The error of a backend, for whoever asked for something that is not there or fails.
pub(super) fn backend_error(error: BackendError) -> Error {
    match error {
        BackendError::Unavailable(problem) => Error::BackendUnavailable { problem },
        BackendError::NoRoom(problem) => Error::BackendFull { problem },
        other => Error::Internal(other.to_string()),
    }
}

/// Whether a container has a network of its own.
pub(super) fn has_network(policy: SandboxPolicy) -> bool {
    policy == SandboxPolicy::ContainerDirect
}
