//! The sections and their keys. `docs/configuration.md` describes every key; a test compares the two.

use super::containers::ContainersSection;
use super::forms;
use super::limits::LimitsSection;
use super::secret::Secret;
use super::sessions::SessionsSection;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The whole configuration of a server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The gRPC server.
    pub server: ServerSection,
    /// The HTTP sidecar with health and metrics.
    pub http: HttpSection,
    /// Who may call.
    pub auth: AuthSection,
    /// Where tools come from.
    pub tools: ToolsSection,
    /// Where state is kept.
    pub store: StoreSection,
    /// Compiling and running WASM.
    pub engine: EngineSection,
    /// Python and JavaScript.
    pub interpreters: InterpretersSection,
    /// What one execution may use.
    pub limits: LimitsSection,
    /// How many executions there may be at a time.
    pub execution: ExecutionSection,
    /// State between calls: sessions and snapshots.
    pub sessions: SessionsSection,
    /// Where containers run, and what the operator allows.
    pub containers: ContainersSection,
    /// How long ended executions are remembered.
    pub retention: RetentionSection,
    /// What the server writes about itself.
    pub log: LogSection,
}

impl Config {
    /// Where interpreters are installed.
    pub fn interpreters_directory(&self) -> PathBuf {
        self.interpreters.directory.clone().unwrap_or_else(|| self.store.directory.join("interpreters"))
    }
}

/// `[server]`: the gRPC server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSection {
    /// Where gRPC listens; port 0 lets the system choose.
    #[serde(with = "forms::address")]
    pub address: SocketAddr,
    /// Unix socket on which gRPC listens as well.
    #[serde(with = "forms::optional_path", skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// Largest message accepted, in bytes.
    #[serde(with = "forms::size")]
    pub max_message: u64,
    /// Connections at the same time, of all listeners together.
    pub max_connections: u32,
    /// How long running executions may go on when the server shuts down.
    #[serde(with = "forms::duration")]
    pub drain_timeout: Duration,
}

impl Default for ServerSection {
    fn default() -> Self {
        ServerSection {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 9800)),
            socket: None,
            max_message: 20 * MIB,
            max_connections: 4096,
            drain_timeout: Duration::from_secs(10),
        }
    }
}

/// `[http]`: the sidecar with `/health` and `/metrics`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSection {
    /// Whether it runs.
    #[serde(with = "forms::switch")]
    pub enabled: bool,
    /// Where it listens; port 0 lets the system choose. It takes no token.
    #[serde(with = "forms::address")]
    pub address: SocketAddr,
}

impl Default for HttpSection {
    fn default() -> Self {
        HttpSection { enabled: true, address: SocketAddr::from((Ipv4Addr::LOCALHOST, 9801)) }
    }
}

/// `[auth]`: who may call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSection {
    /// The bearer token every call must carry; without one the server listens on loopback only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
}

/// `[tools]`: where tools come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ToolsSection {
    /// Directory with `NAME.wasm` and its optional manifest.
    pub directory: PathBuf,
    /// Whether changes of the directory take effect by themselves.
    #[serde(with = "forms::switch")]
    pub watch: bool,
}

impl Default for ToolsSection {
    fn default() -> Self {
        ToolsSection { directory: "tools".into(), watch: true }
    }
}

/// `[store]`: where state is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSection {
    /// Directory of the database and of compiled modules; one server at a time may use it.
    pub directory: PathBuf,
}

impl Default for StoreSection {
    fn default() -> Self {
        StoreSection { directory: "casemate-data".into() }
    }
}

/// `[engine]`: compiling and running WASM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineSection {
    /// Largest module, in bytes.
    #[serde(with = "forms::size")]
    pub max_module: u64,
    /// Longest time to compile one module.
    #[serde(with = "forms::duration")]
    pub compile_timeout: Duration,
    /// Most memory to compile one module, in bytes.
    #[serde(with = "forms::size")]
    pub compile_memory: u64,
    /// Modules compiled at the same time.
    #[serde(with = "forms::count")]
    pub compile_workers: u32,
    /// Whether memories are reset by the kernel's page map.
    pub pagemap: PagemapUse,
    /// Directories below which manifests may grant directories.
    #[serde(with = "forms::paths")]
    pub directory_roots: Vec<PathBuf>,
}

