//! `[containers]`: where containers run, and what the operator allows.

use super::forms;
use super::templates::TemplateSection;
use crate::container::{ContainerPolicy, ContainersConfig, ControlMode};
use crate::domain::container::Resources;
use crate::domain::image::ImageRule;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

const MIB: u64 = 1 << 20;
const HOUR: Duration = Duration::from_secs(3600);

/// `[containers]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContainersSection {
    /// Whether there are containers at all.
    #[serde(with = "forms::switch")]
    pub enabled: bool,
    /// Where Docker listens.
    pub host: String,
    /// Certificates for Docker over TCP.
    pub tls: TlsSection,
    /// Directory of supervisors and their sockets. Unset: `guests` in store.directory.
    #[serde(with = "forms::optional_path", skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// Containers that are not over.
    #[serde(with = "forms::count")]
    pub max_containers: u32,
    /// Of those, containers of one principal.
    #[serde(with = "forms::count")]
    pub max_per_principal: u32,
    /// How long a container that is over can be read.
    #[serde(with = "forms::duration")]
    pub keep_ended: Duration,
    /// Bytes of output that the supervisor inside keeps of one process.
    #[serde(with = "forms::size")]
    pub journal: u64,
    /// Entries of one archive that is unpacked or packed.
    #[serde(with = "forms::count")]
    pub archive_entries: u64,
    /// Bytes of all files of one archive.
    #[serde(with = "forms::size")]
    pub archive_bytes: u64,
    /// How long the supervisor of a new container may take to answer.
    #[serde(with = "forms::duration")]
    pub start_timeout: Duration,
    /// How containers are spoken with.
    pub control: ControlMode,
    /// What becomes of containers when the server is shut down.
    pub on_shutdown: OnShutdown,
    /// Wall time of a process where nobody asks.
    #[serde(with = "forms::duration")]
    pub process_time: Duration,
    /// Wall time of a process at most.
    #[serde(with = "forms::duration")]
    pub max_process_time: Duration,
    /// Images that may be used.
    #[serde(with = "forms::texts")]
    pub images: Vec<String>,
    /// Host directories below which mounts may be.
    #[serde(with = "forms::paths")]
    pub mount_roots: Vec<PathBuf>,
    /// Runtime of those who ask for none; empty for Docker's own.
    pub runtime: String,
    /// Runtimes that may be asked for by name.
    #[serde(with = "forms::texts")]
    pub runtimes: Vec<String>,
    /// Whether containers may have a network of their own, past the gate.
    #[serde(with = "forms::switch")]
    pub allow_direct: bool,
    /// Whether ports of containers can be reached through the server.
    #[serde(with = "forms::switch")]
    pub allow_forward: bool,
    /// Whether processes may be root.
    #[serde(with = "forms::switch")]
    pub allow_root: bool,
    /// Whether root file systems may be writable.
    #[serde(with = "forms::switch")]
    pub allow_writable_root: bool,
    /// Capabilities that may be kept.
    #[serde(with = "forms::texts")]
    pub capabilities: Vec<String>,
    /// Groups that may be added, by number.
    #[serde(with = "forms::texts")]
    pub groups: Vec<String>,
    /// AppArmor profiles that may be asked for.
    #[serde(with = "forms::texts")]
    pub apparmor_profiles: Vec<String>,
    /// Seccomp profiles that may be asked for, by name: files in Docker's form.
    pub seccomp_profiles: BTreeMap<String, PathBuf>,
    /// Longest life where nobody asks; 0s for none.
    #[serde(with = "forms::duration")]
    pub time_to_live: Duration,
    /// Longest life; 0s for no bound.
    #[serde(with = "forms::duration")]
    pub max_time_to_live: Duration,
    /// Longest idle time where nobody asks; 0s for none.
    #[serde(with = "forms::duration")]
    pub idle_timeout: Duration,
    /// Longest idle time; 0s for no bound.
    #[serde(with = "forms::duration")]
    pub max_idle_timeout: Duration,
    /// How long files are kept after the end where nobody asks.
    #[serde(with = "forms::duration")]
    pub retention: Duration,
    /// How long files are kept after the end at most.
    #[serde(with = "forms::duration")]
    pub max_retention: Duration,
    /// Time between the stop signal and the kill where nobody asks.
    #[serde(with = "forms::duration")]
    pub stop_grace: Duration,
    /// Size of a workspace where nobody asks.
    #[serde(with = "forms::size")]
    pub workspace: u64,
    /// Size of a workspace at most.
    #[serde(with = "forms::size")]
    pub max_workspace: u64,
    /// What a container may consume where nobody asks.
    #[serde(deserialize_with = "default_set")]
    pub default: ResourceSet,
    /// What nobody can exceed.
    #[serde(deserialize_with = "cap_set")]
    pub cap: ResourceSet,
    /// Name of the template of those who name none.
    pub template: String,
    /// Templates by name.
    pub templates: BTreeMap<String, TemplateSection>,
}

