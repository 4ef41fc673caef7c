//! Snapshots as messages.

use super::{id, timestamp};
use crate::domain::snapshot::{SnapshotSource, SnapshotStanding, SnapshotState};
use crate::error::{Error, Result};
use crate::proto::v1;
use crate::session::SnapshotSelection;
use v1::snapshot::Source;

/// A snapshot as it stands.
pub fn snapshot(standing: &SnapshotStanding) -> v1::Snapshot {
    let snapshot = &standing.snapshot;
    let mut message = v1::Snapshot {
        id: snapshot.id.to_string(),
        name: snapshot.name.clone(),
        problem: standing.problem.clone(),
        description: snapshot.description.clone(),
        labels: snapshot.labels.clone(),
        principal: snapshot.principal.to_string(),
        request_id: snapshot.request_id.map(|id| id.to_string()).unwrap_or_default(),
        source: match &snapshot.source {
            SnapshotSource::BuiltIn => None,
            SnapshotSource::Session(session) => Some(Source::SessionId(session.to_string())),
            SnapshotSource::Build { base, packages, preloaded_modules } => Some(Source::Build(v1::SnapshotBuild {
                base_snapshot_id: base.map(|base| base.to_string()).unwrap_or_default(),
                packages: packages.clone(),
                preloaded_modules: preloaded_modules.clone(),
            })),
        },
        tool: snapshot.tool.to_string(),
        turn: snapshot.turn,
        runtime_digest: hex::encode(snapshot.runtime),
        digest: hex::encode(snapshot.digest),
        size_bytes: snapshot.size_bytes,
        total_bytes: snapshot.total_bytes,
        create_time: Some(timestamp(snapshot.created)),
        last_used_time: snapshot.last_used.map(timestamp),
        ..Default::default()
    };
    message.set_kind(v1::SnapshotKind::Interpreter);
    message.set_state(match standing.state {
        SnapshotState::Creating => v1::SnapshotState::Creating,
        SnapshotState::Ready => v1::SnapshotState::Ready,
        SnapshotState::Damaged => v1::SnapshotState::Damaged,
        SnapshotState::Foreign => v1::SnapshotState::Foreign,
    });
    message
}

/// What a listing selects; `None` for what no snapshot of this server can be.
pub fn selection(filter: Option<v1::SnapshotFilter>) -> Result<Option<SnapshotSelection>> {
    let Some(filter) = filter else { return Ok(Some(SnapshotSelection::default())) };
    let mut interpreters = filter.kinds.is_empty() && filter.container_id.is_empty();
    for &number in &filter.kinds {
        match v1::SnapshotKind::try_from(number) {
            Ok(v1::SnapshotKind::Interpreter) => interpreters = filter.container_id.is_empty(),
            Ok(v1::SnapshotKind::Container) => {}
            Ok(v1::SnapshotKind::Unspecified) | Err(_) => {
                return Err(Error::invalid("filter.kinds", format!("{number} is not a kind")));
            }
        }
    }
    let states = filter
        .states
        .iter()
        .map(|&number| match v1::SnapshotState::try_from(number) {
            Ok(v1::SnapshotState::Creating) => Ok(SnapshotState::Creating),
            Ok(v1::SnapshotState::Ready) => Ok(SnapshotState::Ready),
            Ok(v1::SnapshotState::Damaged) => Ok(SnapshotState::Damaged),
            Ok(v1::SnapshotState::Foreign) => Ok(SnapshotState::Foreign),
            Ok(v1::SnapshotState::Unspecified) | Err(_) => {
                Err(Error::invalid("filter.states", format!("{number} is not a state")))
            }
        })
        .collect::<Result<_>>()?;
    let text = |text: String| (!text.is_empty()).then_some(text);
    let selection = SnapshotSelection {
        states,
        tool: text(filter.tool),
        name_prefix: filter.name_prefix,
        labels: filter.labels,
        session: text(filter.session_id).map(|session| id("filter.session_id", &session)).transpose()?,
    };
    Ok(interpreters.then_some(selection))
}
