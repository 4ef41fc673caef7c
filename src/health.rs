//! One watched health value. The gRPC health service and the HTTP sidecar both read it, so they agree.
//!
//! ```
//! use casemate::health::{ComponentState, Health, Status};
//!
//! let health = Health::new();
//! health.set("store", ComponentState::Up, "");
//! assert!(!health.report().ready());
//! health.started();
//! assert_eq!(health.report().status, Status::Ready);
//! health.set("tools", ComponentState::Degraded, "2 of 5 tools cannot be loaded");
//! assert_eq!(health.report().status, Status::Degraded);
//! assert!(health.report().ready());
//! health.set("store", ComponentState::Down, "disk full");
//! assert!(!health.report().ready());
//! ```

use crate::domain::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// How the server as a whole stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Not all parts are there yet.
    Starting,
    /// All is well.
    Ready,
    /// Some part is impaired or down; [`Report::ready`] says whether calls are still served.
    Degraded,
    /// Shutting down: what runs may finish, nothing new is taken.
    Draining,
}

impl Status {
    /// Lower-case name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Status::Starting => "starting",
            Status::Ready => "ready",
            Status::Degraded => "degraded",
            Status::Draining => "draining",
        }
    }
}

/// How one part stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComponentState {
    /// Works.
    Up,
    /// Works in part; calls are still served.
    Degraded,
    /// Does not work, and calls cannot be served without it.
    Down,
    /// Turned off by the configuration, or not available here; nothing is missing.
    Disabled,
}

impl ComponentState {
    /// Lower-case name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            ComponentState::Up => "up",
            ComponentState::Degraded => "degraded",
            ComponentState::Down => "down",
            ComponentState::Disabled => "disabled",
        }
    }
}

/// One part of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// How it stands.
    pub state: ComponentState,
    /// Why, for people; may be empty. Readable without a token, so it must not tell secrets.
    pub detail: String,
}

/// The health of the server at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// As a whole.
    pub status: Status,
    /// Each part, by name.
    pub components: BTreeMap<&'static str, Component>,
    /// Since when `status` is what it is.
    pub since: Timestamp,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Serving,
    Draining,
}

impl Report {
    /// Whether new calls should be sent here: started, not draining, and no part down.
    pub fn ready(&self) -> bool {
        self.phase == Phase::Serving
            && self.components.values().all(|component| component.state != ComponentState::Down)
    }

    fn judge(&self) -> Status {
        let impaired =
            |component: &Component| matches!(component.state, ComponentState::Degraded | ComponentState::Down);
        match self.phase {
            Phase::Starting => Status::Starting,
            Phase::Draining => Status::Draining,
            Phase::Serving if self.components.values().any(impaired) => Status::Degraded,
            Phase::Serving => Status::Ready,
        }
    }
}

/// The handle to the health value. Cheap to clone; all clones are the same value.
#[derive(Clone, Debug)]
pub struct Health {
    report: Arc<watch::Sender<Report>>,
}

impl Health {
    /// A server that is starting and has no parts yet.
    #[allow(clippy::new_without_default)] // a default health would hide that it begins as not ready
    pub fn new() -> Self {
        let report = Report {
            status: Status::Starting,
            components: BTreeMap::new(),
            since: Timestamp::now(),
            phase: Phase::Starting,
        };
        Health { report: Arc::new(watch::Sender::new(report)) }
    }

    /// Sets the state of one part. Watchers wake only when that changes something.
    pub fn set(&self, component: &'static str, state: ComponentState, detail: impl Into<String>) {
        let next = Component { state, detail: detail.into() };
        self.change(|report| {
            let same = report.components.get(component) == Some(&next);
            if !same {
                report.components.insert(component, next);
            }
            !same
        });
    }

    /// All parts are there: calls are served from now on.
    pub fn started(&self) {
        self.enter(Phase::Starting, Phase::Serving);
    }

    /// The server is going down. There is no way back.
    pub fn drain(&self) {
        self.enter(Phase::Starting, Phase::Draining);
        self.enter(Phase::Serving, Phase::Draining);
    }

    /// The health right now.
    pub fn report(&self) -> Report {
        self.report.borrow().clone()
    }

    /// Whether new calls should be sent here; see [`Report::ready`].
    pub fn ready(&self) -> bool {
        self.report.borrow().ready()
    }

    /// A watcher that sees the present value and every change. It ends when the last handle goes.
    pub fn subscribe(&self) -> watch::Receiver<Report> {
        self.report.subscribe()
    }

    fn enter(&self, from: Phase, to: Phase) {
        self.change(|report| {
            let moves = report.phase == from;
            if moves {
                report.phase = to;
            }
            moves
        });
    }

    fn change(&self, change: impl FnOnce(&mut Report) -> bool) {
        self.report.send_if_modified(|report| {
            let changed = change(report);
            let status = report.judge();
            if status != report.status {
                report.status = status;
                report.since = Timestamp::now();
            }
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draining_is_for_good() {
        let health = Health::new();
        health.started();
        health.drain();
        health.started();
        health.set("engine", ComponentState::Up, "");
        assert_eq!(health.report().status, Status::Draining);
        assert!(!health.ready());
        let never_started = Health::new();
        never_started.drain();
        assert_eq!(never_started.report().status, Status::Draining);
    }

    #[test]
    fn a_part_that_is_down_takes_readiness_and_gives_it_back() {
        let health = Health::new();
        health.set("store", ComponentState::Down, "disk full");
        health.set("http", ComponentState::Disabled, "http.enabled = false");
        health.started();
        assert_eq!((health.report().status, health.ready()), (Status::Degraded, false));
        health.set("store", ComponentState::Up, "");
        assert_eq!((health.report().status, health.ready()), (Status::Ready, true));
    }

    #[test]
    fn watchers_wake_on_changes_only() {
        let health = Health::new();
        let mut watcher = health.subscribe();
        watcher.mark_unchanged();
        health.set("engine", ComponentState::Up, "");
        assert!(watcher.has_changed().unwrap());
        watcher.mark_unchanged();
        health.set("engine", ComponentState::Up, "");
        assert!(!watcher.has_changed().unwrap());
    }
}
