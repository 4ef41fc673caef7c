//! Tools, calls and outputs as messages.

use super::execution::{limits_asked, limits_request};
use super::input::inputs;
use super::{json, request_id, timestamp};
use crate::container::Viewer;
use crate::domain::event::OutputStream;
use crate::domain::manifest::{DirectoryGrant, Manifest, OutputFormat, Runtime};
use crate::engine::ModuleKind;
use crate::error::{Error, Result};
use crate::execution::Live;
use crate::proto::v1;
use crate::tool::{Call, Entry, Parameters, Runner, Target};
use serde::de::IgnoredAny;
use serde_json::Value;
use std::path::PathBuf;
use v1::tool_output::Content;

/// Standard error in an answer at most.
const STDERR_TAIL: usize = 64 << 10;

/// A tool as it stands.
pub fn tool(entry: &Entry) -> v1::Tool {
    let mut message = v1::Tool {
        name: entry.name().to_string(),
        problem: entry.problem().unwrap_or_default().to_owned(),
        ..Default::default()
    };
    let state = match (entry.serving(), entry.problem()) {
        (Some(_), None) => v1::ToolState::Ready,
        (Some(_), Some(_)) => v1::ToolState::Stale,
        (None, _) => v1::ToolState::Broken,
    };
    message.set_state(state);
    if let Some(tool) = entry.serving() {
        message.manifest = Some(manifest(tool.manifest()));
        message.digest = tool.digest().to_string();
        if let Runner::Module(program) = tool.runner() {
            message.module_bytes = program.size();
            message.set_module_kind(match program.kind() {
                ModuleKind::WasiP1 => v1::ModuleKind::WasiP1,
                ModuleKind::Component => v1::ModuleKind::Component,
            });
            message.initial_memory_bytes = program.initial_memory_bytes();
        }
        message.load_time = Some(timestamp(tool.loaded()));
    }
    message
}

fn manifest(manifest: &Manifest) -> v1::ToolManifest {
    let schema = |schema: &Option<Value>| match schema {
        Some(Value::Object(map)) => Some(json::to_struct(map.clone())),
        _ => None,
    };
    let mut message = v1::ToolManifest {
        description: manifest.description.clone(),
        version: manifest.version.clone(),
        input_schema: schema(&manifest.input_schema),
        output_schema: schema(&manifest.output_schema),
        limits: Some(limits_asked(&manifest.limits)),
        max_concurrent: manifest.max_concurrent.unwrap_or(0),
        network: (!manifest.network_allow.is_empty())
            .then(|| v1::NetworkGrant { allow: manifest.network_allow.clone() }),
        directories: manifest
            .directories
            .iter()
            .map(|grant| v1::DirectoryGrant {
                host_path: grant.host.display().to_string(),
                guest_path: grant.guest.clone(),
                writable: grant.writable,
            })
            .collect(),
        credentials: manifest.credentials.clone(),
        environment: manifest.environment.clone(),
        ..Default::default()
    };
    message.set_runtime(match manifest.runtime {
        Runtime::Wasm => v1::ToolRuntime::Wasm,
        Runtime::Container => v1::ToolRuntime::Container,
    });
    message.set_output_format(match manifest.output {
        OutputFormat::Auto => v1::OutputFormat::Auto,
        OutputFormat::Json => v1::OutputFormat::Json,
        OutputFormat::Text => v1::OutputFormat::Text,
        OutputFormat::Bytes => v1::OutputFormat::Bytes,
    });
    message
}

/// A manifest somebody sent.
pub fn manifest_sent(message: v1::ToolManifest) -> Result<Manifest> {
    let runtime = match message.runtime() {
        v1::ToolRuntime::Unspecified | v1::ToolRuntime::Wasm => Runtime::Wasm,
        v1::ToolRuntime::Container => Runtime::Container,
    };
    let output = match message.output_format() {
        v1::OutputFormat::Unspecified | v1::OutputFormat::Auto => OutputFormat::Auto,
        v1::OutputFormat::Json => OutputFormat::Json,
        v1::OutputFormat::Text => OutputFormat::Text,
        v1::OutputFormat::Bytes => OutputFormat::Bytes,
    };
    let schema = |field, schema: Option<prost_types::Struct>| -> Result<Option<Value>> {
        schema.map(|schema| json::from_struct(field, schema).map(Value::Object)).transpose()
    };
    Ok(Manifest {
        input_schema: schema("manifest.input_schema", message.input_schema)?,
        output_schema: schema("manifest.output_schema", message.output_schema)?,
        limits: limits_request("manifest.limits", message.limits.as_ref())?,
        description: message.description,
        version: message.version,
        runtime,
        output,
        max_concurrent: (message.max_concurrent > 0).then_some(message.max_concurrent),
        network_allow: message.network.map(|network| network.allow).unwrap_or_default(),
        directories: message
            .directories
            .into_iter()
            .map(|grant| DirectoryGrant {
                host: PathBuf::from(grant.host_path),
                guest: grant.guest_path,
                writable: grant.writable,
            })
            .collect(),
        credentials: message.credentials,
        environment: message.environment,
    })
}

/// The form in which a caller sent parameters, and so wants JSON back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonForm {
    /// As a structure.
    Structure,
    /// As text.
    Text,
}

