//! From a wish to a container that runs. Each step can be repeated: whoever goes on after a crash begins with the first.

use super::backend::{BackendError, ImageFacts, LayerProgress};
use super::entry::Entry;
use super::manager::{Containers, Viewer, backend_error};
use super::raise::ControlMode;
use super::snapshots::Source;
use super::wish::Wish;
use super::{paths, signal};
use crate::domain::container::{Container, ContainerOrigin, ContainerSpec, ContainerState, PullPolicy};
use crate::domain::id::{ContainerId, ExecutionId, RequestId};
use crate::domain::image::ImageReference;
use crate::domain::loan::Belonging;
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Where programs are looked for in an image that does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A container somebody asks for.
#[derive(Clone, Debug)]
pub struct Order {
    /// What it is to be.
    pub wish: Wish,
    /// Its name; empty for one that is made.
    pub name: String,
    /// Who asks.
    pub principal: Arc<str>,
    /// Whether he may start from what belongs to others.
    pub administers: bool,
    /// The request id, and a fingerprint of what is asked.
    pub request: Option<(RequestId, [u8; 32])>,
    /// The pool it is for.
    pub belonging: Option<Belonging>,
}

impl Containers {
    /// Makes a container, and answers when it runs. Whoever goes away meanwhile finds it by its name or request id.
    pub async fn spawn(&self, order: Order) -> Result<Container> {
        let this = self.share()?;
        let made = tokio::spawn(async move { this.make(order).await });
        made.await.map_err(|error| Error::Internal(format!("making a container failed: {error}")))?
    }

    async fn make(&self, order: Order) -> Result<Container> {
        let began = Instant::now();
        if let Some(known) = self.known(&order)? {
            return self.existing(known).await;
        }
        if self.closing.load(Ordering::Acquire) {
            return Err(Error::ShuttingDown);
        }
        let id = ContainerId::new();
        let name = match order.name.as_str() {
            "" => format!("c-{}", &id.to_string()[24..]),
            name if paths::is_name(name) => name.to_owned(),
            name => {
                let text = "expected 1 to 63 of a-z, 0-9, \"_\", \"-\" and \".\", beginning with a letter";
                return Err(Error::invalid(
                    "name",
                    format!("is {:?}; {text}", name.chars().take(80).collect::<String>()),
                ));
            }
        };
        let viewer = Viewer { name: order.principal.clone(), administers: order.administers };
        let health_check = order.wish.health_check.clone();
        let (wish, source) = self.source(order.wish, &viewer)?;
        let spec = self.config.policy.resolve(wish, &name)?;
        self.check_backend(&spec)?;
        let image = match &source {
            Some(source) => self.image_of(source, &spec).await?,
            None => self.image(&spec).await?,
        };
        let main = main_process(&spec, &image);
        let stop = [&spec.stop_signal, &image.stop_signal].into_iter().find_map(|name| signal::number(name));
        let origin = ContainerOrigin {
            id,
            environment: environment(&spec, &image),
            image_id: image.id,
            snapshot: source.as_ref().map(Source::id),
            health_check,
            main,
            main_execution: ExecutionId::new(),
            stop_signal: stop.unwrap_or(signal::TERM),
            name,
            spec,
            principal: order.principal,
            request_id: order.request.map(|(id, _)| id),
            fingerprint: order.request.map(|(_, fingerprint)| fingerprint),
            created: Timestamp::now(),
        };
        let entry = match self.enter(origin, order.belonging)? {
            Entered::New(entry) => entry,
            Entered::Known(known) => return self.existing(known).await,
        };
        // One that is deleted from here on is known to be needed.
        if let Some(error) = source.as_ref().and_then(|source| self.is_gone(source)) {
            self.forget(&entry);
            return Err(error);
        }
        if let Err(error) = self.save(&entry).await {
            self.forget(&entry);
            return Err(error);
        }
        self.bring_up(&entry).await?;
        self.observer.spawned(began.elapsed());
        Ok(entry.container())
    }

