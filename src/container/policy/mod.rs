//! What the operator allows, and how a wish becomes a specification under it.

mod places;
#[cfg(test)]
mod tests;

use super::variables;
use super::wish::{ResourcesWish, Wish};
use super::{paths, signal};
use crate::domain::container::{ContainerSpec, Hardening, Resources, SandboxPolicy};
use crate::domain::image::{ImageReference, ImageRule};
use crate::error::{Error, Result, Violation};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

const MIB: u64 = 1 << 20;
const MAX_ARGUMENTS: usize = 1024;
const MAX_ARGUMENT_BYTES: usize = 128 << 10;
const MAX_PORTS: usize = 64;
const MAX_GRACE: Duration = Duration::from_secs(600);
/// Nobody in particular, and not root.
const USER: &str = "1000:1000";
/// Memory that makes no sense to be without.
const LEAST_MEMORY: u64 = 8 * MIB;

/// What the operator allows. The default allows no image, and nothing beyond the strictest.
#[derive(Clone, Debug)]
pub struct ContainerPolicy {
    /// Images.
    pub images: Vec<ImageRule>,
    /// Host directories below which mounts may be.
    pub mount_roots: Vec<PathBuf>,
    /// Templates by name.
    pub templates: BTreeMap<String, Wish>,
    /// The template of those who name none; empty for none.
    pub default_template: String,
    /// Runtimes that may be asked for by name.
    pub runtimes: Vec<String>,
    /// The runtime of those who ask for none; empty for the backend's own.
    pub default_runtime: String,
    /// Whether containers may have a network of their own.
    pub direct: bool,
    /// Whether processes may be root.
    pub root: bool,
    /// Whether root file systems may be writable.
    pub writable_root: bool,
    /// Capabilities that may be kept.
    pub capabilities: Vec<String>,
    /// Seccomp profiles by name, as their texts.
    pub seccomp_profiles: BTreeMap<String, String>,
    /// AppArmor profiles by name.
    pub apparmor_profiles: Vec<String>,
    /// Groups that may be added.
    pub groups: Vec<u32>,
    /// What applies where nobody asks.
    pub defaults: Resources,
    /// What nobody can exceed.
    pub caps: Resources,
    /// Longest life: where nobody asks, and at most.
    pub time_to_live: (Option<Duration>, Option<Duration>),
    /// Longest idle time: where nobody asks, and at most.
    pub idle_timeout: (Option<Duration>, Option<Duration>),
    /// How long files are kept: where nobody asks, and at most.
    pub retention: (Duration, Duration),
    /// Time to stop where nobody asks.
    pub stop_grace: Duration,
    /// Size of a workspace: where nobody asks, and at most.
    pub workspace_bytes: (u64, u64),
}

impl Default for ContainerPolicy {
    fn default() -> Self {
        let defaults = Resources {
            memory_bytes: 512 * MIB,
            swap_bytes: 0,
            cpu_millis: 1000,
            cpu_weight: 100,
            pids: 256,
            open_files: 1024,
            disk_bytes: 0,
            shared_memory_bytes: 64 * MIB,
            log_bytes: 4 * MIB,
            executions: 64,
        };
        let caps = Resources {
            memory_bytes: 4096 * MIB,
            swap_bytes: 0,
            cpu_millis: 4000,
            cpu_weight: 1000,
            pids: 4096,
            open_files: 65_536,
            disk_bytes: 64 << 30,
            shared_memory_bytes: 1024 * MIB,
            log_bytes: 64 * MIB,
            executions: 1024,
        };
        ContainerPolicy {
            images: Vec::new(),
            mount_roots: Vec::new(),
            templates: BTreeMap::new(),
            default_template: String::new(),
            runtimes: Vec::new(),
            default_runtime: String::new(),
            direct: false,
            root: false,
            writable_root: false,
            capabilities: Vec::new(),
            seccomp_profiles: BTreeMap::new(),
            apparmor_profiles: Vec::new(),
            groups: Vec::new(),
            defaults,
            caps,
            time_to_live: (None, None),
            idle_timeout: (None, None),
            retention: (Duration::ZERO, Duration::from_secs(24 * 3600)),
            stop_grace: Duration::from_secs(10),
            workspace_bytes: (256 * MIB, 4096 * MIB),
        }
    }
}

impl ContainerPolicy {
    /// Whether an image may be used.
    pub fn admits(&self, field: &str, image: &ImageReference) -> Result<()> {
        if self.images.iter().any(|rule| rule.allows(image)) {
            return Ok(());
        }
        let problem = match self.images.is_empty() {
            true => format!("{image}: no image is; the operator names those that are in containers.images"),
            false => format!("{image}: no rule of containers.images admits it; ask the operator"),
        };
        Err(Error::PolicyDenied { field: field.into(), problem })
    }

