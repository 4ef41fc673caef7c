//! Containers as messages, and what somebody asks of them.

use super::{duration, health, id, moment, request_id, span, timestamp};
use crate::container::{ContainerFilter, NewProcess, ResourcesWish, Wish};
use crate::domain::container::{
    Consumption, Container, ContainerEnd, ContainerSpec, ContainerState, Control, EndReason, Hardening, Mount, Port,
    PullPolicy, Resources, SandboxPolicy, Tmpfs, Workspace,
};
use crate::error::{Error, Result};
use crate::proto::v1;
use std::sync::Arc;
use std::time::Duration;
use v1::container_spec::Source;

/// A container.
pub fn container(container: &Container) -> v1::Container {
    let (origin, status) = (&container.origin, &container.status);
    let main = (!origin.main.is_empty() && status.started.is_some()).then(|| origin.main_execution.to_string());
    v1::Container {
        id: origin.id.to_string(),
        name: origin.name.clone(),
        spec: Some(v1::ContainerSpec {
            labels: container.labels(),
            source: Some(match origin.snapshot {
                Some(snapshot) => Source::SnapshotId(snapshot.to_string()),
                None => Source::Image(origin.spec.image.clone()),
            }),
            health_check: origin.health_check.as_ref().map(health::check),
            ..spec(&origin.spec)
        }),
        state: state(status.state).into(),
        problem: status.problem.clone(),
        principal: container.owner().to_string(),
        request_id: origin.request_id.map(|id| id.to_string()).unwrap_or_default(),
        agent: String::new(),
        pool: container.belonging.as_ref().map(|home| home.pool.clone()).unwrap_or_default(),
        image_id: origin.image_id.clone(),
        main_execution_id: main.unwrap_or_default(),
        create_time: Some(timestamp(origin.created)),
        start_time: status.started.map(timestamp),
        end_time: status.ended.map(timestamp),
        expire_time: container.expires().filter(|_| !status.state.is_over()).map(timestamp),
        idle_expire_time: container.idle_expires().filter(|_| !status.state.is_over()).map(timestamp),
        last_active_time: Some(timestamp(status.last_active)),
        end: status.end.as_ref().map(end),
        control: Some(control(&status.control)),
        health: container.health.as_ref().map(health::found),
        running_executions: container.running_executions,
        capabilities: None,
        backend_id: status.backend_id.clone(),
        revision: container.revision,
    }
}

fn spec(spec: &ContainerSpec) -> v1::ContainerSpec {
    let resources = &spec.resources;
    v1::ContainerSpec {
        template: spec.template.clone(),
        source: None,
        pull_policy: pull_policy(spec.pull).into(),
        entrypoint: spec.entrypoint.clone(),
        command: spec.command.clone(),
        // Names alone: a value may be a secret.
        environment: spec.environment.keys().map(|name| (name.clone(), String::new())).collect(),
        labels: spec.labels.clone(),
        user: spec.user.clone(),
        working_directory: spec.working_directory.clone(),
        hostname: spec.hostname.clone(),
        resources: Some(resources_of(resources)),
        mounts: spec.mounts.iter().map(mount).collect(),
        tmpfs: spec.tmpfs.iter().map(tmpfs).collect(),
        workspace: Some(workspace(&spec.workspace)),
        ports: spec.ports.iter().map(port).collect(),
        time_to_live: spec.time_to_live.map(duration),
        idle_timeout: spec.idle_timeout.map(duration),
        retention: Some(duration(spec.retention)),
        policy: sandbox_policy(spec.policy).into(),
        network: None,
        credentials: Vec::new(),
        runtime: spec.runtime.clone(),
        hardening: Some(hardening(&spec.hardening)),
        stop_signal: spec.stop_signal.clone(),
        stop_grace: Some(duration(spec.stop_grace)),
        health_check: None,
    }
}

fn resources_of(resources: &Resources) -> v1::ContainerResources {
    v1::ContainerResources {
        memory_bytes: resources.memory_bytes,
        swap_bytes: Some(resources.swap_bytes),
        cpu_millis: resources.cpu_millis,
        cpu_weight: resources.cpu_weight,
        pids: resources.pids,
        open_files: resources.open_files,
        disk_bytes: resources.disk_bytes,
        shared_memory_bytes: resources.shared_memory_bytes,
        log_bytes: resources.log_bytes,
        executions: resources.executions,
    }
}