/// `[containers.tls]`: certificates, as files in PEM form.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSection {
    /// Authorities that Docker's certificate may be from.
    #[serde(with = "forms::optional_path", skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Certificate of this server.
    #[serde(with = "forms::optional_path", skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// Its key.
    #[serde(with = "forms::optional_path", skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

/// What becomes of containers when the server is shut down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnShutdown {
    /// They go on, and the next server finds them.
    #[default]
    Keep,
    /// They are stopped.
    Stop,
}

impl Default for ContainersSection {
    fn default() -> Self {
        let policy = ContainerPolicy::default();
        ContainersSection {
            enabled: true,
            host: "unix:///var/run/docker.sock".into(),
            tls: TlsSection::default(),
            directory: None,
            max_containers: 64,
            max_per_principal: 64,
            keep_ended: HOUR,
            journal: MIB,
            archive_entries: 1_000_000,
            archive_bytes: 16 << 30,
            start_timeout: Duration::from_secs(20),
            control: ControlMode::Auto,
            on_shutdown: OnShutdown::Keep,
            process_time: HOUR,
            max_process_time: 24 * HOUR,
            images: Vec::new(),
            mount_roots: Vec::new(),
            runtime: String::new(),
            runtimes: Vec::new(),
            allow_direct: false,
            allow_forward: true,
            allow_root: false,
            allow_writable_root: false,
            capabilities: Vec::new(),
            groups: Vec::new(),
            apparmor_profiles: Vec::new(),
            seccomp_profiles: BTreeMap::new(),
            time_to_live: Duration::ZERO,
            max_time_to_live: Duration::ZERO,
            idle_timeout: Duration::ZERO,
            max_idle_timeout: Duration::ZERO,
            retention: policy.retention.0,
            max_retention: policy.retention.1,
            stop_grace: policy.stop_grace,
            workspace: policy.workspace_bytes.0,
            max_workspace: policy.workspace_bytes.1,
            default: policy.defaults.into(),
            cap: policy.caps.into(),
            template: String::new(),
            templates: BTreeMap::new(),
        }
    }
}

impl ContainersSection {
    /// What is wrong with lists whose entries have a form; each with its key.
    pub(super) fn malformed(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        for rule in &self.images {
            if let Err(problem) = ImageRule::parse(rule) {
                problems.push(("containers.images".to_owned(), format!("found {rule:?}: {problem}")));
            }
        }
        for group in &self.groups {
            if group.parse::<u32>().is_err() {
                problems.push(("containers.groups".to_owned(), format!("found {group:?}, expected a number")));
            }
        }
        if !self.template.is_empty() && !self.templates.contains_key(&self.template) {
            let text = format!("found {:?}, expected the name of a template in containers.templates", self.template);
            problems.push(("containers.template".to_owned(), text));
        }
        problems
    }

