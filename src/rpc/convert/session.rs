//! Sessions as messages.

use super::{duration, id, output, span, timestamp};
use crate::domain::session::{
    ClosureReason, Durability, Home, HomeWish, Session, SessionLimits, SessionLimitsRequest, SessionState,
};
use crate::error::{Error, Result};
use crate::proto::v1;
use crate::session::SessionSelection;
use std::time::Duration;
use v1::session_target::Target;

/// A session.
pub fn session(session: &Session) -> v1::Session {
    let origin = &session.origin;
    let mut message = v1::Session {
        id: origin.id.to_string(),
        tool: origin.tool.to_string(),
        target: match (&origin.home, origin.snapshot) {
            (Some(Home::Container(id)), _) => Some(Target::ContainerId(id.to_string())),
            (Some(Home::Pool(name)), _) => Some(Target::Pool(name.clone())),
            (None, snapshot) => snapshot.map(|id| Target::SnapshotId(id.to_string())),
        }
        .map(|target| v1::SessionTarget { target: Some(target) }),
        principal: origin.principal.to_string(),
        request_id: origin.request_id.map(|id| id.to_string()).unwrap_or_default(),
        labels: origin.labels.clone(),
        limits: Some(limits(&origin.limits)),
        create_time: Some(timestamp(origin.created)),
        last_active_time: Some(timestamp(session.last_active)),
        expire_time: Some(timestamp(origin.expires())),
        idle_expire_time: session.idle_expires.map(timestamp),
        turn: session.turn,
        checkpoint_turn: session.checkpoint_turn,
        checkpoint_time: session.checkpoint_time.map(timestamp),
        memory_bytes: session.memory_bytes,
        checkpoint_bytes: session.checkpoint_bytes,
        forked_from_session_id: origin.forked_from.map(|id| id.to_string()).unwrap_or_default(),
        running_execution_id: session.running.map(|id| id.to_string()).unwrap_or_default(),
        queued_calls: session.queued,
        interruption: session.interruption.as_ref().map(output::interruption),
        closure: session.closure.as_ref().map(|closure| {
            let mut message = v1::SessionClosure {
                message: closure.message.clone(),
                time: Some(timestamp(closure.time)),
                ..Default::default()
            };
            message.set_reason(closure_reason(closure.reason));
            message
        }),
        ..Default::default()
    };
    message.set_state(state(session.state));
    message.set_durability(match origin.durability {
        Durability::None => v1::SessionDurability::None,
        Durability::Idle => v1::SessionDurability::Idle,
        Durability::Turn => v1::SessionDurability::Turn,
    });
    message
}

fn state(state: SessionState) -> v1::SessionState {
    match state {
        SessionState::Starting => v1::SessionState::Starting,
        SessionState::Ready => v1::SessionState::Ready,
        SessionState::Busy => v1::SessionState::Busy,
        SessionState::Suspended => v1::SessionState::Suspended,
        SessionState::Closed => v1::SessionState::Closed,
    }
}

fn closure_reason(reason: ClosureReason) -> v1::SessionClosureReason {
    match reason {
        ClosureReason::Closed => v1::SessionClosureReason::Closed,
        ClosureReason::Idle => v1::SessionClosureReason::Idle,
        ClosureReason::Expired => v1::SessionClosureReason::Expired,
        ClosureReason::Evicted => v1::SessionClosureReason::Evicted,
        ClosureReason::Interrupted => v1::SessionClosureReason::Interrupted,
        ClosureReason::CheckpointUnusable => v1::SessionClosureReason::CheckpointUnusable,
        ClosureReason::ContainerEnded => v1::SessionClosureReason::ContainerEnded,
        ClosureReason::ServerShutdown => v1::SessionClosureReason::ServerShutdown,
    }
}

fn limits(limits: &SessionLimits) -> v1::SessionLimits {
    v1::SessionLimits {
        time_to_live: Some(duration(limits.time_to_live)),
        idle_timeout: Some(duration(limits.idle_timeout)),
        memory_bytes: limits.memory_bytes,
        scratch_bytes: limits.scratch_bytes,
        queue_length: limits.queue_length,
        turn_wall_time: Some(duration(limits.turn_wall_time)),
    }
}