pub(super) fn pull_policy(pull: PullPolicy) -> v1::ImagePullPolicy {
    match pull {
        PullPolicy::IfMissing => v1::ImagePullPolicy::IfMissing,
        PullPolicy::Always => v1::ImagePullPolicy::Always,
        PullPolicy::Never => v1::ImagePullPolicy::Never,
    }
}

pub(super) fn sandbox_policy(policy: SandboxPolicy) -> v1::SandboxPolicy {
    match policy {
        SandboxPolicy::Container => v1::SandboxPolicy::Container,
        SandboxPolicy::ContainerDirect => v1::SandboxPolicy::ContainerDirect,
    }
}

pub(super) fn hardening(hardening: &Hardening) -> v1::ContainerHardening {
    v1::ContainerHardening {
        writable_root: hardening.writable_root,
        add_capabilities: hardening.capabilities.clone(),
        seccomp_profile: hardening.seccomp_profile.clone(),
        apparmor_profile: hardening.apparmor_profile.clone(),
        supplementary_groups: hardening.groups.clone(),
    }
}

pub(super) fn workspace(workspace: &Workspace) -> v1::Workspace {
    let Workspace { container_path, name, size_bytes } = workspace.clone();
    v1::Workspace { container_path, name, size_bytes }
}

pub(super) fn mount(mount: &Mount) -> v1::ContainerMount {
    let Mount { host_path, container_path, writable } = mount.clone();
    v1::ContainerMount { host_path, container_path, writable }
}

pub(super) fn tmpfs(tmpfs: &Tmpfs) -> v1::TmpfsMount {
    let Tmpfs { container_path, size_bytes, mode, executable } = tmpfs.clone();
    v1::TmpfsMount { container_path, size_bytes, mode: Some(mode), executable }
}

pub(super) fn port(port: &Port) -> v1::ContainerPort {
    v1::ContainerPort { container_port: port.container_port.into(), name: port.name.clone(), ..Default::default() }
}

/// A state.
pub fn state(state: ContainerState) -> v1::ContainerState {
    match state {
        ContainerState::Creating => v1::ContainerState::Creating,
        ContainerState::Starting => v1::ContainerState::Starting,
        ContainerState::Running => v1::ContainerState::Running,
        ContainerState::Paused => v1::ContainerState::Paused,
        ContainerState::Stopping => v1::ContainerState::Stopping,
        ContainerState::Ended => v1::ContainerState::Ended,
        ContainerState::Failed => v1::ContainerState::Failed,
        ContainerState::Unreachable => v1::ContainerState::Unreachable,
    }
}

/// How a container ended.
pub fn end(end: &ContainerEnd) -> v1::ContainerEnd {
    v1::ContainerEnd {
        reason: match end.reason {
            EndReason::Exited => v1::ContainerEndReason::Exited,
            EndReason::OutOfMemory => v1::ContainerEndReason::OutOfMemory,
            EndReason::Stopped => v1::ContainerEndReason::Stopped,
            EndReason::Killed => v1::ContainerEndReason::Killed,
            EndReason::Expired => v1::ContainerEndReason::Expired,
            EndReason::Idle => v1::ContainerEndReason::Idle,
            EndReason::Released => v1::ContainerEndReason::Released,
            EndReason::Agent => v1::ContainerEndReason::Agent,
            EndReason::ServerShutdown => v1::ContainerEndReason::ServerShutdown,
            EndReason::Vanished => v1::ContainerEndReason::Vanished,
        }
        .into(),
        exit_code: end.exit_code,
        signal: end.signal.clone(),
        message: end.message.clone(),
    }
}

fn control(control: &Control) -> v1::ContainerControl {
    let (kind, guest_version, reason) = match control {
        Control::Unknown => (v1::ContainerControlKind::Unspecified, String::new(), String::new()),
        Control::Guest { version } => (v1::ContainerControlKind::Guest, version.clone(), String::new()),
        Control::Backend { reason } => (v1::ContainerControlKind::BackendExec, String::new(), reason.clone()),
    };
    v1::ContainerControl { kind: kind.into(), guest_version, reason }
}

/// What a container consumes; `usage` is in whole CPUs.
pub fn stats(found: &Consumption, usage: f64, running: u32) -> v1::ContainerStats {
    v1::ContainerStats {
        time: Some(timestamp(found.time)),
        cpu_time: Some(duration(found.cpu_time)),
        cpu_throttled_time: Some(duration(found.throttled_time)),
        cpu_usage: usage,
        memory_bytes: found.memory_bytes,
        memory_peak_bytes: found.memory_peak_bytes,
        memory_limit_bytes: found.memory_limit_bytes,
        swap_bytes: found.swap_bytes,
        cache_bytes: found.cache_bytes,
        oom_kills: found.oom_kills,
        pids: found.pids,
        pids_limit: found.pids_limit,
        block_read_bytes: found.block_read_bytes,
        block_written_bytes: found.block_written_bytes,
        network_received_bytes: found.network_received_bytes,
        network_sent_bytes: found.network_sent_bytes,
        disk_bytes: 0,
        workspace_bytes: 0,
        running_executions: running,
    }
}