    /// What an earlier call with this request id led to.
    fn known(&self, order: &Order) -> Result<Option<Arc<Entry>>> {
        let Some((request_id, fingerprint)) = order.request else { return Ok(None) };
        let id = self.roster.lock().requests.get(&(order.principal.clone(), request_id)).copied();
        let Some(entry) = id.and_then(|id| self.entries.get(&id).map(|entry| entry.value().clone())) else {
            return Ok(None);
        };
        if entry.origin.fingerprint != Some(fingerprint) {
            let first = format!("a different call, container {}", entry.origin.id);
            return Err(Error::RequestIdReused { request_id, first });
        }
        Ok(Some(entry))
    }

    async fn existing(&self, entry: Arc<Entry>) -> Result<Container> {
        entry.until(|state| !matches!(state, ContainerState::Creating | ContainerState::Starting)).await;
        let container = entry.container();
        match container.status.state {
            ContainerState::Failed => {
                Err(Error::ContainerFailed { id: entry.origin.id, problem: container.status.problem })
            }
            _ => Ok(container),
        }
    }

    pub(super) fn check_backend(&self, spec: &ContainerSpec) -> Result<()> {
        let facts = self.facts().map_err(|problem| Error::BackendUnavailable { problem })?;
        if !facts.shares_files && self.config.control == ControlMode::Guest {
            let problem = "the backend is on another machine, where the supervisor inside a container cannot reach \
                           this server; run casemate where the backend is, or do without (containers.control)";
            return Err(Error::BackendUnavailable { problem: problem.to_owned() });
        }
        if !facts.shares_files && !spec.mounts.is_empty() {
            let text = "the backend is on another machine, which has other directories; leave them out";
            return Err(Error::invalid("spec.mounts", text));
        }
        if spec.resources.disk_bytes > 0 && !facts.limits_disk {
            let text = "the backend's storage cannot limit the writable layer; leave it unset, or ask the operator";
            return Err(Error::invalid("spec.resources.disk_bytes", text));
        }
        if spec.resources.swap_bytes > 0 && !facts.limits_swap {
            return Err(Error::invalid(
                "spec.resources.swap_bytes",
                "the backend's kernel cannot limit swap; leave it unset",
            ));
        }
        if !spec.runtime.is_empty() && !facts.runtimes.contains(&spec.runtime) {
            let text = format!("the backend has no runtime {:?}; it has: {}", spec.runtime, facts.runtimes.join(", "));
            return Err(Error::invalid("spec.runtime", text));
        }
        if !spec.workspace.name.is_empty() {
            return Err(Error::Unimplemented { feature: "ContainerSpec.workspace.name" });
        }
        Ok(())
    }

    /// The image that a specification names, pulled if that is asked.
    async fn image(&self, spec: &ContainerSpec) -> Result<ImageFacts> {
        let reference = ImageReference::parse(&spec.image).map_err(|problem| Error::invalid("spec.image", problem))?;
        let here = match spec.pull {
            PullPolicy::Always => None,
            PullPolicy::IfMissing | PullPolicy::Never => self.backend.image(&reference).await.map_err(backend_error)?,
        };
        match here {
            Some(image) => Ok(image),
            None if spec.pull == PullPolicy::Never => Err(Error::ImageNotFound {
                reference: reference.to_string(),
                problem: "it is not here and is not to be pulled; pull it (PullImage), or leave pull_policy unset"
                    .into(),
            }),
            None => {
                let (progress, _) = mpsc::channel(1);
                self.pull(&reference, "", progress).await
            }
        }
    }

    /// Gets an image from its registry.
    pub async fn pull(
        &self,
        reference: &ImageReference,
        platform: &str,
        progress: mpsc::Sender<LayerProgress>,
    ) -> Result<ImageFacts> {
        self.config.policy.admits("reference", reference)?;
        let pulled = self.backend.pull(reference, platform, progress).await;
        pulled.map_err(|error| match error {
            BackendError::NotFound(problem) => Error::ImageNotFound { reference: reference.to_string(), problem },
            BackendError::Refused(problem) => Error::PolicyDenied {
                field: format!("image {reference}"),
                problem: format!("its registry says: {problem}"),
            },
            other => backend_error(other),
        })
    }

