//! Containers: what they are made from, how they stand, how they ended. Free of any backend's words.

use super::health_check::{Health, HealthCheck};
use super::id::{ContainerId, ExecutionId, RequestId, SnapshotId};
use super::loan::{Belonging, Loan};
use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What a container is made from, with template, defaults and caps applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Name of the template it came from; empty for none.
    pub template: String,
    /// Reference of the image, in full; of a snapshot, that of the image its container was made from.
    pub image: String,
    /// When the image is pulled.
    pub pull: PullPolicy,
    /// Entry point; none means the image's.
    pub entrypoint: Vec<String>,
    /// Main process or its arguments; none means the image's.
    pub command: Vec<String>,
    /// Environment variables. Their values are never shown.
    pub environment: BTreeMap<String, String>,
    /// The caller's labels.
    pub labels: BTreeMap<String, String>,
    /// User of all processes.
    pub user: String,
    /// Working directory.
    pub working_directory: String,
    /// Host name inside.
    pub hostname: String,
    /// What it may consume.
    pub resources: Resources,
    /// Host directories that it sees.
    pub mounts: Vec<Mount>,
    /// File systems in memory.
    pub tmpfs: Vec<Tmpfs>,
    /// Where work goes to.
    pub workspace: Workspace,
    /// Ports of its processes.
    pub ports: Vec<Port>,
    /// Longest life from its start.
    pub time_to_live: Option<Duration>,
    /// Longest time in which nothing happens in it.
    pub idle_timeout: Option<Duration>,
    /// How long its files are kept after its end.
    pub retention: Duration,
    /// What it may reach.
    pub policy: SandboxPolicy,
    /// Name of the runtime; empty for the backend's own.
    pub runtime: String,
    /// Deviations from the strictest defaults.
    pub hardening: Hardening,
    /// Signal that asks the main process to stop; empty means the image's.
    pub stop_signal: String,
    /// Time between that signal and the kill.
    pub stop_grace: Duration,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// Only when it is not here.
    #[default]
    IfMissing,
    /// Each time.
    Always,
    /// Never.
    Never,
}

/// What a sandbox may reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxPolicy {
    /// No network interface but loopback.
    #[default]
    Container,
    /// A network of its own.
    ContainerDirect,
}

/// What a container may consume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Memory of all its processes and of files in memory, in bytes.
    pub memory_bytes: u64,
    /// Swap on top of the memory, in bytes.
    pub swap_bytes: u64,
    /// Processor time in thousandths of a CPU.
    pub cpu_millis: u32,
    /// Share of the processor when it is contended, 1 to 10,000.
    pub cpu_weight: u32,
    /// Processes and threads.
    pub pids: u32,
    /// Open files of each process.
    pub open_files: u64,
    /// Size of its writable layer in bytes; 0 where that is not limited.
    pub disk_bytes: u64,
    /// Size of /dev/shm in bytes.
    pub shared_memory_bytes: u64,
    /// Output of its main process that is kept, in bytes.
    pub log_bytes: u64,
    /// Executions in it at the same time, its main process not counted.
    pub executions: u32,
}

/// A host directory that a container sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Path on the host, without links in it.
    pub host_path: String,
    /// Path inside.
    pub container_path: String,
    /// Whether processes may write.
    pub writable: bool,
}

/// A file system in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// Path inside.
    pub container_path: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Permission bits.
    pub mode: u32,
    /// Whether files in it may be executed.
    pub executable: bool,
}

/// The directory that work goes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workspace {
    /// Path inside.
    pub container_path: String,
    /// Name of one that outlives the container; empty for one that does not.
    pub name: String,
    /// Size in bytes.
    pub size_bytes: u64,
}

/// A port of a process in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// TCP port inside.
    pub container_port: u16,
    /// What it is; may be empty.
    pub name: String,
}

/// Deviations from the strictest defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hardening {
    /// Whether the root file system can be written.
    pub writable_root: bool,
    /// Capabilities that are kept, such as `CAP_CHOWN`.
    pub capabilities: Vec<String>,
    /// Name of a seccomp profile; empty for the default one.
    pub seccomp_profile: String,
    /// Name of an AppArmor profile; empty for the default one.
    pub apparmor_profile: String,
    /// Further groups of the processes.
    pub groups: Vec<u32>,
}

/// Where a container stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ContainerState {
    /// Accepted; it is being made.
    Creating,
    /// Its supervisor and its main process are starting.
    Starting,
    /// It runs and takes calls.
    Running,
    /// All its processes are frozen.
    Paused,
    /// It was told to stop and has not yet.
    Stopping,
    /// It is over.
    Ended,
    /// It could not be made or started.
    Failed,
    /// The backend does not answer; it may be running.
    Unreachable,
}

impl ContainerState {
    /// Whether it never changes again.
    pub fn is_over(self) -> bool {
        matches!(self, ContainerState::Ended | ContainerState::Failed)
    }

    /// Lower-case name, for people and metric labels.
    pub fn name(self) -> &'static str {
        match self {
            ContainerState::Creating => "creating",
            ContainerState::Starting => "starting",
            ContainerState::Running => "running",
            ContainerState::Paused => "paused",
            ContainerState::Stopping => "stopping",
            ContainerState::Ended => "ended",
            ContainerState::Failed => "failed",
            ContainerState::Unreachable => "unreachable",
        }
    }
}