impl Default for EngineSection {
    fn default() -> Self {
        EngineSection {
            max_module: 64 * MIB,
            compile_timeout: Duration::from_secs(60),
            compile_memory: 2 * GIB,
            compile_workers: 1,
            pagemap: PagemapUse::Auto,
            directory_roots: Vec::new(),
        }
    }
}

/// When to reset memories by the kernel's page map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PagemapUse {
    /// Where the kernel has it and no swap is on.
    #[default]
    Auto,
    /// Wherever the kernel has it. With swap on, written pages can be missed: only for tests.
    On,
    /// Never.
    Off,
}

/// `[interpreters]`: Python and JavaScript.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InterpretersSection {
    /// Where `casemate interpreters install` puts them and the server looks for them. May be shared by servers of
    /// one user. Unset: `interpreters` in store.directory.
    #[serde(with = "forms::optional_path", skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// Memories kept between runs, each for the tenant it served; up to 4 MiB each.
    #[serde(with = "forms::count")]
    pub idle_memories: usize,
    /// A directory of further packages that all isolates of Python see; read once when the server starts.
    #[serde(with = "forms::optional_path", skip_serializing_if = "Option::is_none")]
    pub packages: Option<PathBuf>,
}

impl Default for InterpretersSection {
    fn default() -> Self {
        InterpretersSection { directory: None, idle_memories: 32, packages: None }
    }
}

/// `[execution]`: how many executions there may be at a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExecutionSection {
    /// Executions that run at the same time.
    #[serde(with = "forms::count")]
    pub max_running: u32,
    /// Runs of one tool at the same time, unless its manifest says otherwise.
    #[serde(with = "forms::count")]
    pub max_running_per_tool: u32,
    /// Executions that wait for a slot; beyond this, calls are turned away at once.
    #[serde(with = "forms::count")]
    pub max_queued: usize,
    /// Largest parameters of a call, in bytes of JSON.
    #[serde(with = "forms::size")]
    pub max_parameters: u64,
}

impl Default for ExecutionSection {
    fn default() -> Self {
        ExecutionSection { max_running: 1024, max_running_per_tool: 1024, max_queued: 1024, max_parameters: 10 * MIB }
    }
}

/// `[retention]`: how long ended executions are remembered. The first bound that is passed counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionSection {
    /// Executions kept.
    #[serde(with = "forms::count")]
    pub max_count: u64,
    /// Age at which one is forgotten, counted from its creation.
    #[serde(with = "forms::duration")]
    pub max_age: Duration,
    /// Bytes of records and journals kept on disk.
    #[serde(with = "forms::size")]
    pub max_bytes: u64,
    /// Bytes of ended executions kept in memory as well, for fast replay.
    #[serde(with = "forms::size")]
    pub memory: u64,
}

impl Default for RetentionSection {
    fn default() -> Self {
        RetentionSection {
            max_count: 100_000,
            max_age: Duration::from_secs(7 * 24 * 3600),
            max_bytes: GIB,
            memory: 64 * MIB,
        }
    }
}

/// `[log]`: what the server writes about itself, to standard error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSection {
    /// The form of a line.
    pub format: LogFormat,
    /// Directives of `tracing_subscriber::EnvFilter`, such as `info` or `info,casemate=debug`.
    pub level: String,
}

impl Default for LogSection {
    fn default() -> Self {
        LogSection { format: LogFormat::Auto, level: "info".into() }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Text for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Smallest size that makes sense for anything a message must fit into.
pub(super) const SMALLEST_MESSAGE: u64 = 64 * KIB;