    /// The specification of a wish, for a container of this name.
    pub fn resolve(&self, wish: Wish, name: &str) -> Result<ContainerSpec> {
        let wish = self.with_template(wish)?;
        let mut violations = Vec::new();
        let mut refuse = |field: &str, text: String| violations.push(Violation::new(format!("spec.{field}"), text));
        let source = if wish.snapshot.is_empty() { "spec.image" } else { "spec.snapshot_id" };
        let image = match ImageReference::parse(&wish.image) {
            Ok(image) => Some(image),
            Err(_) if wish.image.is_empty() => {
                refuse("image", "is required, or a snapshot: neither the call nor a template names one".into());
                None
            }
            Err(problem) => {
                refuse("image", problem);
                None
            }
        };
        for (field, list) in [("entrypoint", &wish.entrypoint), ("command", &wish.command)] {
            let bytes: usize = list.iter().map(String::len).sum();
            if list.len() > MAX_ARGUMENTS || bytes > MAX_ARGUMENT_BYTES {
                let most = format!("at most {MAX_ARGUMENTS} arguments in {MAX_ARGUMENT_BYTES} bytes");
                refuse(field, format!("has {} arguments in {bytes} bytes; {most}", list.len()));
            } else if list.iter().any(|part| part.contains('\0')) {
                refuse(field, "has a zero byte".into());
            }
        }
        let resources = self.resources(&wish.resources, &mut refuse);
        let workspace = self.workspace(wish.workspace, &mut refuse);
        let working_directory = match wish.working_directory.as_str() {
            "" => workspace.container_path.clone(),
            path => paths::inside(path).unwrap_or_else(|problem| {
                refuse("working_directory", problem);
                String::new()
            }),
        };
        if wish.ports.len() > MAX_PORTS {
            refuse("ports", format!("are {}; at most {MAX_PORTS}", wish.ports.len()));
        }
        let tmpfs = self.tmpfs(wish.tmpfs, &resources, &mut refuse);
        self.check_places(&wish.mounts, &tmpfs, &workspace, &mut refuse);
        if !wish.stop_signal.is_empty() && signal::number(&wish.stop_signal).is_none() {
            refuse("stop_signal", format!("is {:?}; expected a name such as \"SIGTERM\"", wish.stop_signal));
        }
        let hostname = if wish.hostname.is_empty() { paths::hostname(name) } else { wish.hostname };
        if !paths::is_hostname(&hostname) {
            refuse("hostname", format!("is {hostname:?}; expected 1 to 63 of a-z, A-Z, 0-9 and \"-\""));
        }
        let grace = wish.stop_grace.unwrap_or(self.stop_grace);
        if grace > MAX_GRACE {
            refuse("stop_grace", format!("is {grace:?}; at most 10 minutes"));
        }
        let mut span = |field: &str, asked: Option<Duration>, (default, most): (Option<Duration>, Option<Duration>)| {
            // Nothing is no end at all, which is more than any bound.
            if let (Some(asked), Some(most)) = (asked, most)
                && (asked > most || asked.is_zero())
            {
                refuse(field, format!("is {}; more than 0, and at most {}", shown(asked), shown(most)));
            }
            asked.or(default).or(most).filter(|span| !span.is_zero())
        };
        let time_to_live = span("time_to_live", wish.time_to_live, self.time_to_live);
        let idle_timeout = span("idle_timeout", wish.idle_timeout, self.idle_timeout);
        let retention = wish.retention.unwrap_or(self.retention.0);
        if retention > self.retention.1 {
            refuse("retention", format!("is {}; at most {}", shown(retention), shown(self.retention.1)));
        }
        variables::check("spec.environment", &wish.environment, &mut violations);
        let Some(image) = image.filter(|_| violations.is_empty()) else {
            return Err(Error::InvalidArgument(violations));
        };
        self.admits(source, &image)?;
        let user = if wish.user.is_empty() { USER.to_owned() } else { wish.user };
        self.check_user("spec.user", &user)?;
        let policy = wish.policy.unwrap_or_default();
        if policy == SandboxPolicy::ContainerDirect && !self.direct {
            return Err(denied(
                "policy",
                "a network past the gate; the operator allows it with containers.allow_direct",
            ));
        }
        let runtime = if wish.runtime.is_empty() { self.default_runtime.clone() } else { wish.runtime };
        if runtime != self.default_runtime && !self.runtimes.contains(&runtime) {
            let problem = format!("{runtime:?}: the operator names runtimes in containers.runtimes");
            return Err(denied("runtime", &problem));
        }
        let hardening = wish.hardening.unwrap_or_default();
        self.check_hardening(&hardening)?;
        let mounts = wish.mounts.into_iter().map(|mount| self.mount(mount)).collect::<Result<_>>()?;
        Ok(ContainerSpec {
            template: wish.template,
            image: image.to_string(),
            pull: wish.pull.unwrap_or_default(),
            entrypoint: wish.entrypoint,
            command: wish.command,
            environment: wish.environment,
            labels: wish.labels,
            user,
            working_directory,
            hostname,
            resources,
            mounts,
            tmpfs,
            workspace,
            ports: wish.ports,
            time_to_live,
            idle_timeout,
            retention,
            policy,
            runtime,
            hardening,
            stop_signal: wish.stop_signal,
            stop_grace: grace,
        })
    }

