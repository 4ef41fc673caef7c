//! How a container ends: by itself, by somebody's wish, by the clock.

use super::backend::{Backend, BackendError, Ending};
use super::entry::Entry;
use super::link::LinkState;
use super::manager::{Containers, Roster, Viewer};
use super::spawn::PUT_AWAY;
use super::{health, signal};
use crate::domain::container::{Container, ContainerEnd, ContainerState, EndReason};
use crate::domain::execution::{Exit, Outcome};
use crate::domain::id::ExecutionId;
use crate::domain::time::Timestamp;
use crate::error::Result;
use crate::execution::{Ended, Live};
use casemate_guest::protocol::Signal;
use std::sync::Arc;
use std::time::Duration;

/// How long processes that were killed may take to be told of as ended.
const DYING: Duration = Duration::from_secs(2);
/// How long to wait before the backend is asked again to kill what it did not.
const AGAIN: Duration = Duration::from_millis(500);
/// The clock is looked at this often at least, for it may be set.
const CLOCK: Duration = Duration::from_secs(60);

impl Roster {
    /// A container is over: its name and its place are free.
    pub(super) fn release(&mut self, entry: &Entry) {
        if self.names.get(&entry.origin.name) == Some(&entry.origin.id) {
            self.names.remove(&entry.origin.name);
        }
        if let Some(owned) = self.owned.get_mut(&entry.origin.principal) {
            *owned = owned.saturating_sub(1);
            if *owned == 0 {
                self.owned.remove(&entry.origin.principal);
            }
        }
    }
}

impl Containers {
    /// Asks the main process to stop, and kills what is left after the grace. Answers when the container is over.
    pub async fn stop(&self, name: &str, grace: Option<Duration>, why: &str, viewer: &Viewer) -> Result<Container> {
        let entry = self.find(name, viewer)?;
        let grace = grace.unwrap_or(entry.origin.spec.stop_grace);
        self.end(&entry, EndReason::Stopped, because("it was stopped", why), grace).await
    }

    /// Kills all processes at once. Answers when the container is over, with the executions that ended with it.
    pub async fn kill(&self, name: &str, why: &str, viewer: &Viewer) -> Result<(Container, Vec<ExecutionId>)> {
        let entry = self.find(name, viewer)?;
        let running = entry.running().into_iter().map(|live| live.origin().id);
        let ended = running.filter(|id| *id != entry.origin.main_execution).collect();
        let container = self.end(&entry, EndReason::Killed, because("it was killed", why), Duration::ZERO).await?;
        Ok((container, ended))
    }

    /// Freezes all processes.
    pub async fn pause(&self, name: &str, viewer: &Viewer) -> Result<Container> {
        let entry = self.find(name, viewer)?;
        entry.adopted().await;
        let _still = entry.still.lock().await;
        if entry.state() == ContainerState::Paused {
            return Ok(entry.container());
        }
        entry.ready()?;
        self.backend.pause(&entry.backend_id()).await.map_err(super::manager::backend_error)?;
        self.frozen(&entry, ContainerState::Running, ContainerState::Paused);
        Ok(entry.container())
    }

    /// Thaws all processes.
    pub async fn resume(&self, name: &str, viewer: &Viewer) -> Result<Container> {
        let entry = self.find(name, viewer)?;
        entry.adopted().await;
        let _still = entry.still.lock().await;
        if entry.state() != ContainerState::Paused {
            entry.ready()?;
            return Ok(entry.container());
        }
        self.backend.resume(&entry.backend_id()).await.map_err(super::manager::backend_error)?;
        self.frozen(&entry, ContainerState::Paused, ContainerState::Running);
        Ok(entry.container())
    }

    fn frozen(&self, entry: &Arc<Entry>, from: ContainerState, to: ContainerState) {
        entry.change(|status| {
            if status.state == from {
                status.state = to;
            }
        });
        self.save_later(entry);
    }

