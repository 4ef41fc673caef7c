//! Processes in containers, as executions.

use super::entry::{Entry, Way};
use super::link::{Channel, Link};
use super::manager::{Containers, Viewer};
use super::process::Feed;
use super::{process, signal, unsupervised, variables};
use crate::domain::execution::{Exit, Subject};
use crate::domain::id::{ContainerId, RequestId};
use crate::domain::limits::{Limits, LimitsPolicy};
use crate::error::{Error, Result, Violation};
use crate::execution::{Begun, Ended, Lane, Live, Run, Start};
use bytes::Bytes;
use casemate_guest::protocol::{Signal, Spec, Terminal, User};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

const MAX_ARGUMENTS: usize = 4096;
const MAX_ARGUMENT_BYTES: usize = 256 << 10;
const MAX_STDIN: usize = 1 << 20;
/// Slots of the main process: it takes none of those that others wait for.
const MAIN: u32 = 1;
/// Wall time of a main process: the container's, which the container minds itself.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A process somebody wants.
#[derive(Clone, Debug, Default)]
pub struct NewProcess {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Variables on top of the container's.
    pub environment: BTreeMap<String, String>,
    /// Whether to leave the container's out.
    pub clear_environment: bool,
    /// Working directory; empty for the container's.
    pub working_directory: String,
    /// User; empty for the container's.
    pub user: String,
    /// Columns and rows of its terminal.
    pub terminal: Option<(u16, u16)>,
    /// First bytes of its input.
    pub stdin: Bytes,
    /// Whether its input stays open behind those.
    pub keep_stdin_open: bool,
    /// Longest time; none for the server to say.
    pub wall_time: Option<Duration>,
    /// Output that is kept; none for the server to say.
    pub output_bytes: Option<u64>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The request id, and a fingerprint of what is asked.
    pub request: Option<(RequestId, [u8; 32])>,
    /// Who asks.
    pub principal: Arc<str>,
}

impl Containers {
    /// Starts a process in a container. Answers once it runs.
    pub async fn start_process(&self, name: &str, new: NewProcess, viewer: &Viewer) -> Result<Arc<Live>> {
        let entry = self.find(name, viewer)?;
        if let Some((request_id, fingerprint)) = new.request
            && let Some(known) = self.registry.earlier(&new.principal, request_id, &fingerprint).await?
        {
            return never_began(known);
        }
        let spec = self.check(&entry, &new)?;
        entry.adopted().await;
        let way = entry.ready()?;
        if let Way::Backend = way
            && new.clear_environment
        {
            let text = "cannot be had in this container: it has no supervisor, and the backend adds its variables";
            return Err(Error::invalid("process.clear_environment", text));
        }
        let limits = self.limits(&new);
        let open = new.keep_stdin_open;
        let start = Start {
            id: None,
            subject: subject(entry.origin.id, new.command, new.terminal.is_some()),
            principal: new.principal,
            request: new.request,
            labels: new.labels,
            limits,
            stdin: Bytes::new(),
            stdin_given: new.stdin,
            stdin_open: open,
            session: None,
            parent: None,
            target: target(&entry),
            lane: entry.lane.clone(),
        };
        let begun = match &way {
            Way::Guest(_) => self.registry.begin_outside(start).await?,
            Way::Backend => self.registry.begin_beside(start).await?,
        };
        match (begun, way) {
            (Begun::Existing(known), _) => never_began(known),
            (Begun::New(run), Way::Guest(link)) => self.launch(entry, link, run, spec).await,
            (Begun::New(run), Way::Backend) => self.launch_beside(entry, run, spec).await,
        }
    }

    /// Starts the main process, if there is one and it was not started before.
    pub(super) async fn start_main(&self, entry: &Arc<Entry>, link: &Link) -> Result<()> {
        let origin = &entry.origin;
        if origin.main.is_empty() || entry.main().is_some() || self.registry.find(origin.main_execution).await.is_ok() {
            return Ok(());
        }
        let spec = Spec {
            command: bytes(&origin.main),
            environment: pairs(&entry.environment()),
            directory: origin.spec.working_directory.clone().into_bytes(),
            user: User::Guest,
            terminal: None,
            keep_stdin_open: false,
            wall_time_ms: None,
        };
        let Begun::New(run) = self.registry.begin_outside(main_start(entry)).await? else { return Ok(()) };
        let launched = self.launch(entry.clone(), link.clone(), run, spec).await;
        launched.map(drop).map_err(|error| match error {
            Error::ProcessNotStarted { problem } => Error::ContainerFailed {
                id: entry.origin.id,
                problem: format!("its main process did not start: {problem}"),
            },
            other => other,
        })
    }

