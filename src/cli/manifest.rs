//! Manifest files, as the tool verbs send them.

use super::failure::Failure;
use super::present::structure;
use crate::domain::limits::LimitsRequest;
use crate::domain::manifest::{Manifest, OutputFormat, Runtime};
use crate::proto::v1;
use crate::tool::manifest::{Format, parse};
use serde_json::Value;
use std::path::Path;

/// Reads a TOML or JSON manifest and checks it as the server would, so that mistakes are told with the
/// name of the file.
pub fn read(tool: &str, path: &Path) -> Result<v1::ToolManifest, Failure> {
    let what = || format!("the manifest {} cannot be used", path.display());
    let format = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => Format::Toml,
        Some("json") => Format::Json,
        _ => return Err(Failure::local(what(), "its name ends neither in .toml nor in .json")),
    };
    let text = std::fs::read(path).map_err(|error| Failure::local(what(), error))?;
    let manifest = parse(tool, format, &text).map_err(|error| Failure::local(what(), error))?;
    Ok(message(manifest))
}

fn message(manifest: Manifest) -> v1::ToolManifest {
    let schema = |schema: Option<Value>| schema.as_ref().and_then(Value::as_object).map(structure::message);
    let directory = |grant: crate::domain::manifest::DirectoryGrant| v1::DirectoryGrant {
        host_path: grant.host.display().to_string(),
        guest_path: grant.guest,
        writable: grant.writable,
    };
    let runtime = match manifest.runtime {
        Runtime::Wasm => v1::ToolRuntime::Wasm,
        Runtime::Container => v1::ToolRuntime::Container,
    };
    let output_format = match manifest.output {
        OutputFormat::Auto => v1::OutputFormat::Auto,
        OutputFormat::Json => v1::OutputFormat::Json,
        OutputFormat::Text => v1::OutputFormat::Text,
        OutputFormat::Bytes => v1::OutputFormat::Bytes,
    };
    v1::ToolManifest {
        description: manifest.description,
        version: manifest.version,
        input_schema: schema(manifest.input_schema),
        output_schema: schema(manifest.output_schema),
        runtime: runtime.into(),
        output_format: output_format.into(),
        limits: Some(limits(manifest.limits)),
        max_concurrent: manifest.max_concurrent.unwrap_or_default(),
        network: Some(v1::NetworkGrant { allow: manifest.network_allow }),
        directories: manifest.directories.into_iter().map(directory).collect(),
        credentials: manifest.credentials,
        environment: manifest.environment,
    }
}

fn limits(limits: LimitsRequest) -> v1::ExecutionLimits {
    v1::ExecutionLimits {
        // Longer than protobuf can say is longer than any cap.
        wall_time: limits.wall_time.and_then(|span| span.try_into().ok()),
        memory_bytes: limits.memory_bytes.unwrap_or_default(),
        table_elements: limits.table_elements.unwrap_or_default(),
        stack_bytes: limits.stack_bytes.unwrap_or_default(),
        output_bytes: limits.output_bytes.unwrap_or_default(),
        host_calls: limits.host_calls.unwrap_or_default(),
        fuel: limits.fuel.unwrap_or_default(),
        scratch_bytes: limits.scratch_bytes.unwrap_or_default(),
        child_executions: limits.child_executions.unwrap_or_default(),
        child_depth: limits.child_depth.unwrap_or_default(),
    }
}
