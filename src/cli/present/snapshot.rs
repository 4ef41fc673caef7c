//! Snapshots.

use super::{Fields, short_size, short_time, time, word};
use crate::cli::output;
use crate::proto::v1::snapshot::Source;
use crate::proto::v1::{Snapshot, SnapshotBuild, SnapshotKind};
use serde_json::{Value, json};

/// A snapshot as JSON.
pub fn json(snapshot: &Snapshot) -> Value {
    let fields = Fields::default()
        .set("id", snapshot.id.as_str())
        .set("name", snapshot.name.as_str())
        .set("kind", snapshot.kind().as_str_name())
        .set("state", snapshot.state().as_str_name())
        .set("problem", snapshot.problem.as_str())
        .set("description", snapshot.description.as_str())
        .set("labels", json!(snapshot.labels))
        .set("principal", snapshot.principal.as_str())
        .set("requestId", snapshot.request_id.as_str());
    let fields = match &snapshot.source {
        Some(Source::SessionId(id)) => fields.choose("sessionId", id.as_str()),
        Some(Source::ContainerId(id)) => fields.choose("containerId", id.as_str()),
        Some(Source::Build(made)) => fields.choose("build", build(made)),
        None => fields,
    };
    fields
        .set("tool", snapshot.tool.as_str())
        .set("turn", snapshot.turn)
        .set("runtimeDigest", snapshot.runtime_digest.as_str())
        .set("digest", snapshot.digest.as_str())
        .set("sizeBytes", snapshot.size_bytes)
        .set("totalBytes", snapshot.total_bytes)
        .set("createTime", time(&snapshot.create_time))
        .set("lastUsedTime", time(&snapshot.last_used_time))
        .into_value()
}

fn build(build: &SnapshotBuild) -> Value {
    Fields::default()
        .set("baseSnapshotId", build.base_snapshot_id.as_str())
        .set("packages", build.packages.clone())
        .set("preloadedModules", build.preloaded_modules.clone())
        .into_value()
}

fn source(snapshot: &Snapshot) -> String {
    match &snapshot.source {
        Some(Source::SessionId(id)) => format!("session {id}, turn {}", snapshot.turn),
        Some(Source::ContainerId(id)) => format!("container {id}"),
        Some(Source::Build(_)) => "a build".to_owned(),
        None => "built in".to_owned(),
    }
}

/// The tool whose interpreter it holds, or a container.
fn holds(snapshot: &Snapshot) -> String {
    match snapshot.kind() {
        SnapshotKind::Container => "container".to_owned(),
        _ => snapshot.tool.clone(),
    }
}

fn state(snapshot: &Snapshot) -> String {
    word(snapshot.state().as_str_name(), "SNAPSHOT_STATE_")
}

/// A table of snapshots.
pub fn table(snapshots: &[Snapshot]) -> String {
    let row = |snapshot: &Snapshot| {
        let about = if snapshot.problem.is_empty() { &snapshot.description } else { &snapshot.problem };
        vec![
            snapshot.name.clone(),
            holds(snapshot),
            state(snapshot),
            short_size(snapshot.size_bytes),
            short_time(&snapshot.create_time),
            about.clone(),
        ]
    };
    let head = ["NAME", "HOLDS", "STATE", "SIZE", "CREATED", "DESCRIPTION"];
    output::table(&head, &snapshots.iter().map(row).collect::<Vec<_>>())
}

/// One snapshot in full.
pub fn detail(snapshot: &Snapshot) -> String {
    let built = match &snapshot.source {
        Some(Source::Build(made)) => build(made).to_string(),
        _ => String::new(),
    };
    let total = match snapshot.kind() {
        SnapshotKind::Container => "image",
        _ => "memory",
    };
    output::facts(&[
        ("name", snapshot.name.clone()),
        ("id", snapshot.id.clone()),
        ("holds", holds(snapshot)),
        ("state", state(snapshot)),
        ("problem", snapshot.problem.clone()),
        ("description", snapshot.description.clone()),
        ("made from", source(snapshot)),
        ("build", built),
        ("size on disk", short_size(snapshot.size_bytes)),
        (total, short_size(snapshot.total_bytes)),
        ("owner", snapshot.principal.clone()),
        ("interpreter", snapshot.runtime_digest.clone()),
        ("digest", snapshot.digest.clone()),
        ("created", time(&snapshot.create_time).unwrap_or_default()),
        ("last used", time(&snapshot.last_used_time).unwrap_or_default()),
    ])
}