    /// Sends a process to the guest, and minds it until its end is recorded. Answers once it runs.
    pub(super) async fn launch(&self, entry: Arc<Entry>, link: Link, run: Run, spec: Spec) -> Result<Arc<Live>> {
        let live = run.live().clone();
        let channel = Channel::new(live.clone(), spec);
        if let Err(error) = link.start(channel.clone()) {
            let problem = format!("what is asked does not fit: {error}");
            run.refuse(problem.clone()).await?;
            return Err(Error::ProcessNotStarted { problem });
        }
        entry.entered(live.clone());
        let (tell, told) = oneshot::channel();
        tokio::spawn(async move {
            match began(&channel).await {
                Ok(()) => {
                    let _ = tell.send(Ok(()));
                    mind(entry, link, run, channel).await;
                }
                Err(problem) => {
                    link.release(channel.id());
                    entry.left(run.live().origin().id);
                    let refused = run.refuse(problem.clone()).await;
                    let _ = tell.send(refused.and(Err(Error::ProcessNotStarted { problem })));
                }
            }
        });
        told.await.map_err(|_| Error::Internal("a process was lost while it was started".into()))??;
        Ok(live)
    }

    /// Takes up a process that went on while there was no server. Where its container is over, so is it.
    pub(super) fn take_up(&self, run: Run, home: Option<(Arc<Entry>, Link)>) {
        let live = run.live().clone();
        let Some((entry, link)) = home else {
            let over = "its container was gone when the server came back; what it wrote last may be missing";
            tokio::spawn(async move {
                let _ = run.conduct(|_, _| async { Ended::new(Exit::ContainerStopped, over) }).await;
            });
            return;
        };
        let channel = Channel::resumed(live.clone());
        link.resume(channel.clone());
        entry.entered(live);
        tokio::spawn(mind(entry, link, run, channel));
    }

    /// Sends a signal to the process group of an execution.
    pub fn signal(&self, live: &Live, name: &str) -> Result<()> {
        let number = signal::number(name).ok_or_else(|| {
            let shown: String = name.chars().take(40).collect();
            Error::invalid("signal", format!("is {shown:?}; expected a name such as \"SIGINT\""))
        })?;
        let (entry, way) = self.home(live)?;
        entry.active();
        let id = live.origin().id;
        match way {
            Way::Guest(link) => link.signal(*id.as_bytes(), number, Signal::Group),
            Way::Backend => {
                let backend = self.backend.clone();
                tokio::spawn(async move {
                    if let Err(error) = unsupervised::send(&*backend, &entry, id, number).await {
                        tracing::warn!(execution = %id, %error, "a signal was not delivered");
                    }
                });
            }
        }
        Ok(())
    }

    /// Changes the size of an execution's terminal.
    pub fn resize(&self, live: &Live, (columns, rows): (u16, u16)) -> Result<()> {
        let id = live.origin().id;
        if !matches!(live.origin().subject, Subject::Process { tty: true, .. }) {
            return Err(Error::NotSupported { id, needs: "terminal" });
        }
        let (entry, way) = self.home(live)?;
        match way {
            Way::Guest(link) => link.resize(*id.as_bytes(), Terminal { columns, rows }),
            Way::Backend => {
                let Some(process) = entry.handle(id).and_then(|handle| handle.process) else { return Ok(()) };
                let backend = self.backend.clone();
                tokio::spawn(async move {
                    if let Err(error) = backend.exec_resize(&process, columns, rows).await {
                        tracing::warn!(execution = %id, %error, "a terminal keeps its size");
                    }
                });
            }
        }
        Ok(())
    }

    /// Where an execution runs.
    fn home(&self, live: &Live) -> Result<(Arc<Entry>, Way)> {
        let id = live.origin().id;
        let Subject::Process { container, .. } = &live.origin().subject else {
            return Err(Error::NotSupported { id, needs: "process" });
        };
        let entry = container.parse::<ContainerId>().ok().and_then(|id| Some(self.entries.get(&id)?.value().clone()));
        let running = entry.filter(|_| !live.execution().state.is_final()).ok_or(Error::ExecutionOver { id })?;
        let way = running.ready()?;
        Ok((running, way))
    }

