//! Tools.

use super::execution::limits;
use super::structure::object;
use super::{Fields, short_size, time, word};
use crate::cli::output;
use crate::proto::v1::{DirectoryGrant, Tool, ToolManifest};
use serde_json::{Value, json};

/// A tool as JSON.
pub fn json(tool: &Tool) -> Value {
    Fields::default()
        .set("name", tool.name.as_str())
        .set("manifest", tool.manifest.as_ref().map(manifest))
        .set("state", tool.state().as_str_name())
        .set("problem", tool.problem.as_str())
        .set("digest", tool.digest.as_str())
        .set("moduleBytes", tool.module_bytes)
        .set("moduleKind", tool.module_kind().as_str_name())
        .set("initialMemoryBytes", tool.initial_memory_bytes)
        .set("loadTime", time(&tool.load_time))
        .into_value()
}

fn manifest(manifest: &ToolManifest) -> Value {
    let directory = |grant: &DirectoryGrant| json!({ "hostPath": grant.host_path, "guestPath": grant.guest_path, "writable": grant.writable });
    Fields::default()
        .set("description", manifest.description.as_str())
        .set("version", manifest.version.as_str())
        .set("inputSchema", manifest.input_schema.as_ref().map(object))
        .set("outputSchema", manifest.output_schema.as_ref().map(object))
        .set("runtime", manifest.runtime().as_str_name())
        .set("outputFormat", manifest.output_format().as_str_name())
        .set("limits", manifest.limits.as_ref().map(limits))
        .set("maxConcurrent", manifest.max_concurrent)
        .set("network", manifest.network.as_ref().map(|network| json!({ "allow": network.allow })))
        .set("directories", manifest.directories.iter().map(directory).collect::<Vec<_>>())
        .set("credentials", manifest.credentials.clone())
        .set("environment", json!(manifest.environment))
        .into_value()
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn description(tool: &Tool) -> &str {
    tool.manifest.as_ref().map(|manifest| manifest.description.as_str()).unwrap_or_default()
}

fn version(tool: &Tool) -> String {
    tool.manifest.as_ref().map(|manifest| manifest.version.clone()).unwrap_or_default()
}

fn state(tool: &Tool) -> String {
    word(tool.state().as_str_name(), "TOOL_STATE_")
}

/// A table of tools.
pub fn table(tools: &[Tool]) -> String {
    let row = |tool: &Tool| {
        let about = if tool.problem.is_empty() { description(tool) } else { &tool.problem };
        vec![tool.name.clone(), version(tool), state(tool), first_line(about)]
    };
    output::table(&["NAME", "VERSION", "STATE", "DESCRIPTION"], &tools.iter().map(row).collect::<Vec<_>>())
}

/// One tool in full.
pub fn detail(tool: &Tool) -> String {
    let manifest = tool.manifest.as_ref();
    let schema =
        |schema: Option<&prost_types::Struct>| schema.map(|schema| object(schema).to_string()).unwrap_or_default();
    output::facts(&[
        ("name", tool.name.clone()),
        ("version", version(tool)),
        ("state", state(tool)),
        ("problem", tool.problem.clone()),
        ("description", description(tool).to_owned()),
        (
            "module",
            format!("{}, {}", word(tool.module_kind().as_str_name(), "MODULE_KIND_"), short_size(tool.module_bytes)),
        ),
        ("digest", tool.digest.clone()),
        ("loaded", time(&tool.load_time).unwrap_or_default()),
        ("input", schema(manifest.and_then(|manifest| manifest.input_schema.as_ref()))),
        ("output", schema(manifest.and_then(|manifest| manifest.output_schema.as_ref()))),
        (
            "limits",
            manifest
                .and_then(|manifest| manifest.limits.as_ref())
                .map(|asked| limits(asked).to_string())
                .unwrap_or_default(),
        ),
        (
            "network",
            manifest
                .and_then(|manifest| manifest.network.as_ref())
                .map(|network| network.allow.join(" "))
                .unwrap_or_default(),
        ),
        ("credentials", manifest.map(|manifest| manifest.credentials.join(" ")).unwrap_or_default()),
    ])
}
