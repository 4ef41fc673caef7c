//! What is counted of containers.

use super::{IntCounter, Maker};
use crate::domain::container::{ContainerState, EndReason};
use prometheus::{Histogram, IntGauge};
use std::collections::HashMap;
use std::time::Duration;

/// From a start on a quiet machine to one behind a pull.
const SPAWN_SECONDS: [f64; 11] = [0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0];

const REASONS: [(EndReason, &str); 10] = [
    (EndReason::Exited, "exited"),
    (EndReason::OutOfMemory, "out_of_memory"),
    (EndReason::Stopped, "stopped"),
    (EndReason::Killed, "killed"),
    (EndReason::Expired, "expired"),
    (EndReason::Idle, "idle"),
    (EndReason::Released, "released"),
    (EndReason::Agent, "agent"),
    (EndReason::ServerShutdown, "server_shutdown"),
    (EndReason::Vanished, "vanished"),
];

const STATES: [ContainerState; 6] = [
    ContainerState::Creating,
    ContainerState::Starting,
    ContainerState::Running,
    ContainerState::Paused,
    ContainerState::Stopping,
    ContainerState::Unreachable,
];

/// What is counted of containers.
pub struct ContainerMetrics {
    spawn_seconds: Histogram,
    failed: IntCounter,
    ended: Vec<IntCounter>,
    now: Vec<IntGauge>,
}

impl ContainerMetrics {
    pub(super) fn new(make: &Maker) -> Self {
        let ended = make.counters("casemate_containers_ended_total", "Containers that ended, by reason.", &["reason"]);
        let now = make.gauges("casemate_containers", "Containers that are not over, by state.", &["state"]);
        ContainerMetrics {
            spawn_seconds: make.histogram(
                "casemate_container_spawn_seconds",
                "Time from a call to a container that runs, in seconds.",
                &SPAWN_SECONDS,
            ),
            failed: make.counter("casemate_containers_failed_total", "Containers that could not be started."),
            ended: REASONS.iter().map(|(_, name)| ended.with_label_values(&[name])).collect(),
            now: STATES.iter().map(|state| now.with_label_values(&[state.name()])).collect(),
        }
    }

    /// One was spawned.
    pub fn spawned(&self, time: Duration) {
        self.spawn_seconds.observe(time.as_secs_f64());
    }

    /// One could not be.
    pub fn failed(&self) {
        self.failed.inc();
    }

    /// One ended.
    pub fn ended(&self, reason: EndReason) {
        if let Some(at) = REASONS.iter().position(|(known, _)| *known == reason) {
            self.ended[at].inc();
        }
    }

    /// How many there are.
    pub(super) fn set(&self, counts: &HashMap<ContainerState, u64>) {
        for (gauge, state) in self.now.iter().zip(STATES) {
            gauge.set(i64::try_from(counts.get(&state).copied().unwrap_or_default()).unwrap_or(i64::MAX));
        }
    }
}