    /// What starts a process, checked.
    fn check(&self, entry: &Entry, new: &NewProcess) -> Result<Spec> {
        let mut violations = Vec::new();
        let mut refuse = |field: &str, text: String| violations.push(Violation::new(format!("process.{field}"), text));
        let length: usize = new.command.iter().map(String::len).sum();
        if new.command.first().is_none_or(String::is_empty) {
            refuse("command", "is required: a program and its arguments".into());
        } else if new.command.len() > MAX_ARGUMENTS || length > MAX_ARGUMENT_BYTES {
            let most = format!("at most {MAX_ARGUMENTS} in {MAX_ARGUMENT_BYTES} bytes");
            refuse("command", format!("has {} parts in {length} bytes; {most}", new.command.len()));
        } else if new.command.iter().any(|part| part.contains('\0')) {
            refuse("command", "has a zero byte".into());
        }
        if new.stdin.len() > MAX_STDIN {
            refuse("stdin", format!("is {} bytes; at most {MAX_STDIN}, and then WriteStdin", new.stdin.len()));
        }
        if let Some((columns, rows)) = new.terminal
            && (columns == 0 || rows == 0)
        {
            refuse("terminal", format!("is {columns} by {rows}; expected 1 to 65,535 each"));
        }
        let directory = &new.working_directory;
        if !directory.is_empty() && (!directory.starts_with('/') || directory.contains('\0') || directory.len() > 4096)
        {
            refuse("working_directory", "is not an absolute path".into());
        }
        variables::check("process.environment", &new.environment, &mut violations);
        if !violations.is_empty() {
            return Err(Error::InvalidArgument(violations));
        }
        let user = match new.user.as_str() {
            "" => User::Guest,
            user => {
                self.config.policy.check_user("process.user", user)?;
                User::Named(user.as_bytes().to_vec())
            }
        };
        let mut environment = if new.clear_environment { BTreeMap::new() } else { entry.environment() };
        if new.terminal.is_some() {
            environment.entry("TERM".into()).or_insert_with(|| "xterm-256color".into());
        }
        environment.extend(new.environment.clone());
        let directory = if directory.is_empty() { &entry.origin.spec.working_directory } else { directory };
        let limits = self.limits(new);
        Ok(Spec {
            command: bytes(&new.command),
            environment: pairs(&environment),
            directory: directory.clone().into_bytes(),
            user,
            terminal: new.terminal.map(|(columns, rows)| Terminal { columns, rows }),
            // What there is comes as input right after the start.
            keep_stdin_open: new.keep_stdin_open || !new.stdin.is_empty(),
            wall_time_ms: Some(u64::try_from(limits.wall_time.as_millis()).unwrap_or(u64::MAX)),
        })
    }

    fn limits(&self, new: &NewProcess) -> Limits {
        let ((default, most), (kept, most_kept)) = (self.config.wall_time, self.config.output_bytes);
        Limits {
            wall_time: new.wall_time.unwrap_or(default).min(most),
            output_bytes: new.output_bytes.unwrap_or(kept).min(most_kept),
            ..outside_limits()
        }
    }
}

/// Waits until the guest says whether a process runs.
async fn began(channel: &Channel) -> std::result::Result<(), String> {
    loop {
        let news = channel.news();
        if news.started || news.exit.is_some() {
            return Ok(());
        }
        if let Some(failure) = news.failure {
            return Err(process::failure_text(&failure));
        }
        if news.gone {
            return Err("its container ended meanwhile".into());
        }
        channel.told().await;
    }
}

/// Minds a process until its end is where a crash cannot take it; then its guest may forget it.
async fn mind(entry: Arc<Entry>, link: Link, run: Run, channel: Arc<Channel>) {
    let live = run.live().clone();
    let (driven, by) = (channel.clone(), link.clone());
    if let Err(error) = run.conduct(|live, _| process::drive(live, driven, by, Feed::Own)).await {
        tracing::error!(execution = %live.origin().id, %error, "the end of a process could not be recorded");
    }
    entry.left(live.origin().id);
    live.kept().await;
    link.release(channel.id());
}

/// The main process, as it is started.
pub(super) fn main_start(entry: &Entry) -> Start {
    let origin = &entry.origin;
    let limits = Limits { wall_time: FOREVER, output_bytes: origin.spec.resources.log_bytes, ..outside_limits() };
    Start {
        id: Some(origin.main_execution),
        subject: subject(origin.id, origin.main.clone(), false),
        principal: origin.principal.clone(),
        request: None,
        labels: BTreeMap::new(),
        limits,
        stdin: Bytes::new(),
        stdin_given: Bytes::new(),
        stdin_open: false,
        session: None,
        parent: None,
        target: target(entry),
        lane: Lane::new("a main process", MAIN),
    }
}

fn never_began(known: Arc<Live>) -> Result<Arc<Live>> {
    match known.execution().outcome {
        Some(outcome) if outcome.exit == Exit::NotStarted => {
            Err(Error::ProcessNotStarted { problem: outcome.message.clone() })
        }
        _ => Ok(known),
    }
}

pub(super) fn subject(container: ContainerId, command: Vec<String>, tty: bool) -> Subject {
    Subject::Process { container: container.to_string().into(), command, tty }
}

pub(super) fn target(entry: &Entry) -> Arc<str> {
    format!("container {:?}", entry.origin.name).into()
}

pub(super) fn bytes(parts: &[String]) -> Vec<Vec<u8>> {
    parts.iter().map(|part| part.clone().into_bytes()).collect()
}

pub(super) fn pairs(variables: &BTreeMap<String, String>) -> Vec<Vec<u8>> {
    variables.iter().map(|(name, value)| format!("{name}={value}").into_bytes()).collect()
}

/// Limits of what is no WASM: those that do not apply are none.
pub fn outside_limits() -> Limits {
    Limits {
        memory_bytes: 0,
        table_elements: 0,
        stack_bytes: 0,
        host_calls: 0,
        fuel: None,
        scratch_bytes: 0,
        child_executions: 0,
        child_depth: 0,
        ..LimitsPolicy::default().defaults
    }
}

/// The container of an execution, if it is a process.
pub(super) fn container_of(live: &Live) -> Option<ContainerId> {
    match &live.origin().subject {
        Subject::Process { container, .. } => container.parse().ok(),
        Subject::Tool { .. } => None,
    }
}
