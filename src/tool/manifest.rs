//! Manifests as files: TOML or JSON in, one checked form out, and JSON back for what is registered.

use crate::domain::limits::LimitsRequest;
use crate::domain::manifest::{DirectoryGrant, Manifest, OutputFormat, Runtime};
use crate::error::{Error, Result, Violation};
use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Largest manifest file.
pub const MAX_BYTES: u64 = 1 << 20;
const MAX_DESCRIPTION: usize = 16 << 10;
const MAX_VERSION: usize = 64;

/// How a manifest file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `NAME.toml`
    Toml,
    /// `NAME.json`
    Json,
}

/// The keys of a manifest file.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    runtime: RuntimeKey,
    output: OutputKey,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_concurrent: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    credentials: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    environment: BTreeMap<String, String>,
    limits: LimitsKeys,
    network: NetworkKeys,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    directories: Vec<DirectoryKeys>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_schema: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_schema: Option<Value>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum RuntimeKey {
    #[default]
    Wasm,
    Container,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum OutputKey {
    #[default]
    Auto,
    Json,
    Text,
    Bytes,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct LimitsKeys {
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    wall_time: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<ByteSize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table_elements: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stack: Option<ByteSize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<ByteSize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_calls: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fuel: Option<u64>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct NetworkKeys {
    allow: Vec<String>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct DirectoryKeys {
    host: PathBuf,
    guest: String,
    #[serde(default)]
    writable: bool,
}

/// Reads a manifest file.
pub fn parse(tool: &str, format: Format, text: &[u8]) -> Result<Manifest> {
    let refuse = |field: String, problem: String| Error::ManifestInvalid {
        tool: tool.into(),
        violations: vec![Violation::new(field, problem)],
    };
    let text = std::str::from_utf8(text).map_err(|error| refuse("manifest".into(), error.to_string()))?;
    let file: File = match format {
        Format::Toml => {
            let document =
                toml::Deserializer::parse(text).map_err(|error| refuse("manifest".into(), one_line(error)))?;
            serde_path_to_error::deserialize(document)
                .map_err(|error| refuse(format!("manifest.{}", error.path()), one_line(error.inner())))?
        }
        Format::Json => {
            let mut document = serde_json::Deserializer::from_str(text);
            serde_path_to_error::deserialize(&mut document)
                .map_err(|error| refuse(format!("manifest.{}", error.path()), one_line(error.inner())))?
        }
    };
    let manifest = Manifest {
        description: file.description,
        version: file.version,
        input_schema: file.input_schema,
        output_schema: file.output_schema,
        runtime: match file.runtime {
            RuntimeKey::Wasm => Runtime::Wasm,
            RuntimeKey::Container => Runtime::Container,
        },
        output: match file.output {
            OutputKey::Auto => OutputFormat::Auto,
            OutputKey::Json => OutputFormat::Json,
            OutputKey::Text => OutputFormat::Text,
            OutputKey::Bytes => OutputFormat::Bytes,
        },
        limits: LimitsRequest {
            wall_time: file.limits.wall_time,
            memory_bytes: file.limits.memory.map(|size| size.0),
            table_elements: file.limits.table_elements,
            stack_bytes: file.limits.stack.map(|size| size.0),
            output_bytes: file.limits.output.map(|size| size.0),
            host_calls: file.limits.host_calls,
            fuel: file.limits.fuel,
        },
        max_concurrent: file.max_concurrent,
        network_allow: file.network.allow,
        directories: file
            .directories
            .into_iter()
            .map(|keys| DirectoryGrant { host: keys.host, guest: keys.guest, writable: keys.writable })
            .collect(),
        credentials: file.credentials,
        environment: file.environment,
    };
    check(tool, &manifest)?;
    Ok(manifest)
}

/// The manifest as a JSON file that `parse` reads back to the same.
pub fn to_json(manifest: &Manifest) -> Result<Vec<u8>> {
    let file = File {
        description: manifest.description.clone(),
        version: manifest.version.clone(),
        runtime: match manifest.runtime {
            Runtime::Wasm => RuntimeKey::Wasm,
            Runtime::Container => RuntimeKey::Container,
        },
        output: match manifest.output {
            OutputFormat::Auto => OutputKey::Auto,
            OutputFormat::Json => OutputKey::Json,
            OutputFormat::Text => OutputKey::Text,
            OutputFormat::Bytes => OutputKey::Bytes,
        },
        max_concurrent: manifest.max_concurrent,
        credentials: manifest.credentials.clone(),
        environment: manifest.environment.clone(),
        limits: LimitsKeys {
            wall_time: manifest.limits.wall_time,
            memory: manifest.limits.memory_bytes.map(ByteSize),
            table_elements: manifest.limits.table_elements,
            stack: manifest.limits.stack_bytes.map(ByteSize),
            output: manifest.limits.output_bytes.map(ByteSize),
            host_calls: manifest.limits.host_calls,
            fuel: manifest.limits.fuel,
        },
        network: NetworkKeys { allow: manifest.network_allow.clone() },
        directories: manifest
            .directories
            .iter()
            .map(|grant| DirectoryKeys {
                host: grant.host.clone(),
                guest: grant.guest.clone(),
                writable: grant.writable,
            })
            .collect(),
        input_schema: manifest.input_schema.clone(),
        output_schema: manifest.output_schema.clone(),
    };
    serde_json::to_vec_pretty(&file).map_err(|error| Error::Internal(format!("cannot write a manifest: {error}")))
}

/// Checks what no type can say; answers every problem at once.
pub fn check(tool: &str, manifest: &Manifest) -> Result<()> {
    let mut violations = Vec::new();
    let mut problem = |field: &str, text: String| violations.push(Violation::new(format!("manifest.{field}"), text));
    if manifest.description.len() > MAX_DESCRIPTION {
        problem("description", format!("is {} bytes long; at most {MAX_DESCRIPTION}", manifest.description.len()));
    }
    if manifest.version.len() > MAX_VERSION {
        problem("version", format!("is {} bytes long; at most {MAX_VERSION}", manifest.version.len()));
    }
    if manifest.runtime == Runtime::Container {
        problem("runtime", "container tools are not part of this build; use \"wasm\"".into());
    }
    if manifest.max_concurrent == Some(0) {
        problem("max_concurrent", "must be at least 1; leave it out for the server's default".into());
    }
    for (name, limit) in [
        ("memory", manifest.limits.memory_bytes),
        ("stack", manifest.limits.stack_bytes),
        ("output", manifest.limits.output_bytes),
        ("fuel", manifest.limits.fuel),
    ] {
        if limit == Some(0) {
            problem(&format!("limits.{name}"), "must be more than 0; leave it out for the server's default".into());
        }
    }
    if manifest.limits.wall_time == Some(Duration::ZERO) {
        problem("limits.wall_time", "must be more than 0; leave it out for the server's default".into());
    }
    for host in &manifest.network_allow {
        if !is_host_pattern(host) {
            problem(
                "network.allow",
                format!("{host:?} is not a host name; expected \"host\", \"*.domain\" or \"host:port\""),
            );
        }
    }
    for name in manifest.environment.keys() {
        if name.is_empty() || name.contains(['=', '\0']) {
            problem("environment", format!("{name:?} is not a variable name"));
        }
    }
    for (name, value) in &manifest.environment {
        if value.contains('\0') {
            problem("environment", format!("the value of {name:?} contains a NUL byte"));
        }
    }
    for grant in &manifest.directories {
        if !grant.host.is_absolute() || !grant.guest.starts_with('/') {
            problem("directories", format!("{:?}: host and guest paths must be absolute", grant.host));
        }
    }
    if violations.is_empty() { Ok(()) } else { Err(Error::ManifestInvalid { tool: tool.into(), violations }) }
}

/// `host`, `*.domain`, either with `:port`.
fn is_host_pattern(text: &str) -> bool {
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let labels = host.strip_prefix("*.").unwrap_or(host);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    labels.len() <= 253
        && labels.split('.').all(label)
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn one_line(error: impl std::fmt::Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = r#"
description = "Echoes"
version = "1.2"
output = "json"
max_concurrent = 4
credentials = ["github"]

[limits]
wall_time = "2s"
memory = "64MiB"
fuel = 1000

[network]
allow = ["api.example.com", "*.example.org:443"]

[input_schema]
type = "object"
"#;

    #[test]
    fn toml_and_json_give_the_same_manifest() {
        let manifest = parse("echo", Format::Toml, TOML.as_bytes()).unwrap();
        assert_eq!(manifest.limits.memory_bytes, Some(64 << 20));
        assert_eq!(manifest.limits.wall_time, Some(Duration::from_secs(2)));
        assert_eq!(manifest.input_schema, Some(serde_json::json!({"type": "object"})));
        let json = to_json(&manifest).unwrap();
        assert_eq!(parse("echo", Format::Json, &json).unwrap(), manifest);
    }

    fn violations(text: &str) -> Vec<Violation> {
        match parse("t", Format::Toml, text.as_bytes()) {
            Err(Error::ManifestInvalid { violations, .. }) => violations,
            other => panic!("expected violations, got {other:?}"),
        }
    }

    #[test]
    fn errors_name_the_key_and_what_was_expected() {
        let unknown = violations("[limits]\nmemmory = 1");
        assert!(unknown[0].field.contains("limits"), "{unknown:?}");
        assert!(unknown[0].description.contains("memmory"), "{unknown:?}");
        assert_eq!(violations("[limits]\nmemory = \"lots\"")[0].field, "manifest.limits.memory");
        assert!(violations("output = \"xml\"")[0].description.contains("json"));
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let found =
            violations("max_concurrent = 0\n[network]\nallow = [\"http://x\", \"ok.example\"]\n[limits]\nfuel = 0");
        assert_eq!(found.len(), 3, "{found:?}");
    }

    #[test]
    fn host_patterns() {
        for good in ["a", "a.b", "*.a.b", "a.b:8080", "a-b.c_d"] {
            assert!(is_host_pattern(good), "{good}");
        }
        for bad in ["", "*", "a..b", "-a", "a:0", "a:99999", "https://a", "a/b", "*.*.a"] {
            assert!(!is_host_pattern(bad), "{bad}");
        }
    }
}
