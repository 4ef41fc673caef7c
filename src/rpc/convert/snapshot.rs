//! Snapshots as messages.

use super::{id, timestamp};
use crate::container::SnapshotSelection as ContainerSelection;
use crate::domain::snapshot::{ContainerSnapshotStanding, SnapshotSource, SnapshotStanding, SnapshotState};
use crate::error::{Error, Result};
use crate::proto::v1;
use crate::session::SnapshotSelection;
use v1::snapshot::Source;

/// A snapshot of an interpreter as it stands.
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
    message.set_state(state(standing.state));
    message
}

/// A snapshot of a container as it stands.
pub fn of_container(standing: &ContainerSnapshotStanding) -> v1::Snapshot {
    let snapshot = &standing.snapshot;
    let mut message = v1::Snapshot {
        id: snapshot.id.to_string(),
        name: snapshot.name.clone(),
        problem: standing.problem.clone(),
        description: snapshot.description.clone(),
        labels: snapshot.labels.clone(),
        principal: snapshot.principal.to_string(),
        request_id: snapshot.request_id.map(|id| id.to_string()).unwrap_or_default(),
        source: Some(Source::ContainerId(snapshot.container.to_string())),
        digest: snapshot.digest().to_owned(),
        size_bytes: snapshot.size_bytes(),
        total_bytes: snapshot.total_bytes,
        create_time: Some(timestamp(snapshot.created)),
        last_used_time: snapshot.last_used.map(timestamp),
        ..Default::default()
    };
    message.set_kind(v1::SnapshotKind::Container);
    message.set_state(state(standing.state));
    message
}

fn state(state: SnapshotState) -> v1::SnapshotState {
    match state {
        SnapshotState::Creating => v1::SnapshotState::Creating,
        SnapshotState::Ready => v1::SnapshotState::Ready,
        SnapshotState::Damaged => v1::SnapshotState::Damaged,
        SnapshotState::Foreign => v1::SnapshotState::Foreign,
    }
}

/// What a listing selects of each kind; none where it selects nothing of that kind.
#[derive(Debug, PartialEq, Eq)]
pub struct Selection {
    /// Of those that hold an interpreter.
    pub interpreters: Option<SnapshotSelection>,
    /// Of those that hold a container.
    pub containers: Option<ContainerSelection>,
}

/// What a listing selects.
pub fn selection(filter: Option<v1::SnapshotFilter>) -> Result<Selection> {
    let filter = filter.unwrap_or_default();
    let (mut interpreters, mut containers) = (filter.kinds.is_empty(), filter.kinds.is_empty());
    for &number in &filter.kinds {
        match v1::SnapshotKind::try_from(number) {
            Ok(v1::SnapshotKind::Interpreter) => interpreters = true,
            Ok(v1::SnapshotKind::Container) => containers = true,
            Ok(v1::SnapshotKind::Unspecified) | Err(_) => {
                return Err(Error::invalid("filter.kinds", format!("{number} is not a kind")));
            }
        }
    }
    // What only one kind has, no snapshot of the other matches.
    interpreters &= filter.container_id.is_empty();
    containers &= filter.tool.is_empty() && filter.session_id.is_empty();
    let states: Vec<SnapshotState> = filter
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
    let of_container = ContainerSelection {
        states: states.clone(),
        name_prefix: filter.name_prefix.clone(),
        labels: filter.labels.clone(),
        container: text(filter.container_id).map(|container| id("filter.container_id", &container)).transpose()?,
    };
    let of_interpreter = SnapshotSelection {
        states,
        tool: text(filter.tool),
        name_prefix: filter.name_prefix,
        labels: filter.labels,
        session: text(filter.session_id).map(|session| id("filter.session_id", &session)).transpose()?,
    };
    Ok(Selection {
        interpreters: interpreters.then_some(of_interpreter),
        containers: containers.then_some(of_container),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{ContainerId, SessionId};

    #[test]
    fn what_one_kind_alone_has_leaves_the_other_out() {
        let kinds = |filter: v1::SnapshotFilter| {
            let found = selection(Some(filter)).unwrap();
            (found.interpreters.is_some(), found.containers.is_some())
        };
        let (one, other) = (v1::SnapshotKind::Interpreter.into(), v1::SnapshotKind::Container.into());
        assert_eq!(kinds(v1::SnapshotFilter::default()), (true, true));
        for (filter, expected) in [
            (v1::SnapshotFilter { kinds: vec![one], ..Default::default() }, (true, false)),
            (v1::SnapshotFilter { kinds: vec![other], ..Default::default() }, (false, true)),
            (v1::SnapshotFilter { kinds: vec![one, other], ..Default::default() }, (true, true)),
            (v1::SnapshotFilter { tool: "python".into(), ..Default::default() }, (true, false)),
            (v1::SnapshotFilter { session_id: SessionId::new().to_string(), ..Default::default() }, (true, false)),
            (v1::SnapshotFilter { container_id: ContainerId::new().to_string(), ..Default::default() }, (false, true)),
        ] {
            assert_eq!(kinds(filter.clone()), expected, "{filter:?}");
        }
        for filter in [
            v1::SnapshotFilter { kinds: vec![9], ..Default::default() },
            v1::SnapshotFilter { states: vec![0], ..Default::default() },
            v1::SnapshotFilter { container_id: "box".into(), ..Default::default() },
        ] {
            assert!(matches!(selection(Some(filter)), Err(Error::InvalidArgument(_))));
        }
    }
}