    /// Ends a container, or waits for the end that somebody else began. With no grace, that end is hurried.
    async fn end(&self, entry: &Arc<Entry>, reason: EndReason, message: String, grace: Duration) -> Result<Container> {
        let this = self.share()?;
        this.begin_end(entry, reason, message, grace);
        entry.until(ContainerState::is_over).await;
        Ok(entry.container())
    }

    /// As the server goes down, and does not leave it running.
    pub(super) async fn end_for_shutdown(self: Arc<Self>, entry: Arc<Entry>) {
        let message = "the server shut down, and does not leave containers running (containers.on_shutdown)".to_owned();
        let grace = entry.origin.spec.stop_grace;
        let _ = self.end(&entry, EndReason::ServerShutdown, message, grace).await;
    }

    pub(super) fn begin_end(self: &Arc<Self>, entry: &Arc<Entry>, reason: EndReason, message: String, grace: Duration) {
        if entry.doom(reason) {
            self.save_later(entry);
            tokio::spawn(self.clone().finish(entry.clone(), reason, message, grace));
        } else if grace.is_zero() {
            entry.hurry.notify_one();
        }
    }

    /// Watches over a container that runs, until it is over.
    pub(super) fn tend(&self, entry: &Arc<Entry>) {
        let Ok(this) = self.share() else { return };
        if let Some(check) = entry.origin.health_check.clone() {
            tokio::spawn(health::watch(entry.clone(), check));
        }
        let entry = entry.clone();
        tokio::spawn(async move {
            let backend_id = entry.backend_id();
            let (weak, backend, registry) = (Arc::downgrade(&this), this.backend.clone(), this.registry.clone());
            // Held no longer than it takes to look: a server that goes away leaves the container as it is.
            drop(this);
            let broken = async {
                let Some(link) = entry.link() else { return std::future::pending().await };
                let mut state = link.state();
                loop {
                    if let LinkState::Broken(problem) = &*state.borrow_and_update() {
                        return problem.clone();
                    }
                    if state.changed().await.is_err() {
                        return std::future::pending().await;
                    }
                }
            };
            let unsupervised = entry.is_unsupervised();
            let main = async {
                if unsupervised {
                    // It is the sandbox's first process, and what is known of it ends with the server.
                    return std::future::pending().await;
                }
                // It may have ended before anybody looked.
                match registry.find(entry.origin.main_execution).await {
                    Ok(main) => drop(main.journal().ended().await),
                    Err(_) => std::future::pending().await,
                }
            };
            let (reason, message) = tokio::select! {
                // Its end is the container's: that comes first.
                biased;
                () = main => (EndReason::Exited, String::new()),
                problem = broken => (EndReason::Killed, format!("its supervisor broke the protocol and it was killed: {problem}")),
                ending = gone(&*backend, &backend_id) => match ending {
                    Some(Ending { out_of_memory: true, .. }) => {
                        (EndReason::OutOfMemory, "it ran out of memory; give it more (resources.memory_bytes)".to_owned())
                    }
                    Some(_) if unsupervised => (EndReason::Exited, String::new()),
                    _ => (EndReason::Vanished, "it was ended from outside of this server".to_owned()),
                },
                expired = clock(&entry) => expired,
                () = entry.until(|state| state == ContainerState::Stopping || state.is_over()) => return,
            };
            if let Some(this) = weak.upgrade() {
                let grace = match reason {
                    EndReason::Expired | EndReason::Idle => entry.origin.spec.stop_grace,
                    _ => Duration::ZERO,
                };
                this.begin_end(&entry, reason, message, grace);
            }
        });
    }

