//! What a tool says of itself.

use super::limits::LimitsRequest;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A tool's manifest, checked and in one form whatever file or message it came from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    /// What the tool does, for the model that chooses.
    pub description: String,
    /// Version, free text.
    pub version: String,
    /// JSON Schema of the parameters.
    pub input_schema: Option<serde_json::Value>,
    /// JSON Schema of the output.
    pub output_schema: Option<serde_json::Value>,
    /// What runs it.
    pub runtime: Runtime,
    /// How to read what it prints.
    pub output: OutputFormat,
    /// Limits it asks for.
    pub limits: LimitsRequest,
    /// Runs at the same time; `None` takes the server's default.
    pub max_concurrent: Option<u32>,
    /// Hosts it may reach through the gate.
    pub network_allow: Vec<String>,
    /// Directories it may see.
    pub directories: Vec<DirectoryGrant>,
    /// Credentials the gate may inject for it.
    pub credentials: Vec<String>,
    /// Environment variables of the guest.
    pub environment: BTreeMap<String, String>,
}

/// What runs a tool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Runtime {
    /// A module or component in this server.
    #[default]
    Wasm,
    /// A program inside a container.
    Container,
}

/// How to read a tool's standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputFormat {
    /// JSON if it is JSON, text if it is UTF-8, bytes otherwise.
    #[default]
    Auto,
    /// JSON; anything else fails the run.
    Json,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
}

/// A directory a tool may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryGrant {
    /// Absolute path on the host.
    pub host: PathBuf,
    /// Absolute path in the guest.
    pub guest: String,
    /// Whether the guest may write.
    pub writable: bool,
}
