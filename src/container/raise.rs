//! From what is recorded to a container that runs: with its supervisor, or without one where none can run.

use super::backend::{BackendError, Bind, Blueprint, Standing};
use super::entry::Entry;
use super::gate;
use super::guests::Guests;
use super::link::Link;
use super::manager::{Containers, backend_error, has_network};
use super::paths;
use super::unsupervised::{self, LOST};
use crate::domain::container::{ContainerState, Control, Tmpfs};
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use casemate_guest::protocol::Settings;
use std::path::PathBuf;
use std::sync::Arc;

/// Processes that a guest keeps at most, those included whose end is not recorded yet.
const GUEST_PROCESSES: u32 = 4096;

/// How containers are spoken with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ControlMode {
    /// Through the supervisor inside; where none can run, by the backend's own means.
    #[default]
    Auto,
    /// Through the supervisor inside, or not at all.
    Guest,
    /// By the backend's own means.
    Exec,
}

/// Why a container does not run.
enum Setback {
    /// It is not to be.
    Failed(Error),
    /// Its supervisor does not run in it.
    NoGuest(String),
}

impl From<Error> for Setback {
    fn from(error: Error) -> Setback {
        Setback::Failed(error)
    }
}

impl Containers {
    /// Makes and starts what is recorded. Each step can be repeated.
    pub(super) async fn advance(&self, entry: &Arc<Entry>) -> Result<()> {
        let why = match self.unsupervised(entry) {
            Some(why) => why,
            None => match self.advance_with_guest(entry).await {
                Ok(()) => return Ok(()),
                Err(Setback::Failed(error)) => return Err(error),
                Err(Setback::NoGuest(why)) if self.config.control == ControlMode::Auto && !entry.is_ending() => {
                    match self.needs_guest(entry, &why) {
                        Some(error) => return Err(error),
                        None => why,
                    }
                }
                Err(Setback::NoGuest(why)) => {
                    return Err(Error::ContainerFailed { id: entry.origin.id, problem: why });
                }
            },
        };
        self.advance_without_guest(entry, &why).await.map_err(|error| match error {
            Error::ContainerFailed { id, problem } => {
                Error::ContainerFailed { id, problem: format!("{problem} (without a supervisor: {why})") }
            }
            other => other,
        })
    }

    /// Why a container is to be without a supervisor, if that is known before it is tried.
    fn unsupervised(&self, entry: &Entry) -> Option<String> {
        if let Control::Backend { reason } = entry.status().control {
            let why = reason.split("; what is lost: ").next();
            return Some(why.unwrap_or_default().to_owned());
        }
        match self.config.control {
            ControlMode::Exec => Some("the operator wants none (containers.control)".to_owned()),
            ControlMode::Auto if self.facts().is_ok_and(|facts| !facts.shares_files) => {
                Some("the backend is on another machine, where it could not reach this server".to_owned())
            }
            ControlMode::Auto | ControlMode::Guest => None,
        }
    }

    async fn advance_with_guest(&self, entry: &Arc<Entry>) -> std::result::Result<(), Setback> {
        let id = entry.origin.id;
        let failed = |problem: String| Setback::Failed(Error::ContainerFailed { id, problem });
        let refused = |error: BackendError| Setback::Failed(refusal(entry, error));
        self.guests.prepare(id).map_err(|error| failed(format!("its supervisor has no place: {error}")))?;
        let link = self.listen(entry).map_err(|error| failed(format!("its supervisor has no socket: {error}")))?;
        let init = Guests::command(paths::OWN);
        let backend_id = self.backend.create(&self.blueprint(entry, init, Vec::new())).await.map_err(refused)?;
        self.made(entry, &backend_id);
        let pid = match self.backend.look(&backend_id).await.map_err(refused)? {
            Standing::Running { pid, .. } => pid,
            Standing::Made => {
                match self.backend.start(&backend_id).await {
                    Err(BackendError::Refused(problem) | BackendError::Failed(problem)) => {
                        return Err(Setback::NoGuest(format!("its supervisor was not started: {problem}")));
                    }
                    started => started.map_err(refused)?,
                }
                match self.backend.look(&backend_id).await.map_err(refused)? {
                    Standing::Running { pid, .. } => pid,
                    Standing::Made | Standing::Over(_) => {
                        let why = "its supervisor ended at once; does the image fit this machine?";
                        return Err(Setback::NoGuest(why.into()));
                    }
                }
            }
            Standing::Over(_) => return Err(failed("it ended before its main process was started".into())),
        };
        self.check_identity(pid).map_err(failed)?;
        link.expect(pid);
        let build = tokio::select! {
            connected = link.connected() => connected.map_err(failed)?,
            ending = self.backend.ended(&backend_id) => {
                let ending = ending.map_err(refused)?;
                let (code, told) = (ending.code, told(&ending.problem));
                return Err(Setback::NoGuest(format!("its supervisor ended with {code} before it answered{told}")));
            }
            () = tokio::time::sleep(self.config.start_timeout) => {
                let time = self.config.start_timeout;
                return Err(Setback::NoGuest(format!("its supervisor did not answer within {time:?}")));
            }
        };
        entry.change(|status| status.control = Control::Guest { version: build });
        self.restore(entry, &link).await?;
        self.start_main(entry, &link).await?;
        Ok(self.runs(entry)?)
    }