    /// Takes a container in: from here on it has its name and its place.
    fn enter(&self, origin: ContainerOrigin, belonging: Option<Belonging>) -> Result<Entered> {
        let mut roster = self.roster.lock();
        if let Some(request_id) = origin.request_id
            && let Some(known) = roster.requests.get(&(origin.principal.clone(), request_id))
            && let Some(entry) = self.entries.get(known)
        {
            return Ok(Entered::Known(entry.value().clone()));
        }
        if let Some(id) = roster.names.get(&origin.name) {
            return Err(Error::ContainerExists { name: origin.name, id: *id });
        }
        let all: u32 = roster.owned.values().sum();
        let own = roster.owned.get(&origin.principal).copied().unwrap_or_default();
        for (there, most, what) in [
            (all, self.config.max_containers, "containers"),
            (own, self.config.max_per_principal, "containers of this principal"),
        ] {
            if there >= most {
                let (what, todo) = (what.to_owned(), "stop one (StopContainer), or wait until one ends");
                return Err(Error::QuotaReached { what, limit: most.to_string(), todo });
            }
        }
        let entry = Entry::new(origin, Entry::accepted(Timestamp::now()), belonging, self.changes.clone());
        roster.names.insert(entry.origin.name.clone(), entry.origin.id);
        *roster.owned.entry(entry.origin.principal.clone()).or_default() += 1;
        if let Some(request_id) = entry.origin.request_id {
            roster.requests.insert((entry.origin.principal.clone(), request_id), entry.origin.id);
        }
        self.entries.insert(entry.origin.id, entry.clone());
        Ok(Entered::New(entry))
    }

    /// Takes back a container that never was.
    fn forget(&self, entry: &Entry) {
        let mut roster = self.roster.lock();
        roster.release(entry);
        if let Some(request_id) = entry.origin.request_id {
            roster.requests.remove(&(entry.origin.principal.clone(), request_id));
        }
        drop(roster);
        self.entries.remove(&entry.origin.id);
        self.changes.removed(entry.origin.id);
    }

    /// Makes and starts what is recorded, or says why not and puts everything away.
    pub(super) async fn bring_up(&self, entry: &Arc<Entry>) -> Result<()> {
        match self.advance(entry).await {
            Ok(()) => Ok(()),
            // Somebody ended it meanwhile, and whatever failed did so for that.
            Err(_) if entry.status().ending.is_some() => {
                entry.until(ContainerState::is_over).await;
                let problem = "it was ended before it ran".to_owned();
                Err(Error::ContainerFailed { id: entry.origin.id, problem })
            }
            // The next server goes on with it: it is recorded, and nobody was told that it runs.
            Err(Error::ShuttingDown) if self.config.outlive => Err(Error::ShuttingDown),
            Err(error) => {
                let problem = match &error {
                    Error::ContainerFailed { problem, .. } => problem.clone(),
                    other => other.to_string(),
                };
                self.give_up(entry, problem).await;
                Err(error)
            }
        }
    }
}

enum Entered {
    New(Arc<Entry>),
    Known(Arc<Entry>),
}

/// The main process: as Docker has it, an entry point takes the command as its arguments, and one of the caller's own
/// leaves the image's command out.
fn main_process(spec: &ContainerSpec, image: &ImageFacts) -> Vec<String> {
    let (entrypoint, own) = match spec.entrypoint.is_empty() {
        true => (&image.entrypoint, false),
        false => (&spec.entrypoint, true),
    };
    let command = match spec.command.is_empty() {
        true if own => &Vec::new(),
        true => &image.command,
        false => &spec.command,
    };
    entrypoint.iter().chain(command).cloned().collect()
}

/// The environment of processes: the image's, then the caller's, and what every program expects.
fn environment(spec: &ContainerSpec, image: &ImageFacts) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    all.insert("PATH".into(), PATH.into());
    all.insert("HOME".into(), spec.workspace.container_path.clone());
    all.insert("HOSTNAME".into(), spec.hostname.clone());
    let pairs = image.environment.iter().filter_map(|pair| pair.split_once('='));
    all.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    all.extend(spec.environment.clone());
    all
}

/// How long a container that failed may take to be put away.
pub(super) const PUT_AWAY: Duration = Duration::from_secs(30);