/// A call, and the form its answer takes.
pub fn call(message: Option<v1::ToolCall>, viewer: Viewer) -> Result<(Call, JsonForm)> {
    let mut message = message.ok_or_else(|| Error::invalid("call", "is required"))?;
    if message.tool.is_empty() {
        return Err(Error::invalid("call.tool", "is required; ListTools shows what there is"));
    }
    let target = message.target.take().map(|sent| target("call.target", sent)).transpose()?.flatten();
    let (inputs, stdin) = inputs(&mut message)?;
    let (parameters, form) = match message.input {
        None => (Parameters::Value(Value::Object(Default::default())), JsonForm::Structure),
        Some(v1::tool_call::Input::Parameters(parameters)) => {
            let map = json::from_struct("call.parameters", parameters)?;
            (Parameters::Value(Value::Object(map)), JsonForm::Structure)
        }
        Some(v1::tool_call::Input::ParametersJson(text)) => (Parameters::Text(text), JsonForm::Text),
    };
    let call = Call {
        tool: message.tool,
        parameters,
        inputs,
        stdin,
        limits: limits_request("call.limits", message.limits.as_ref())?,
        keep_stdin_open: message.keep_stdin_open,
        labels: message.labels,
        request_id: request_id("call.request_id", &message.request_id)?,
        target,
        principal: viewer.name,
        administers: viewer.administers,
        parent: None,
    };
    Ok((call, form))
}

/// Where something runs; `field` is where that stands.
pub fn target(field: &str, message: v1::ToolTarget) -> Result<Option<Target>> {
    use v1::tool_target::Target as Sent;
    let expected_turn = message.expected_turn;
    let target = match message.target {
        None => None,
        Some(Sent::SessionId(id)) => {
            let id = id.parse().map_err(|_| {
                Error::invalid(
                    format!("{field}.session_id"),
                    "expected the id of a session, a UUID; ListSessions shows them",
                )
            })?;
            return Ok(Some(Target::Session(id, expected_turn)));
        }
        Some(Sent::SnapshotId(name)) if name.is_empty() => {
            return Err(Error::invalid(format!("{field}.snapshot_id"), "expected the id or name of a snapshot"));
        }
        Some(Sent::SnapshotId(name)) => Some(Target::Snapshot(name)),
        Some(Sent::ContainerId(name)) if name.is_empty() => {
            return Err(Error::invalid(format!("{field}.container_id"), "expected the id or name of a container"));
        }
        Some(Sent::ContainerId(name)) => Some(Target::Container(name)),
        Some(Sent::Pool(name)) if name.is_empty() => {
            return Err(Error::invalid(format!("{field}.pool"), "expected the name of a pool"));
        }
        Some(Sent::Pool(name)) => Some(Target::Pool(name)),
    };
    match expected_turn {
        Some(_) => Err(Error::invalid(format!("{field}.expected_turn"), format!("needs {field}.session_id"))),
        None => Ok(target),
    }
}

/// Where the output of its last stage begins; of a run without stages, its own.
fn last_stage(live: &Live) -> [u64; 2] {
    let outcome = live.execution().outcome;
    outcome.and_then(|outcome| outcome.stages.last().map(|stage| stage.offsets)).unwrap_or_default()
}

/// What a run printed, in the form that fits.
pub fn output(live: &Live, format: OutputFormat, form: JsonForm) -> v1::ToolOutput {
    let (bytes, truncated) = live.journal().collect_from(OutputStream::Stdout, last_stage(live)[0]);
    let json_content = || {
        if truncated || matches!(format, OutputFormat::Text | OutputFormat::Bytes) {
            return None;
        }
        match form {
            JsonForm::Structure => {
                serde_json::from_slice(&bytes).ok().map(|value| Content::Json(json::to_value(value)))
            }
            JsonForm::Text => {
                serde_json::from_slice::<IgnoredAny>(&bytes).ok()?;
                std::str::from_utf8(&bytes).ok().map(|text| Content::JsonText(text.trim().to_owned()))
            }
        }
    };
    let content = json_content().unwrap_or_else(|| match format {
        OutputFormat::Bytes => Content::Data(bytes.to_vec()),
        OutputFormat::Text => Content::Text(String::from_utf8_lossy(&bytes).into_owned()),
        OutputFormat::Auto | OutputFormat::Json => match std::str::from_utf8(&bytes) {
            Ok(text) => Content::Text(text.to_owned()),
            Err(_) => Content::Data(bytes.to_vec()),
        },
    });
    v1::ToolOutput { content: Some(content), truncated }
}

/// The end of standard error, as text.
pub fn stderr(live: &Live) -> String {
    let (bytes, _) = live.journal().collect_from(OutputStream::Stderr, last_stage(live)[1]);
    let tail = bytes.len().saturating_sub(STDERR_TAIL);
    String::from_utf8_lossy(&bytes[tail..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_expected_of_a_session_only() {
        let with = |target: Option<v1::ToolTarget>| {
            let message = v1::ToolCall { tool: "t".into(), target, ..Default::default() };
            call(Some(message), Viewer { name: "p".into(), administers: false }).map(|_| ())
        };
        let turn = v1::ToolTarget { expected_turn: Some(3), ..Default::default() };
        assert!(matches!(with(Some(turn)), Err(Error::InvalidArgument(_))));
        assert!(with(None).is_ok());
    }
}