    /// Ends a container that is doomed.
    pub(super) async fn finish(
        self: Arc<Self>,
        entry: Arc<Entry>,
        reason: EndReason,
        message: String,
        grace: Duration,
    ) {
        if !entry.begins_to_finish() {
            return;
        }
        let backend_id = entry.backend_id();
        // Frozen processes hear no signal.
        let _ = self.backend.resume(&backend_id).await;
        if !grace.is_zero() {
            tokio::select! {
                () = self.ask_to_stop(&entry, &backend_id) => {}
                () = entry.hurry.notified() => {}
                () = tokio::time::sleep(grace) => {}
            }
        }
        self.kill_processes(&entry).await;
        if let Some(link) = entry.link() {
            link.shut_down();
        }
        let ending = self.kill_sandbox(&entry, &backend_id).await;
        if let Some(link) = entry.link() {
            link.close();
        }
        all_ended(&entry.running()).await;
        // What ran in it is on disk before it is told that it is over.
        if let Err(error) = self.registry.flush().await {
            tracing::error!(container = %entry.origin.id, %error, "the ends of its processes could not be recorded yet");
        }
        let outcome = match self.registry.find(entry.origin.main_execution).await {
            Ok(live) => live.execution().outcome,
            Err(_) => None,
        };
        let end = container_end(reason, message, outcome.as_deref(), ending);
        self.conclude(&entry, ContainerState::Ended, String::new(), Some(end)).await;
        self.observer.ended(&entry.container());
    }

    /// Asks the main process to stop, and waits until it does.
    async fn ask_to_stop(&self, entry: &Entry, backend_id: &str) {
        if let (Some(main), Some(link)) = (entry.main(), entry.link()) {
            link.signal(*main.origin().id.as_bytes(), entry.origin.stop_signal, Signal::Group);
            main.journal().ended().await;
        } else if entry.is_unsupervised() {
            match self.backend.signal(backend_id, entry.origin.stop_signal).await {
                Ok(()) => drop(gone(&*self.backend, backend_id).await),
                Err(error) => tracing::warn!(container = %entry.origin.id, %error, "it could not be asked to stop"),
            }
        }
    }

    /// Ends all that runs in it, and waits until that is told of.
    async fn kill_processes(&self, entry: &Entry) {
        let running = entry.running();
        for live in &running {
            live.end(Ended::new(Exit::ContainerStopped, "its container was ended, and so was it"));
        }
        // A supervisor that is gone cannot tell; then the end of the link does.
        let _ = tokio::time::timeout(DYING, all_ended(&running)).await;
    }