    pub(super) fn with_template(&self, mut wish: Wish) -> Result<Wish> {
        if wish.template.is_empty() {
            wish.template.clone_from(&self.default_template);
        }
        if wish.template.is_empty() {
            return Ok(wish);
        }
        let Some(template) = self.templates.get(&wish.template) else {
            let known: Vec<&str> = self.templates.keys().map(String::as_str).collect();
            let known =
                if known.is_empty() { "there are none".into() } else { format!("there are: {}", known.join(", ")) };
            return Err(Error::TemplateNotFound { name: wish.template, known });
        };
        Ok(wish.over(template))
    }

    fn resources(&self, wish: &ResourcesWish, refuse: &mut impl FnMut(&str, String)) -> Resources {
        let (default, cap) = (&self.defaults, &self.caps);
        let mut pick = |field: &str, asked: u64, default: u64, least: u64, most: u64| {
            let value = if asked == 0 { default } else { asked };
            if value != 0 && !(least..=most).contains(&value) {
                refuse(&format!("resources.{field}"), format!("is {value}; expected {least} to {most}"));
            }
            value
        };
        let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        let swap = wish.swap_bytes.map_or(default.swap_bytes, |swap| pick("swap_bytes", swap, 0, 0, cap.swap_bytes));
        let memory = pick("memory_bytes", wish.memory_bytes, default.memory_bytes, LEAST_MEMORY, cap.memory_bytes);
        let shared = pick(
            "shared_memory_bytes",
            wish.shared_memory_bytes,
            default.shared_memory_bytes,
            1,
            cap.shared_memory_bytes,
        );
        Resources {
            memory_bytes: memory,
            swap_bytes: swap,
            cpu_millis: small(pick(
                "cpu_millis",
                wish.cpu_millis.into(),
                default.cpu_millis.into(),
                10,
                cap.cpu_millis.into(),
            )),
            cpu_weight: small(pick(
                "cpu_weight",
                wish.cpu_weight.into(),
                default.cpu_weight.into(),
                1,
                cap.cpu_weight.into(),
            )),
            pids: small(pick("pids", wish.pids.into(), default.pids.into(), 16, cap.pids.into())),
            open_files: pick("open_files", wish.open_files, default.open_files, 64, cap.open_files),
            disk_bytes: pick("disk_bytes", wish.disk_bytes, default.disk_bytes, MIB, cap.disk_bytes),
            shared_memory_bytes: shared,
            log_bytes: pick("log_bytes", wish.log_bytes, default.log_bytes, 4096, cap.log_bytes),
            executions: small(pick(
                "executions",
                wish.executions.into(),
                default.executions.into(),
                1,
                cap.executions.into(),
            )),
        }
    }

    /// Whether processes may be this user.
    pub fn check_user(&self, field: &str, user: &str) -> Result<()> {
        let plain = |part: &str| {
            let byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
            (1..=64).contains(&part.len()) && part.bytes().all(byte)
        };
        let (name, group) = user.split_once(':').map_or((user, None), |(name, group)| (name, Some(group)));
        if !plain(name) || !group.is_none_or(plain) {
            return Err(Error::invalid(field, format!("is {user:?}; expected \"uid\", \"uid:gid\" or names")));
        }
        let root = |part: &str| part == "root" || part.parse() == Ok(0u64);
        if !self.root && (root(name) || group.is_some_and(root)) {
            let problem = "processes as root; the operator allows it with containers.allow_root".to_owned();
            return Err(Error::PolicyDenied { field: field.into(), problem });
        }
        Ok(())
    }

    fn check_hardening(&self, wish: &Hardening) -> Result<()> {
        if wish.writable_root && !self.writable_root {
            return Err(denied(
                "hardening.writable_root",
                "the operator allows it with containers.allow_writable_root",
            ));
        }
        if let Some(unknown) = wish.capabilities.iter().find(|name| !self.capabilities.contains(name)) {
            let problem = format!("{unknown:?}: the operator names capabilities in containers.capabilities");
            return Err(denied("hardening.add_capabilities", &problem));
        }
        if !wish.seccomp_profile.is_empty() && !self.seccomp_profiles.contains_key(&wish.seccomp_profile) {
            let problem =
                format!("{:?}: the operator names profiles in containers.seccomp_profiles", wish.seccomp_profile);
            return Err(denied("hardening.seccomp_profile", &problem));
        }
        if !wish.apparmor_profile.is_empty() && !self.apparmor_profiles.contains(&wish.apparmor_profile) {
            let problem =
                format!("{:?}: the operator names profiles in containers.apparmor_profiles", wish.apparmor_profile);
            return Err(denied("hardening.apparmor_profile", &problem));
        }
        match wish.groups.iter().find(|group| !self.groups.contains(group)) {
            Some(group) => {
                let problem = format!("{group}: the operator names groups in containers.groups");
                Err(denied("hardening.supplementary_groups", &problem))
            }
            None => Ok(()),
        }
    }
}

fn denied(field: &str, problem: &str) -> Error {
    Error::PolicyDenied { field: format!("spec.{field}"), problem: problem.into() }
}

fn shown(span: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(span)
}
