//! A container as a place to work in: processes that run one after the other for one execution that is not itself a
//! process, with work on files between them.

use super::entry::{Entry, Way};
use super::link::{Channel, Link, Unheard};
use super::manager::{Containers, Viewer};
use super::ports::{Connection, Cut};
use super::process::{self, Feed};
use super::processes::{bytes, outside_limits, pairs, subject, target};
use super::variables;
use crate::domain::execution::Exit;
use crate::domain::id::{ContainerId, ExecutionId};
use crate::domain::limits::Limits;
use crate::error::{Error, Result, Violation};
use crate::execution::{Begun, Ended, Lane, Live, Start};
use bytes::Bytes;
use casemate_guest::protocol::{Request, Spec, User};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where programs are looked for if the container does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A container that runs, has a supervisor, and may be worked in.
pub struct Workplace {
    entry: Arc<Entry>,
    link: Link,
}

/// One process of several.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Variables on top of the container's.
    pub environment: BTreeMap<String, String>,
    /// Working directory; empty for the workspace.
    pub directory: String,
    /// Whether the execution's input is its own; otherwise it has none.
    pub input: bool,
}

/// A process that serves others, and goes on whether or not there is a server.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its execution's id. There is one process of an id.
    pub id: ExecutionId,
    /// Program and arguments; it starts in the workspace.
    pub command: Vec<String>,
    /// Variables on top of the container's.
    pub environment: BTreeMap<String, String>,
    /// How long it lives at most.
    pub life: Duration,
    /// Whose it is.
    pub principal: Arc<str>,
    /// Labels of its execution.
    pub labels: BTreeMap<String, String>,
}

impl Containers {
    /// Starts a process that serves others. It takes none of the slots of its container.
    pub async fn serve(&self, place: &Workplace, service: Service) -> Result<Arc<Live>> {
        let mut environment = place.entry.environment();
        environment.extend(service.environment);
        let spec = Spec {
            command: bytes(&service.command),
            environment: pairs(&environment),
            directory: place.directory().as_bytes().to_vec(),
            user: User::Guest,
            terminal: None,
            keep_stdin_open: false,
            wall_time_ms: Some(u64::try_from(service.life.as_millis()).unwrap_or(u64::MAX)),
        };
        let limits = Limits { wall_time: service.life, output_bytes: self.output_bytes(None), ..outside_limits() };
        let start = Start {
            id: Some(service.id),
            subject: subject(place.container(), service.command, false),
            principal: service.principal,
            request: None,
            labels: service.labels,
            limits,
            stdin: Bytes::new(),
            stdin_given: Bytes::new(),
            stdin_open: false,
            session: None,
            parent: None,
            target: place.target(),
            lane: Lane::new("a service", 1),
        };
        match self.registry.begin_outside(start).await? {
            Begun::Existing(live) => Ok(live),
            Begun::New(run) => self.launch(place.entry.clone(), place.link.clone(), run, spec).await,
        }
    }

    /// A container to work in.
    pub async fn workplace(&self, name: &str, viewer: &Viewer) -> Result<Workplace> {
        let entry = self.find(name, viewer)?;
        entry.adopted().await;
        match entry.ready()? {
            Way::Guest(link) => Ok(Workplace { entry, link }),
            Way::Backend => Err(Error::Unsupervised { id: entry.origin.id }),
        }
    }

    /// Wall time of what runs in containers: where nobody asks, and at most.
    pub fn wall_time(&self, asked: Option<Duration>) -> Duration {
        let (default, most) = self.config.wall_time;
        asked.unwrap_or(default).min(most)
    }

    /// Output that is kept of what runs in containers: where nobody asks, and at most.
    pub fn output_bytes(&self, asked: Option<u64>) -> u64 {
        let (default, most) = self.config.output_bytes;
        asked.unwrap_or(default).min(most)
    }
}

impl Workplace {
    /// The container.
    pub fn container(&self) -> ContainerId {
        self.entry.origin.id
    }

    /// What executions in it call it.
    pub fn target(&self) -> Arc<str> {
        target(&self.entry)
    }

    /// The slots of its executions.
    pub fn lane(&self) -> &Lane {
        &self.entry.lane
    }

    /// The image it runs, by id.
    pub fn image(&self) -> &str {
        &self.entry.origin.image_id
    }

    /// Whether what is in its file system beside the workspace stays as it is in the image.
    pub fn is_fixed(&self) -> bool {
        !self.entry.origin.spec.hardening.writable_root
    }

    /// Where work goes to.
    pub fn directory(&self) -> &str {
        &self.entry.origin.spec.workspace.container_path
    }

    /// Directories in which programs are looked for, in order.
    pub fn search_path(&self) -> Vec<&str> {
        let path = self.entry.origin.environment.get("PATH").map_or(PATH, String::as_str);
        path.split(':').filter(|directory| directory.starts_with('/')).collect()
    }

    /// A variable of its programs.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.entry.origin.environment.get(name).map(String::as_str)
    }

    /// A connection to a port of its loopback interface.
    pub async fn connect(&self, port: u16) -> std::result::Result<Connection, Cut> {
        match self.link.open(Request::Connect { port }) {
            Ok(conversation) => Connection::begun(conversation).await,
            Err(Unheard::TooMany) => Err(Cut::TooMany),
            Err(_) => Err(Cut::Ended),
        }
    }

    /// Something runs in it now.
    pub fn enter(&self, live: Arc<Live>) {
        self.entry.entered(live);
    }

    /// It runs no more.
    pub fn leave(&self, live: &Live) {
        self.entry.left(live.origin().id);
    }

    /// Checks variables that somebody wants a program to have.
    pub fn check_environment(field: &str, environment: &BTreeMap<String, String>) -> Result<()> {
        let mut violations: Vec<Violation> = Vec::new();
        variables::check(field, environment, &mut violations);
        if violations.is_empty() { Ok(()) } else { Err(Error::InvalidArgument(violations)) }
    }

    /// Runs a process to its end, or until somebody wants the execution to end or its time is over. What it says goes
    /// to the execution.
    pub async fn run(&self, live: &Arc<Live>, step: Step, until: Instant) -> Ended {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let mut environment = self.entry.environment();
        environment.extend(step.environment);
        let directory = if step.directory.is_empty() { self.directory().to_owned() } else { step.directory };
        let spec = Spec {
            command: bytes(&step.command),
            environment: pairs(&environment),
            directory: directory.into_bytes(),
            user: User::Guest,
            terminal: None,
            keep_stdin_open: step.input,
            wall_time_ms: Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
        };
        let channel = Channel::step(live.clone(), spec);
        if let Err(error) = self.link.start(channel.clone()) {
            return Ended::new(Exit::NotStarted, format!("what is asked does not fit: {error}"));
        }
        let feed = if step.input { Feed::Own } else { Feed::Nothing };
        let ended = process::drive(live.clone(), channel.clone(), self.link.clone(), feed).await;
        self.link.release(channel.id());
        self.entry.active();
        ended
    }
}
