//! Containers.

use super::{Fields, health, seconds, short_size, short_span, short_time, span, time, word};
use crate::cli::output;
use crate::proto::v1::container_spec::Source;
use crate::proto::v1::watch_containers_response::Event;
use crate::proto::v1::{
    Container, ContainerEnd, ContainerHardening, ContainerMount, ContainerPort, ContainerResources, ContainerSpec,
    ContainerState, KillContainerResponse, OutputChunk, TmpfsMount, WatchContainersResponse,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// A container as JSON.
pub fn json(container: &Container) -> Value {
    let control = container.control.as_ref().map(|control| {
        Fields::default()
            .set("kind", control.kind().as_str_name())
            .set("guestVersion", control.guest_version.as_str())
            .set("reason", control.reason.as_str())
            .into_value()
    });
    Fields::default()
        .set("id", container.id.as_str())
        .set("name", container.name.as_str())
        .set("spec", container.spec.as_ref().map(spec))
        .set("state", container.state().as_str_name())
        .set("problem", container.problem.as_str())
        .set("principal", container.principal.as_str())
        .set("requestId", container.request_id.as_str())
        .set("agent", container.agent.as_str())
        .set("pool", container.pool.as_str())
        .set("imageId", container.image_id.as_str())
        .set("mainExecutionId", container.main_execution_id.as_str())
        .set("createTime", time(&container.create_time))
        .set("startTime", time(&container.start_time))
        .set("endTime", time(&container.end_time))
        .set("expireTime", time(&container.expire_time))
        .set("idleExpireTime", time(&container.idle_expire_time))
        .set("lastActiveTime", time(&container.last_active_time))
        .set("end", container.end.as_ref().map(end))
        .set("control", control)
        .set("health", container.health.as_ref().map(health::json))
        .set("runningExecutions", container.running_executions)
        .set("backendId", container.backend_id.as_str())
        .set("revision", container.revision)
        .into_value()
}

/// How a container ended, as JSON.
pub fn end(end: &ContainerEnd) -> Value {
    let fields = Fields::default().set("reason", end.reason().as_str_name());
    // Zero is the good news here, and not to be left out.
    let fields = if end.signal.is_empty() { fields.choose("exitCode", end.exit_code) } else { fields };
    fields.set("signal", end.signal.as_str()).set("message", end.message.as_str()).into_value()
}

/// A specification as JSON.
pub fn spec(spec: &ContainerSpec) -> Value {
    let mount = |mount: &ContainerMount| {
        Fields::default()
            .set("hostPath", mount.host_path.as_str())
            .set("containerPath", mount.container_path.as_str())
            .set("writable", mount.writable)
            .into_value()
    };
    let tmpfs = |tmpfs: &TmpfsMount| {
        Fields::default()
            .set("containerPath", tmpfs.container_path.as_str())
            .set("sizeBytes", tmpfs.size_bytes)
            .set("mode", tmpfs.mode)
            .set("executable", tmpfs.executable)
            .into_value()
    };
    let port = |port: &ContainerPort| {
        Fields::default()
            .set("containerPort", port.container_port)
            .set("name", port.name.as_str())
            .set("publish", port.publish)
            .set("hostAddress", port.host_address.as_str())
            .set("hostPort", port.host_port)
            .into_value()
    };
    let fields = Fields::default().set("template", spec.template.as_str());
    let fields = match &spec.source {
        Some(Source::Image(image)) => fields.choose("image", image.as_str()),
        Some(Source::SnapshotId(id)) => fields.choose("snapshotId", id.as_str()),
        None => fields,
    };
    let workspace = spec.workspace.as_ref().map(|workspace| {
        Fields::default()
            .set("containerPath", workspace.container_path.as_str())
            .set("name", workspace.name.as_str())
            .set("sizeBytes", workspace.size_bytes)
            .into_value()
    });
    fields
        .set("pullPolicy", spec.pull_policy().as_str_name())
        .set("entrypoint", spec.entrypoint.clone())
        .set("command", spec.command.clone())
        .set("environment", json!(spec.environment))
        .set("labels", json!(spec.labels))
        .set("user", spec.user.as_str())
        .set("workingDirectory", spec.working_directory.as_str())
        .set("hostname", spec.hostname.as_str())
        .set("resources", spec.resources.as_ref().map(resources))
        .set("mounts", spec.mounts.iter().map(mount).collect::<Vec<_>>())
        .set("tmpfs", spec.tmpfs.iter().map(tmpfs).collect::<Vec<_>>())
        .set("workspace", workspace)
        .set("ports", spec.ports.iter().map(port).collect::<Vec<_>>())
        .set("timeToLive", seconds(&spec.time_to_live))
        .set("idleTimeout", seconds(&spec.idle_timeout))
        .set("retention", seconds(&spec.retention))
        .set("policy", spec.policy().as_str_name())
        .set("credentials", spec.credentials.clone())
        .set("runtime", spec.runtime.as_str())
        .set("hardening", spec.hardening.as_ref().map(hardening))
        .set("stopSignal", spec.stop_signal.as_str())
        .set("stopGrace", seconds(&spec.stop_grace))
        .set("healthCheck", spec.health_check.as_ref().map(health::check))
        .into_value()
}

fn resources(resources: &ContainerResources) -> Value {
    Fields::default()
        .set("memoryBytes", resources.memory_bytes)
        .set("swapBytes", resources.swap_bytes)
        .set("cpuMillis", resources.cpu_millis)
        .set("cpuWeight", resources.cpu_weight)
        .set("pids", resources.pids)
        .set("openFiles", resources.open_files)
        .set("diskBytes", resources.disk_bytes)
        .set("sharedMemoryBytes", resources.shared_memory_bytes)
        .set("logBytes", resources.log_bytes)
        .set("executions", resources.executions)
        .into_value()
}

fn hardening(hardening: &ContainerHardening) -> Value {
    Fields::default()
        .set("writableRoot", hardening.writable_root)
        .set("addCapabilities", hardening.add_capabilities.clone())
        .set("seccompProfile", hardening.seccomp_profile.as_str())
        .set("apparmorProfile", hardening.apparmor_profile.as_str())
        .set("supplementaryGroups", hardening.supplementary_groups.clone())
        .into_value()
}

/// A container that was killed, with its output, as JSON.
pub fn killed(answer: &KillContainerResponse) -> Value {
    let chunk = |chunk: &OutputChunk| {
        let fields = Fields::default().choose("offset", chunk.offset).choose("data", STANDARD.encode(&chunk.data));
        match std::str::from_utf8(&chunk.data) {
            Ok(text) => fields.choose("text", text).into_value(),
            Err(_) => fields.into_value(),
        }
    };
    Fields::default()
        .set("container", answer.container.as_ref().map(json))
        .set("stdout", answer.stdout.as_ref().map(chunk))
        .set("stderr", answer.stderr.as_ref().map(chunk))
        .set("endedExecutionIds", answer.ended_execution_ids.clone())
        .into_value()
}

/// News of a watch as JSON.
pub fn news(news: &WatchContainersResponse) -> Value {
    let fields = Fields::default().set("revision", news.revision);
    match &news.event {
        Some(Event::Container(container)) => fields.choose("container", json(container)),
        Some(Event::RemovedContainerId(id)) => fields.choose("removedContainerId", id.as_str()),
        Some(Event::Synced(_)) => fields.choose("synced", json!({})),
        Some(Event::Reset(_)) => fields.choose("reset", json!({})),
        Some(Event::Keepalive(_)) => fields.choose("keepalive", json!({})),
        None => fields,
    }
    .into_value()
}

/// `running`, `ended`, ...
fn state(container: &Container) -> String {
    word(container.state().as_str_name(), "CONTAINER_STATE_")
}

/// Whether a container is over.
pub fn is_over(container: &Container) -> bool {
    matches!(container.state(), ContainerState::Ended | ContainerState::Failed)
}

/// How it ended, in a few words: `exited 3`, `killed`, `out_of_memory`.
pub fn ending(end: &ContainerEnd) -> String {
    let reason = word(end.reason().as_str_name(), "CONTAINER_END_REASON_");
    match (reason.as_str(), end.signal.as_str()) {
        ("exited", "") => format!("exited {}", end.exit_code),
        ("exited", signal) => signal.to_owned(),
        _ => reason,
    }
}

/// What is to be said about it besides its state: its end, or its problem.
fn remark(container: &Container) -> String {
    match &container.end {
        Some(end) => ending(end),
        None => container.problem.clone(),
    }
}

fn image(container: &Container) -> String {
    match container.spec.as_ref().and_then(|spec| spec.source.as_ref()) {
        Some(Source::Image(image)) => image.clone(),
        Some(Source::SnapshotId(id)) => format!("snapshot {id}"),
        None => String::new(),
    }
}

/// A table of containers.
pub fn table(containers: &[Container]) -> String {
    let row = |container: &Container| {
        vec![
            container.name.clone(),
            container.id.clone(),
            image(container),
            state(container),
            short_time(&container.create_time),
            container.running_executions.to_string(),
            remark(container),
        ]
    };
    let head = ["NAME", "ID", "IMAGE", "STATE", "CREATED", "RUNNING", "REMARK"];
    output::table(&head, &containers.iter().map(row).collect::<Vec<_>>())
}

/// One line on a container as it is now: when, who, and where it stands.
pub fn change(container: &Container) -> String {
    let remark = match remark(container) {
        remark if remark.is_empty() => remark,
        remark => format!(" ({})", output::plain(&remark)),
    };
    format!("{}  {}{remark}", output::plain(&container.name), state(container))
}

/// One container in full.
pub fn detail(container: &Container) -> String {
    let spec = container.spec.clone().unwrap_or_default();
    let pairs = |pairs: &mut dyn Iterator<Item = String>| pairs.collect::<Vec<_>>().join(" ");
    let resources = spec.resources.as_ref().map(|resources| {
        format!(
            "memory {}, {} CPU, {} pids, {} executions",
            short_size(resources.memory_bytes),
            f64::from(resources.cpu_millis) / 1000.0,
            resources.pids,
            resources.executions
        )
    });
    let mount = |mount: &ContainerMount| {
        format!("{}:{}{}", mount.host_path, mount.container_path, if mount.writable { ":rw" } else { "" })
    };
    let workspace = spec.workspace.as_ref().map(|workspace| {
        let size = if workspace.size_bytes > 0 { short_size(workspace.size_bytes) } else { String::new() };
        [workspace.container_path.as_str(), &workspace.name, &size].join(" ").trim().to_owned()
    });
    let hardening = spec.hardening.as_ref().map(hardening).filter(|value| *value != json!({}));
    let limit = |value| span(value).map(short_span).unwrap_or_default();
    let control = container.control.as_ref().map(|control| {
        let kind = word(control.kind().as_str_name(), "CONTAINER_CONTROL_KIND_");
        format!("{kind} {}", if control.reason.is_empty() { &control.guest_version } else { &control.reason })
    });
    output::facts(&[
        ("name", container.name.clone()),
        ("id", container.id.clone()),
        ("state", state(container)),
        ("problem", container.problem.clone()),
        ("ended", container.end.as_ref().map(ending).unwrap_or_default()),
        ("message", container.end.as_ref().map(|end| end.message.clone()).unwrap_or_default()),
        ("image", image(container)),
        ("image id", container.image_id.clone()),
        ("template", spec.template.clone()),
        ("entry point", spec.entrypoint.join(" ")),
        ("command", spec.command.join(" ")),
        ("variables", pairs(&mut spec.environment.keys().cloned())),
        ("labels", pairs(&mut spec.labels.iter().map(|(key, value)| format!("{key}={value}")))),
        ("user", spec.user.clone()),
        ("directory", spec.working_directory.clone()),
        ("resources", resources.unwrap_or_default()),
        ("mounts", pairs(&mut spec.mounts.iter().map(mount))),
        ("tmpfs", pairs(&mut spec.tmpfs.iter().map(|tmpfs| tmpfs.container_path.clone()))),
        ("workspace", workspace.unwrap_or_default()),
        ("policy", word(spec.policy().as_str_name(), "SANDBOX_POLICY_")),
        ("runtime", spec.runtime.clone()),
        ("hardening", hardening.map(|value| value.to_string()).unwrap_or_default()),
        ("life", limit(&spec.time_to_live)),
        ("idle", limit(&spec.idle_timeout)),
        ("control", control.unwrap_or_default()),
        ("health check", spec.health_check.as_ref().map(health::probe).unwrap_or_default()),
        ("health", container.health.as_ref().map(health::found).unwrap_or_default()),
        ("owner", container.principal.clone()),
        ("request id", container.request_id.clone()),
        ("main execution", container.main_execution_id.clone()),
        ("running", container.running_executions.to_string()),
        ("created", time(&container.create_time).unwrap_or_default()),
        ("started", time(&container.start_time).unwrap_or_default()),
        ("last active", time(&container.last_active_time).unwrap_or_default()),
        ("ends", time(&container.expire_time).unwrap_or_default()),
        ("ends if idle", time(&container.idle_expire_time).unwrap_or_default()),
        ("over since", time(&container.end_time).unwrap_or_default()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::ContainerEndReason;

    #[test]
    fn an_end_is_told_in_a_few_words() {
        let end = |reason: ContainerEndReason, signal: &str| {
            ending(&ContainerEnd { reason: reason.into(), exit_code: 3, signal: signal.into(), ..Default::default() })
        };
        assert_eq!(end(ContainerEndReason::Exited, ""), "exited 3");
        assert_eq!(end(ContainerEndReason::Exited, "SIGSEGV"), "SIGSEGV");
        assert_eq!(end(ContainerEndReason::OutOfMemory, "SIGKILL"), "out_of_memory");
        let end = ContainerEnd { reason: ContainerEndReason::Exited.into(), ..Default::default() };
        assert_eq!(super::end(&end), json!({ "reason": "CONTAINER_END_REASON_EXITED", "exitCode": 0 }));
    }

    #[test]
    fn a_change_is_one_line_whatever_it_says() {
        let mut container = Container { name: "box".into(), problem: "a\nb\x1b[2J".into(), ..Default::default() };
        container.set_state(ContainerState::Unreachable);
        assert_eq!(change(&container), "box  unreachable (a b\\u{1b}[2J)");
    }
}