/// What somebody asks of a new container.
pub fn wish(spec: Option<v1::ContainerSpec>) -> Result<Wish> {
    let spec = spec.unwrap_or_default();
    let refuse = |feature| Err(Error::Unimplemented { feature });
    let (image, snapshot) = match spec.source {
        Some(Source::Image(image)) => (image, String::new()),
        Some(Source::SnapshotId(id)) if id.is_empty() => {
            return Err(Error::invalid("spec.snapshot_id", "is empty; expected the id or name of a snapshot"));
        }
        Some(Source::SnapshotId(id)) => (String::new(), id),
        None => (String::new(), String::new()),
    };
    if spec.network.is_some() {
        return refuse("ContainerSpec.network");
    }
    if !spec.credentials.is_empty() {
        return refuse("ContainerSpec.credentials");
    }
    if spec.ports.iter().any(|port| port.publish || !port.host_address.is_empty() || port.host_port != 0) {
        return refuse("ContainerPort.publish");
    }
    let time = |name: &str, asked: &Option<prost_types::Duration>| -> Result<Option<Duration>> {
        asked.as_ref().map(|asked| span(&format!("spec.{name}"), asked)).transpose()
    };
    let resources = spec.resources.unwrap_or_default();
    Ok(Wish {
        template: spec.template,
        image,
        pull: pull(spec.pull_policy)?,
        entrypoint: spec.entrypoint,
        command: spec.command,
        environment: spec.environment,
        labels: spec.labels,
        user: spec.user,
        working_directory: spec.working_directory,
        hostname: spec.hostname,
        resources: ResourcesWish {
            memory_bytes: resources.memory_bytes,
            swap_bytes: resources.swap_bytes,
            cpu_millis: resources.cpu_millis,
            cpu_weight: resources.cpu_weight,
            pids: resources.pids,
            open_files: resources.open_files,
            disk_bytes: resources.disk_bytes,
            shared_memory_bytes: resources.shared_memory_bytes,
            log_bytes: resources.log_bytes,
            executions: resources.executions,
        },
        mounts: spec.mounts.into_iter().map(asked_mount).collect(),
        tmpfs: spec.tmpfs.into_iter().map(asked_tmpfs).collect(),
        workspace: spec.workspace.map(|workspace| Workspace {
            container_path: workspace.container_path,
            name: workspace.name,
            size_bytes: workspace.size_bytes,
        }),
        ports: spec.ports.iter().enumerate().map(|(at, port)| asked_port(at, port)).collect::<Result<_>>()?,
        time_to_live: time("time_to_live", &spec.time_to_live)?,
        idle_timeout: time("idle_timeout", &spec.idle_timeout)?,
        retention: time("retention", &spec.retention)?,
        policy: policy(spec.policy)?,
        runtime: spec.runtime,
        hardening: spec.hardening.map(|hardening| Hardening {
            writable_root: hardening.writable_root,
            capabilities: hardening.add_capabilities,
            seccomp_profile: hardening.seccomp_profile,
            apparmor_profile: hardening.apparmor_profile,
            groups: hardening.supplementary_groups,
        }),
        stop_signal: spec.stop_signal,
        stop_grace: time("stop_grace", &spec.stop_grace)?,
        snapshot,
        health_check: spec.health_check.map(health::asked).transpose()?,
    })
}

fn asked_mount(mount: v1::ContainerMount) -> Mount {
    Mount { host_path: mount.host_path, container_path: mount.container_path, writable: mount.writable }
}

fn asked_tmpfs(tmpfs: v1::TmpfsMount) -> Tmpfs {
    let mode = tmpfs.mode.unwrap_or(0o700);
    Tmpfs { container_path: tmpfs.container_path, size_bytes: tmpfs.size_bytes, mode, executable: tmpfs.executable }
}

fn asked_port(at: usize, port: &v1::ContainerPort) -> Result<Port> {
    let number = u16::try_from(port.container_port).ok().filter(|number| *number > 0);
    let container_port = number.ok_or_else(|| {
        Error::invalid(
            format!("spec.ports[{at}].container_port"),
            format!("is {}; expected 1 to 65,535", port.container_port),
        )
    })?;
    Ok(Port { container_port, name: port.name.clone() })
}

