//! Health of containers.

use super::{Fields, seconds, time, word};
use crate::proto::v1::container_health_check::Probe;
use crate::proto::v1::{ContainerHealth, ContainerHealthCheck, ContainerHealthState};
use serde_json::{Value, json};

/// What checks found, as JSON.
pub fn json(health: &ContainerHealth) -> Value {
    Fields::default()
        .set("state", health.state().as_str_name())
        .set("message", health.message.as_str())
        .set("checkTime", time(&health.check_time))
        .set("failures", health.failures)
        .into_value()
}

/// What checks found, in a line.
pub fn found(health: &ContainerHealth) -> String {
    let state = match health.state() {
        ContainerHealthState::Unspecified => "not known yet".to_owned(),
        state => word(state.as_str_name(), "CONTAINER_HEALTH_STATE_"),
    };
    format!("{state} {}", health.message).trim_end().to_owned()
}

/// A check, as JSON.
pub fn check(check: &ContainerHealthCheck) -> Value {
    let fields = Fields::default();
    let fields = match &check.probe {
        Some(Probe::Command(command)) => fields.set("command", json!({ "command": command.command })),
        Some(Probe::TcpPort(port)) => fields.set("tcpPort", *port),
        Some(Probe::Http(http)) => fields.set("http", json!({ "port": http.port, "path": http.path })),
        None => fields,
    };
    fields
        .set("interval", seconds(&check.interval))
        .set("timeout", seconds(&check.timeout))
        .set("failureThreshold", check.failure_threshold)
        .set("startPeriod", seconds(&check.start_period))
        .into_value()
}

/// What a check tries, in a few words.
pub fn probe(check: &ContainerHealthCheck) -> String {
    match &check.probe {
        Some(Probe::Command(command)) => command.command.join(" "),
        Some(Probe::TcpPort(port)) => format!("port {port}"),
        Some(Probe::Http(http)) => format!("http {}{}", http.port, http.path),
        None => String::new(),
    }
}