    /// What the operator allows. Reads the seccomp profiles.
    ///
    /// # Errors
    /// A profile that cannot be read: its key, and why.
    pub fn policy(&self) -> Result<ContainerPolicy, (String, String)> {
        let mut seccomp_profiles = BTreeMap::new();
        for (name, path) in &self.seccomp_profiles {
            let told =
                |why: String| (format!("containers.seccomp_profiles.{name}"), format!("{}: {why}", path.display()));
            let text = std::fs::read_to_string(path).map_err(|error| told(error.to_string()))?;
            serde_json::from_str::<serde_json::Value>(&text).map_err(|error| told(format!("is no JSON: {error}")))?;
            seccomp_profiles.insert(name.clone(), text);
        }
        let span = |span: Duration| (!span.is_zero()).then_some(span);
        Ok(ContainerPolicy {
            images: self.images.iter().filter_map(|rule| ImageRule::parse(rule).ok()).collect(),
            mount_roots: self.mount_roots.clone(),
            templates: self.templates.iter().map(|(name, template)| (name.clone(), template.wish())).collect(),
            default_template: self.template.clone(),
            runtimes: self.runtimes.clone(),
            default_runtime: self.runtime.clone(),
            direct: self.allow_direct,
            root: self.allow_root,
            writable_root: self.allow_writable_root,
            capabilities: self.capabilities.clone(),
            seccomp_profiles,
            apparmor_profiles: self.apparmor_profiles.clone(),
            groups: self.groups.iter().filter_map(|group| group.parse().ok()).collect(),
            defaults: self.default.resources(),
            caps: self.cap.resources(),
            time_to_live: (span(self.time_to_live), span(self.max_time_to_live)),
            idle_timeout: (span(self.idle_timeout), span(self.max_idle_timeout)),
            retention: (self.retention, self.max_retention),
            stop_grace: self.stop_grace,
            workspace_bytes: (self.workspace, self.max_workspace),
        })
    }

    /// Bounds and habits, under a policy; `data` is the store's directory, `output` what is kept of a process.
    pub fn bounds(&self, policy: ContainerPolicy, data: &Path, output: (u64, u64)) -> ContainersConfig {
        ContainersConfig {
            policy,
            max_containers: self.max_containers,
            max_per_principal: self.max_per_principal,
            keep_ended: self.keep_ended,
            max_ended: 4096,
            directory: self.directory.clone().unwrap_or_else(|| data.join("guests")),
            snapshots: data.join("container-snapshots"),
            journal_bytes: self.journal,
            archive_entries: self.archive_entries,
            archive_bytes: self.archive_bytes,
            wall_time: (self.process_time, self.max_process_time),
            output_bytes: output,
            start_timeout: self.start_timeout,
            forward: self.allow_forward,
            control: self.control,
            outlive: self.on_shutdown == OnShutdown::Keep,
        }
    }
}

/// One set of resources.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ResourceSet {
    /// Memory, in bytes.
    #[serde(with = "forms::size")]
    pub memory: u64,
    /// Swap on top, in bytes.
    #[serde(with = "forms::size")]
    pub swap: u64,
    /// Processor time in thousandths of a CPU.
    #[serde(with = "forms::count")]
    pub cpu_millis: u32,
    /// Share of the processor when it is contended.
    #[serde(with = "forms::count")]
    pub cpu_weight: u32,
    /// Processes and threads.
    #[serde(with = "forms::count")]
    pub pids: u32,
    /// Open files of each process.
    #[serde(with = "forms::count")]
    pub open_files: u64,
    /// Size of the writable layer, in bytes.
    #[serde(with = "forms::size")]
    pub disk: u64,
    /// Size of /dev/shm, in bytes.
    #[serde(with = "forms::size")]
    pub shared_memory: u64,
    /// Output of the main process that is kept, in bytes.
    #[serde(with = "forms::size")]
    pub log: u64,
    /// Executions at a time.
    #[serde(with = "forms::count")]
    pub executions: u32,
}