    /// Makes and starts a container whose first process is its main process.
    async fn advance_without_guest(&self, entry: &Arc<Entry>, why: &str) -> Result<()> {
        let id = entry.origin.id;
        let failed = |problem: String| Error::ContainerFailed { id, problem };
        let refused = |error: BackendError| refusal(entry, error);
        if let Some(link) = entry.take_link() {
            link.close();
        }
        entry.change(|status| status.control = Control::Backend { reason: format!("{why}; what is lost: {LOST}") });
        // Whoever goes on after a crash knows that there may be a sandbox of either kind, and begins again.
        self.save(entry).await?;
        for found in self.backend.find(&self.installation).await.map_err(refused)? {
            if found.container == id {
                self.backend.remove(&found.id).await.map_err(refused)?;
            }
        }
        self.guests.remove(id);
        let environment = entry.origin.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let init = unsupervised::first_process(&entry.origin.main);
        let backend_id = self.backend.create(&self.blueprint(entry, init, environment)).await.map_err(refused)?;
        self.made(entry, &backend_id);
        let output = match entry.origin.main.is_empty() {
            true => None,
            false => Some(self.backend.attach(&backend_id).await.map_err(refused)?),
        };
        let main = self.begin_main(entry).await?;
        self.backend.start(&backend_id).await.map_err(refused)?;
        if let Standing::Running { pid, .. } = self.backend.look(&backend_id).await.map_err(refused)? {
            self.check_identity_without_guest(entry, pid).map_err(failed)?;
        }
        if let (Some(main), Some(output)) = (main, output) {
            self.follow_main(entry, main, output);
        }
        self.runs(entry)
    }

    fn made(&self, entry: &Arc<Entry>, backend_id: &str) {
        entry.change(|status| {
            backend_id.clone_into(&mut status.backend_id);
            if status.state == ContainerState::Creating {
                status.state = ContainerState::Starting;
            }
        });
        self.save_later(entry);
    }

    /// It runs, unless somebody ended it meanwhile.
    fn runs(&self, entry: &Arc<Entry>) -> Result<()> {
        let running = entry.change(|status| {
            let starting = status.state == ContainerState::Starting;
            if starting {
                status.state = ContainerState::Running;
                status.started = Some(Timestamp::now());
                status.last_active = Timestamp::now();
            }
            starting
        });
        if !running {
            return Err(Error::ContainerFailed { id: entry.origin.id, problem: "it was ended meanwhile".into() });
        }
        self.save_later(entry);
        self.tend(entry);
        Ok(())
    }

    /// As [`Containers::check_identity`], on a machine that may not be this one.
    fn check_identity_without_guest(&self, entry: &Entry, pid: u32) -> std::result::Result<(), String> {
        if self.facts().is_ok_and(|facts| facts.shares_files) {
            return match is_root(pid) {
                // What ran for a moment only is nobody any more. How it ended is told, and nothing else runs there.
                Err(error) if is_gone(&error) => Ok(()),
                found => self.judge(found),
            };
        }
        let user = entry.origin.spec.user.split(':').next().unwrap_or_default();
        match self.config.policy.root || user.parse::<u32>().is_ok_and(|user| user != 0) {
            true => Ok(()),
            false => Err("its user is named, and the backend is on another machine, where it cannot be told whether \
                          that is root; give a number (user)"
                .into()),
        }
    }