fn pull(number: i32) -> Result<Option<PullPolicy>> {
    match v1::ImagePullPolicy::try_from(number) {
        Ok(v1::ImagePullPolicy::Unspecified) => Ok(None),
        Ok(v1::ImagePullPolicy::IfMissing) => Ok(Some(PullPolicy::IfMissing)),
        Ok(v1::ImagePullPolicy::Always) => Ok(Some(PullPolicy::Always)),
        Ok(v1::ImagePullPolicy::Never) => Ok(Some(PullPolicy::Never)),
        Err(_) => Err(Error::invalid("spec.pull_policy", format!("{number} is not a policy of this contract"))),
    }
}

fn policy(number: i32) -> Result<Option<SandboxPolicy>> {
    match v1::SandboxPolicy::try_from(number) {
        Ok(v1::SandboxPolicy::Unspecified) => Ok(None),
        Ok(v1::SandboxPolicy::Container) => Ok(Some(SandboxPolicy::Container)),
        Ok(v1::SandboxPolicy::ContainerDirect) => Ok(Some(SandboxPolicy::ContainerDirect)),
        Err(_) => Err(Error::invalid("spec.policy", format!("{number} is not a policy of this contract"))),
    }
}

/// Which containers somebody wants to see.
pub fn filter(filter: Option<v1::ContainerFilter>) -> Result<ContainerFilter> {
    let filter = filter.unwrap_or_default();
    let states = filter.states.iter().map(|number| match v1::ContainerState::try_from(*number) {
        Ok(v1::ContainerState::Creating) => Ok(ContainerState::Creating),
        Ok(v1::ContainerState::Starting) => Ok(ContainerState::Starting),
        Ok(v1::ContainerState::Running) => Ok(ContainerState::Running),
        Ok(v1::ContainerState::Paused) => Ok(ContainerState::Paused),
        Ok(v1::ContainerState::Stopping) => Ok(ContainerState::Stopping),
        Ok(v1::ContainerState::Ended) => Ok(ContainerState::Ended),
        Ok(v1::ContainerState::Failed) => Ok(ContainerState::Failed),
        Ok(v1::ContainerState::Unreachable) => Ok(ContainerState::Unreachable),
        Ok(v1::ContainerState::Unspecified) | Err(_) => {
            Err(Error::invalid("filter.states", format!("{number} is not a state of this contract")))
        }
    });
    let states = states.collect::<Result<_>>()?;
    if !filter.agent.is_empty() {
        return Err(Error::Unimplemented { feature: "ContainerFilter.agent" });
    }
    Ok(ContainerFilter {
        states,
        labels: filter.labels,
        image: filter.image,
        template: filter.template,
        created_after: filter.created_after.as_ref().map(moment),
        created_before: filter.created_before.as_ref().map(moment),
        principal: filter.principal,
        pool: filter.pool,
    })
}

/// A process somebody wants; `request` is its id with a fingerprint of the call.
pub fn process(request: v1::StartProcessRequest, principal: Arc<str>) -> Result<(String, NewProcess)> {
    let asked = super::execution::limits_request("limits", request.limits.as_ref())?;
    let identity = request_id("request_id", &request.request_id)?.map(|request_id| {
        let rest = v1::StartProcessRequest { request_id: String::new(), ..request.clone() };
        (request_id, super::fingerprint(&rest))
    });
    let process = request.process.ok_or_else(|| Error::invalid("process", "is required"))?;
    let size = |name: &str, value: u32| {
        u16::try_from(value).ok().filter(|value| *value > 0).ok_or_else(|| {
            Error::invalid(format!("process.terminal.{name}"), format!("is {value}; expected 1 to 65,535"))
        })
    };
    let terminal = match process.terminal {
        Some(terminal) => Some((size("columns", terminal.columns)?, size("rows", terminal.rows)?)),
        None => None,
    };
    let new = NewProcess {
        command: process.command,
        environment: process.environment,
        clear_environment: process.clear_environment,
        working_directory: process.working_directory,
        user: process.user,
        terminal,
        stdin: process.stdin,
        keep_stdin_open: process.keep_stdin_open,
        wall_time: asked.wall_time,
        output_bytes: asked.output_bytes,
        labels: request.labels,
        request: identity,
        principal,
    };
    Ok((request.container_id, new))
}

/// An execution's id, where a container's calls name one.
pub fn execution_id(field: &str, text: &str) -> Result<crate::domain::id::ExecutionId> {
    id(field, text)
}