/// Why a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndReason {
    /// Its main process ended by itself.
    Exited,
    /// It ran out of memory.
    OutOfMemory,
    /// Somebody stopped it.
    Stopped,
    /// Somebody killed it.
    Killed,
    /// Its time to live passed.
    Expired,
    /// Nothing happened in it for too long.
    Idle,
    /// Its pool no longer wanted it.
    Released,
    /// Its agent no longer wanted it.
    Agent,
    /// The server shut down and does not leave containers running.
    ServerShutdown,
    /// It was not there any more when somebody looked.
    Vanished,
}

/// How a container ended. Set once, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerEnd {
    /// Why.
    pub reason: EndReason,
    /// Exit code of the main process; meaningful when no signal ended it.
    pub exit_code: i32,
    /// Name of the signal that ended the main process; empty for none.
    pub signal: String,
    /// One sentence for people; empty for a plain end.
    pub message: String,
}

/// How the server speaks with a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Control {
    /// Not known yet.
    Unknown,
    /// Through the supervisor inside.
    Guest {
        /// Its version.
        version: String,
    },
    /// By the backend's own means.
    Backend {
        /// Why, and what is lost by that.
        reason: String,
    },
}

/// What is known of a container from the moment it is accepted; never changes after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerOrigin {
    /// Its id.
    pub id: ContainerId,
    /// Its name, unique among those that are not over.
    pub name: String,
    /// What it is made from.
    pub spec: ContainerSpec,
    /// Id of the image that runs.
    pub image_id: String,
    /// The snapshot it starts from; none for a plain image.
    pub snapshot: Option<SnapshotId>,
    /// How its health is checked; none for not at all.
    pub health_check: Option<HealthCheck>,
    /// The main process, worked out from spec and image; empty for a container that idles.
    pub main: Vec<String>,
    /// The execution that is the main process, or would be.
    pub main_execution: ExecutionId,
    /// Signal that asks the main process to stop, worked out from spec and image.
    pub stop_signal: i32,
    /// The environment of processes, worked out from spec and image.
    pub environment: BTreeMap<String, String>,
    /// Who owns it.
    pub principal: Arc<str>,
    /// The caller's request id.
    pub request_id: Option<RequestId>,
    /// Fingerprint of the call that carried it.
    pub fingerprint: Option<[u8; 32]>,
    /// When it was accepted.
    pub created: Timestamp,
}

/// A container as it stands at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// What was known from the start.
    pub origin: Arc<ContainerOrigin>,
    /// What changes.
    pub status: ContainerStatus,
    /// The pool it was made for, if it was made for one.
    pub belonging: Option<Belonging>,
    /// Executions that run in it, its main process not counted.
    pub running_executions: u32,
    /// Grows with every change of any container.
    pub revision: u64,
    /// What checks found of its health.
    pub health: Option<Health>,
}

/// What changes about a container, and is recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// Where it stands.
    pub state: ContainerState,
    /// What is wrong and what to do; empty when nothing is.
    pub problem: String,
    /// Its id at the backend; empty before it is made and after it is removed.
    pub backend_id: String,
    /// When its main process began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// When something last began or ended in it.
    pub last_active: Timestamp,
    /// How it ended.
    pub end: Option<ContainerEnd>,
    /// Why it is being ended: set when that begins, so that whoever goes on after a crash knows.
    pub ending: Option<EndReason>,
    /// How the server speaks with it.
    pub control: Control,
}

impl Container {
    /// The loan, if it is or was lent.
    pub fn loan(&self) -> Option<&Loan> {
        self.belonging.as_ref()?.loan.as_ref()
    }

    /// Who owns it: whoever has it on loan, else whoever it was made for.
    pub fn owner(&self) -> &Arc<str> {
        self.loan().map_or(&self.origin.principal, |loan| &loan.principal)
    }

    /// All its labels.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.origin.spec.labels.clone();
        labels.extend(self.loan().map(|loan| loan.labels.clone()).unwrap_or_default());
        labels
    }

    /// When it is ended, whatever happens.
    pub fn expires(&self) -> Option<Timestamp> {
        let loan = self.loan().map(|loan| loan.expires);
        [self.life_ends(), loan].into_iter().flatten().min()
    }

    /// When its time to live has passed.
    pub fn life_ends(&self) -> Option<Timestamp> {
        let life = self.origin.spec.time_to_live?;
        Some(self.status.started.unwrap_or(self.origin.created).after(life))
    }

    /// When it is ended unless something happens in it before; none while something runs.
    pub fn idle_expires(&self) -> Option<Timestamp> {
        let idle = self.origin.spec.idle_timeout?;
        (self.running_executions == 0).then(|| self.status.last_active.after(idle))
    }
}

/// What a container consumes; 0 where that is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Consumption {
    /// When this was looked up.
    pub time: Timestamp,
    /// Processor time.
    pub cpu_time: Duration,
    /// Time in which the processor limit held it back.
    pub throttled_time: Duration,
    /// Memory in use without reclaimable cache.
    pub memory_bytes: u64,
    /// Highest memory so far.
    pub memory_peak_bytes: u64,
    /// Memory limit.
    pub memory_limit_bytes: u64,
    /// Swap in use.
    pub swap_bytes: u64,
    /// Page cache.
    pub cache_bytes: u64,
    /// Times the kernel killed a process for memory.
    pub oom_kills: u64,
    /// Processes and threads.
    pub pids: u32,
    /// Limit of processes and threads.
    pub pids_limit: u32,
    /// Bytes read from block devices.
    pub block_read_bytes: u64,
    /// Bytes written to block devices.
    pub block_written_bytes: u64,
    /// Bytes received from a network.
    pub network_received_bytes: u64,
    /// Bytes sent to a network.
    pub network_sent_bytes: u64,
}