    /// Listens for the guest of a container.
    pub(super) fn listen(&self, entry: &Arc<Entry>) -> std::io::Result<Link> {
        if let Some(before) = entry.link() {
            return Ok(before);
        }
        let main = &entry.origin.main_execution;
        let settings = Settings {
            journal_bytes: self.config.journal_bytes,
            processes: GUEST_PROCESSES,
            main: (!entry.origin.main.is_empty()).then(|| *main.as_bytes()),
            gate: entry.has_gate().then_some(gate::PORT),
        };
        let link = self.guests.listen(entry.origin.id, settings, self.gate.clone())?;
        entry.set_link(link.clone());
        Ok(link)
    }

    /// A user by name may be root in this image.
    fn check_identity(&self, pid: u32) -> std::result::Result<(), String> {
        self.judge(is_root(pid))
    }

    fn judge(&self, root: std::io::Result<bool>) -> std::result::Result<(), String> {
        if self.config.policy.root {
            return Ok(());
        }
        let root = root.map_err(|error| format!("whom its processes run as cannot be told: {error}"))?;
        match root {
            true => {
                Err("in this image its user is root; name another user, or have the operator set containers.allow_root"
                    .into())
            }
            false => Ok(()),
        }
    }

    fn blueprint(&self, entry: &Entry, init: Vec<String>, environment: Vec<String>) -> Blueprint {
        let (origin, spec) = (&entry.origin, &entry.origin.spec);
        let own = Bind { host: self.guests.path(origin.id), inside: paths::OWN.into(), writable: false };
        let own = (!entry.is_unsupervised()).then_some(own);
        let mounts = spec.mounts.iter().map(|mount| Bind {
            host: PathBuf::from(&mount.host_path),
            inside: mount.container_path.clone(),
            writable: mount.writable,
        });
        let workspace = Tmpfs {
            container_path: spec.workspace.container_path.clone(),
            size_bytes: spec.workspace.size_bytes,
            mode: 0o1777,
            executable: true,
        };
        Blueprint {
            container: origin.id,
            installation: self.installation.clone(),
            image_id: origin.image_id.clone(),
            init,
            environment,
            user: spec.user.clone(),
            groups: spec.hardening.groups.clone(),
            working_directory: match entry.is_unsupervised() {
                true => spec.working_directory.clone(),
                false => "/".into(),
            },
            hostname: spec.hostname.clone(),
            resources: spec.resources,
            binds: own.into_iter().chain(mounts).collect(),
            tmpfs: spec.tmpfs.iter().cloned().chain([workspace]).collect(),
            network: has_network(spec.policy),
            writable_root: spec.hardening.writable_root,
            capabilities: spec.hardening.capabilities.clone(),
            seccomp: self.config.policy.seccomp_profiles.get(&spec.hardening.seccomp_profile).cloned(),
            apparmor: spec.hardening.apparmor_profile.clone(),
            runtime: spec.runtime.clone(),
        }
    }
}

/// Whether a process has a user or a group that is root.
fn is_root(pid: u32) -> std::io::Result<bool> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let ids = status.lines().filter(|line| line.starts_with("Uid:") || line.starts_with("Gid:"));
    Ok(ids.flat_map(|line| line.split_ascii_whitespace().skip(1)).any(|id| id == "0"))
}

/// Whether there is no such process any more.
fn is_gone(error: &std::io::Error) -> bool {
    let gone = [rustix::io::Errno::NOENT, rustix::io::Errno::SRCH];
    rustix::io::Errno::from_io_error(error).is_some_and(|errno| gone.contains(&errno))
}

/// The error of a backend, for whoever made a container.
fn refusal(entry: &Entry, error: BackendError) -> Error {
    match error {
        BackendError::Unavailable(_) | BackendError::NoRoom(_) => backend_error(error),
        other => Error::ContainerFailed { id: entry.origin.id, problem: other.to_string() },
    }
}

fn told(problem: &str) -> String {
    if problem.is_empty() { String::new() } else { format!(": {problem}") }
}