/// Limits somebody asks for. Zero is not set.
pub fn limits_request(limits: Option<&v1::SessionLimits>) -> Result<SessionLimitsRequest> {
    let Some(limits) = limits else { return Ok(SessionLimitsRequest::default()) };
    let time = |name: &str, asked: &Option<prost_types::Duration>| -> Result<Option<Duration>> {
        let asked = asked.as_ref().map(|asked| span(&format!("limits.{name}"), asked)).transpose()?;
        Ok(asked.filter(|asked| !asked.is_zero()))
    };
    let set = |value: u64| (value > 0).then_some(value);
    Ok(SessionLimitsRequest {
        time_to_live: time("time_to_live", &limits.time_to_live)?,
        idle_timeout: time("idle_timeout", &limits.idle_timeout)?,
        memory_bytes: set(limits.memory_bytes),
        scratch_bytes: set(limits.scratch_bytes),
        queue_length: (limits.queue_length > 0).then_some(limits.queue_length),
        turn_wall_time: time("turn_wall_time", &limits.turn_wall_time)?,
    })
}

/// The durability a caller asks for; `None` leaves it to the server.
pub fn durability(number: i32) -> Result<Option<Durability>> {
    match v1::SessionDurability::try_from(number) {
        Ok(v1::SessionDurability::Unspecified) => Ok(None),
        Ok(v1::SessionDurability::None) => Ok(Some(Durability::None)),
        Ok(v1::SessionDurability::Idle) => Ok(Some(Durability::Idle)),
        Ok(v1::SessionDurability::Turn) => Ok(Some(Durability::Turn)),
        Err(_) => Err(Error::invalid("durability", format!("{number} is not a durability"))),
    }
}

/// The snapshot to start from, or where to live.
pub fn target(target: Option<v1::SessionTarget>) -> Result<(Option<String>, Option<HomeWish>)> {
    let named = |field: &str, of: &str, name: String| match name.is_empty() {
        true => Err(Error::invalid(format!("target.{field}"), format!("expected the {of}"))),
        false => Ok(name),
    };
    Ok(match target.and_then(|target| target.target) {
        None => (None, None),
        Some(Target::SnapshotId(name)) => (Some(named("snapshot_id", "id or name of a snapshot", name)?), None),
        Some(Target::ContainerId(name)) => {
            (None, Some(HomeWish::Container(named("container_id", "id or name of a container", name)?)))
        }
        Some(Target::Pool(name)) => (None, Some(HomeWish::Pool(named("pool", "name of a pool", name)?))),
    })
}

/// What a listing selects.
pub fn selection(filter: Option<v1::SessionFilter>) -> Result<SessionSelection> {
    let Some(filter) = filter else { return Ok(SessionSelection::default()) };
    let states = filter
        .states
        .iter()
        .map(|&number| match v1::SessionState::try_from(number) {
            Ok(v1::SessionState::Starting) => Ok(SessionState::Starting),
            Ok(v1::SessionState::Ready) => Ok(SessionState::Ready),
            Ok(v1::SessionState::Busy) => Ok(SessionState::Busy),
            Ok(v1::SessionState::Suspended) => Ok(SessionState::Suspended),
            Ok(v1::SessionState::Closed) => Ok(SessionState::Closed),
            Ok(v1::SessionState::Unspecified) | Err(_) => {
                Err(Error::invalid("filter.states", format!("{number} is not a state")))
            }
        })
        .collect::<Result<_>>()?;
    let text = |text: String| (!text.is_empty()).then_some(text);
    Ok(SessionSelection {
        states,
        tool: text(filter.tool),
        container: text(filter.container_id).map(|container| id("filter.container_id", &container)).transpose()?,
        forked_from: text(filter.forked_from_session_id)
            .map(|origin| id("filter.forked_from_session_id", &origin))
            .transpose()?,
        labels: filter.labels,
        principal: text(filter.principal),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_and_unset_limits_leave_the_choice_to_the_server() {
        let zero = v1::SessionLimits { time_to_live: Some(Default::default()), ..Default::default() };
        assert_eq!(limits_request(Some(&zero)).unwrap(), SessionLimitsRequest::default());
        let negative = prost_types::Duration { seconds: -1, nanos: 0 };
        let negative = v1::SessionLimits { idle_timeout: Some(negative), ..Default::default() };
        assert!(limits_request(Some(&negative)).unwrap_err().to_string().contains("limits.idle_timeout"));
    }

    #[test]
    fn what_is_asked_for_is_not_dropped_in_silence() {
        let of = |target| super::target(Some(v1::SessionTarget { target: Some(target) }));
        assert_eq!(of(Target::SnapshotId("a".into())).unwrap(), (Some("a".into()), None));
        assert_eq!(of(Target::Pool("p".into())).unwrap(), (None, Some(HomeWish::Pool("p".into()))));
        assert!(of(Target::ContainerId(String::new())).is_err());
        let filter = v1::SessionFilter { container_id: "c".into(), ..Default::default() };
        assert!(selection(Some(filter)).is_err(), "it is no id");
        assert!(selection(Some(v1::SessionFilter { states: vec![0], ..Default::default() })).is_err());
        assert!(durability(9).is_err() && durability(0).unwrap().is_none());
    }
}