    /// Kills the sandbox, however long the backend takes to do so. Answers its exit code and whether memory ran out.
    async fn kill_sandbox(&self, entry: &Entry, backend_id: &str) -> (i32, bool) {
        if backend_id.is_empty() {
            return (0, false);
        }
        loop {
            let killed = self.backend.kill(backend_id).await;
            let ended = match killed {
                Ok(()) => self.backend.ended(backend_id).await,
                Err(error) => Err(error),
            };
            match ended {
                Ok(ending) => return (ending.code, ending.out_of_memory),
                Err(BackendError::NotFound(_)) => return (0, false),
                Err(error) => {
                    tracing::warn!(container = %entry.origin.id, %error, "it could not be killed yet");
                    entry.change(|status| status.problem = format!("it could not be killed yet: {error}"));
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// A container is over: its place is free, and what it had on the host is put away.
    async fn conclude(&self, entry: &Arc<Entry>, state: ContainerState, problem: String, end: Option<ContainerEnd>) {
        self.guests.remove(entry.origin.id);
        // Whoever is told that it is over finds nothing of it, unless something of it is to be kept.
        if entry.origin.spec.retention.is_zero() || state == ContainerState::Failed {
            self.remove_sandbox(entry).await;
        }
        self.roster.lock().release(entry);
        entry.change(|status| {
            status.state = state;
            status.problem = problem;
            status.ended = Some(Timestamp::now());
            status.end = end;
        });
        if let Err(error) = self.save(entry).await {
            tracing::error!(container = %entry.origin.id, %error, "the end of a container could not be recorded");
        }
    }

    /// Removes what the backend has of it.
    pub(super) async fn remove_sandbox(&self, entry: &Arc<Entry>) {
        let backend_id = entry.backend_id();
        if backend_id.is_empty() {
            return;
        }
        match self.backend.remove(&backend_id).await {
            Ok(()) => {
                entry.change(|status| status.backend_id.clear());
                self.save_later(entry);
            }
            // It is tried again later.
            Err(error) => tracing::warn!(container = %entry.origin.id, %error, "a sandbox could not be removed yet"),
        }
    }

    /// A container could not be made. Whatever there is of it is removed.
    pub(super) async fn give_up(&self, entry: &Arc<Entry>, problem: String) {
        tracing::warn!(container = %entry.origin.id, %problem, "a container could not be started");
        self.observer.failed();
        if let Some(link) = entry.link() {
            link.close();
        }
        let _ = tokio::time::timeout(PUT_AWAY, self.remove_sandbox(entry)).await;
        all_ended(&entry.running()).await;
        self.conclude(entry, ContainerState::Failed, problem, None).await;
    }
}

fn because(what: &str, why: &str) -> String {
    if why.is_empty() { what.to_owned() } else { format!("{what}: {why}") }
}

async fn all_ended(running: &[Arc<Live>]) {
    for live in running {
        live.journal().ended().await;
    }
}

/// Waits until a sandbox does not run. Answers how it ended; none for one that is not there any more.
async fn gone(backend: &dyn Backend, id: &str) -> Option<Ending> {
    loop {
        match backend.ended(id).await {
            Ok(ending) => return Some(ending),
            Err(BackendError::NotFound(_)) => return None,
            // The backend is away; the sandbox may run on.
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

/// Waits for the time at which it is to end.
async fn clock(entry: &Entry) -> (EndReason, String) {
    loop {
        let container = entry.container();
        let now = Timestamp::now();
        let left = |time: Option<Timestamp>| time.map(|time| time.since(now));
        let (life, idle) = (left(container.life_ends()), left(container.idle_expires()));
        if life.is_some_and(|left| left.is_zero()) {
            return (EndReason::Expired, "its time to live passed (time_to_live)".into());
        }
        if idle.is_some_and(|left| left.is_zero()) {
            return (EndReason::Idle, "nothing happened in it for its idle timeout (idle_timeout)".into());
        }
        // While something runs, its idle time has not begun: the end of that is looked for now and then.
        let busy = entry.origin.spec.idle_timeout.filter(|_| idle.is_none());
        let next = [life, idle, busy].into_iter().flatten().min().unwrap_or(CLOCK).min(CLOCK);
        tokio::time::sleep(next.max(Duration::from_millis(1))).await;
    }
}

fn container_end(
    reason: EndReason,
    message: String,
    main: Option<&Outcome>,
    (code, memory): (i32, bool),
) -> ContainerEnd {
    let mut end = ContainerEnd { reason, exit_code: 0, signal: String::new(), message };
    match main.map(|outcome| &outcome.exit) {
        Some(Exit::Exited { code }) => end.exit_code = *code,
        Some(Exit::Signaled { signal }) => end.signal.clone_from(signal),
        Some(Exit::OutOfMemory) => {
            end.signal = signal::name(signal::KILL);
            if reason == EndReason::Exited {
                end.reason = EndReason::OutOfMemory;
            }
        }
        Some(_) => end.signal = signal::name(signal::KILL),
        None => end.exit_code = code,
    }
    if memory && end.reason == EndReason::Vanished {
        end.reason = EndReason::OutOfMemory;
    }
    if end.message.is_empty() {
        end.message = match (&end.reason, main) {
            (EndReason::OutOfMemory, _) => {
                "its main process ran out of memory; give it more (resources.memory_bytes)".into()
            }
            (_, Some(main)) if !matches!(main.exit, Exit::Exited { code: 0 }) => match main.message.as_str() {
                "" => format!("its main process exited with {}", end.exit_code),
                text => format!("its main process: {text}"),
            },
            _ => String::new(),
        };
    }
    end
}