impl ResourceSet {
    fn resources(&self) -> Resources {
        Resources {
            memory_bytes: self.memory,
            swap_bytes: self.swap,
            cpu_millis: self.cpu_millis,
            cpu_weight: self.cpu_weight,
            pids: self.pids,
            open_files: self.open_files,
            disk_bytes: self.disk,
            shared_memory_bytes: self.shared_memory,
            log_bytes: self.log,
            executions: self.executions,
        }
    }

    /// Names of the resources of which this set has more than another.
    pub(super) fn above(&self, cap: &ResourceSet) -> Vec<&'static str> {
        let above = [
            ("memory", self.memory > cap.memory),
            ("swap", self.swap > cap.swap),
            ("cpu_millis", self.cpu_millis > cap.cpu_millis),
            ("cpu_weight", self.cpu_weight > cap.cpu_weight),
            ("pids", self.pids > cap.pids),
            ("open_files", self.open_files > cap.open_files),
            ("disk", self.disk > cap.disk),
            ("shared_memory", self.shared_memory > cap.shared_memory),
            ("log", self.log > cap.log),
            ("executions", self.executions > cap.executions),
        ];
        above.into_iter().filter(|(_, above)| *above).map(|(name, _)| name).collect()
    }
}

impl From<Resources> for ResourceSet {
    fn from(resources: Resources) -> Self {
        ResourceSet {
            memory: resources.memory_bytes,
            swap: resources.swap_bytes,
            cpu_millis: resources.cpu_millis,
            cpu_weight: resources.cpu_weight,
            pids: resources.pids,
            open_files: resources.open_files,
            disk: resources.disk_bytes,
            shared_memory: resources.shared_memory_bytes,
            log: resources.log_bytes,
            executions: resources.executions,
        }
    }
}

// The two sets have the same keys and different defaults, so each is read over its own.
macro_rules! resource_set {
    ($reader:ident, $defaults:ident) => {
        fn $reader<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<ResourceSet, D::Error> {
            #[derive(Deserialize)]
            #[serde(default, deny_unknown_fields)]
            struct Keys {
                #[serde(with = "forms::size")]
                memory: u64,
                #[serde(with = "forms::size")]
                swap: u64,
                #[serde(with = "forms::count")]
                cpu_millis: u32,
                #[serde(with = "forms::count")]
                cpu_weight: u32,
                #[serde(with = "forms::count")]
                pids: u32,
                #[serde(with = "forms::count")]
                open_files: u64,
                #[serde(with = "forms::size")]
                disk: u64,
                #[serde(with = "forms::size")]
                shared_memory: u64,
                #[serde(with = "forms::size")]
                log: u64,
                #[serde(with = "forms::count")]
                executions: u32,
            }
            impl Default for Keys {
                fn default() -> Self {
                    let set = ResourceSet::from(ContainerPolicy::default().$defaults);
                    let ResourceSet { memory, swap, cpu_millis, cpu_weight, pids, .. } = set;
                    let ResourceSet { open_files, disk, shared_memory, log, executions, .. } = set;
                    Keys {
                        memory,
                        swap,
                        cpu_millis,
                        cpu_weight,
                        pids,
                        open_files,
                        disk,
                        shared_memory,
                        log,
                        executions,
                    }
                }
            }
            let keys = Keys::deserialize(deserializer)?;
            let Keys { memory, swap, cpu_millis, cpu_weight, pids, .. } = keys;
            let Keys { open_files, disk, shared_memory, log, executions, .. } = keys;
            Ok(ResourceSet {
                memory,
                swap,
                cpu_millis,
                cpu_weight,
                pids,
                open_files,
                disk,
                shared_memory,
                log,
                executions,
            })
        }
    };
}
resource_set!(default_set, defaults);
resource_set!(cap_set, caps);
