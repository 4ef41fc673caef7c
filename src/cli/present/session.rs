//! Sessions.

use super::execution::interruption;
use super::{Fields, seconds, short_size, short_span, short_time, span, time, word};
use crate::cli::output;
use crate::proto::v1::session_target::Target;
use crate::proto::v1::{Session, SessionClosure, SessionInterruption, SessionLimits, SessionTarget};
use serde_json::{Value, json};

/// A session as JSON.
pub fn json(session: &Session) -> Value {
    Fields::default()
        .set("id", session.id.as_str())
        .set("tool", session.tool.as_str())
        .set("target", session.target.as_ref().map(target))
        .set("state", session.state().as_str_name())
        .set("principal", session.principal.as_str())
        .set("requestId", session.request_id.as_str())
        .set("labels", json!(session.labels))
        .set("limits", session.limits.as_ref().map(limits))
        .set("durability", session.durability().as_str_name())
        .set("createTime", time(&session.create_time))
        .set("lastActiveTime", time(&session.last_active_time))
        .set("expireTime", time(&session.expire_time))
        .set("idleExpireTime", time(&session.idle_expire_time))
        .set("turn", session.turn)
        .set("checkpointTurn", session.checkpoint_turn)
        .set("checkpointTime", time(&session.checkpoint_time))
        .set("memoryBytes", session.memory_bytes)
        .set("checkpointBytes", session.checkpoint_bytes)
        .set("forkedFromSessionId", session.forked_from_session_id.as_str())
        .set("runningExecutionId", session.running_execution_id.as_str())
        .set("queuedCalls", session.queued_calls)
        .set("interruption", session.interruption.as_ref().map(interruption))
        .set("closure", session.closure.as_ref().map(closure))
        .into_value()
}

fn target(target: &SessionTarget) -> Value {
    match &target.target {
        Some(Target::SnapshotId(id)) => json!({ "snapshotId": id }),
        Some(Target::ContainerId(id)) => json!({ "containerId": id }),
        Some(Target::Pool(pool)) => json!({ "pool": pool }),
        None => Value::Null,
    }
}

fn limits(limits: &SessionLimits) -> Value {
    Fields::default()
        .set("timeToLive", seconds(&limits.time_to_live))
        .set("idleTimeout", seconds(&limits.idle_timeout))
        .set("memoryBytes", limits.memory_bytes)
        .set("scratchBytes", limits.scratch_bytes)
        .set("queueLength", limits.queue_length)
        .set("turnWallTime", seconds(&limits.turn_wall_time))
        .into_value()
}

fn closure(closure: &SessionClosure) -> Value {
    Fields::default()
        .set("reason", closure.reason().as_str_name())
        .set("message", closure.message.as_str())
        .set("time", time(&closure.time))
        .into_value()
}

fn state(session: &Session) -> String {
    word(session.state().as_str_name(), "SESSION_STATE_")
}

/// A table of sessions.
pub fn table(sessions: &[Session]) -> String {
    let row = |session: &Session| {
        vec![
            session.id.clone(),
            session.tool.clone(),
            state(session),
            format!("{} ({})", session.turn, session.checkpoint_turn),
            short_size(session.memory_bytes),
            short_size(session.checkpoint_bytes),
            short_time(&session.last_active_time),
        ]
    };
    let head = ["ID", "TOOL", "STATE", "TURN (DURABLE)", "MEMORY", "CHECKPOINT", "LAST ACTIVE"];
    output::table(&head, &sessions.iter().map(row).collect::<Vec<_>>())
}

/// One session in full.
pub fn detail(session: &Session) -> String {
    let closure = session.closure.as_ref();
    let closed = closure.map(|closure| {
        let reason = word(closure.reason().as_str_name(), "SESSION_CLOSURE_REASON_");
        format!("{reason}: {}", closure.message)
    });
    let checkpoint = session.checkpoint_time.map(|_| {
        let size = short_size(session.checkpoint_bytes);
        format!("turn {}, {size}, {}", session.checkpoint_turn, short_time(&session.checkpoint_time))
    });
    let lost = |interruption: &SessionInterruption| {
        let reason = word(interruption.reason().as_str_name(), "SESSION_INTERRUPTION_REASON_");
        format!("{reason} after turn {}; went on from turn {}", interruption.last_turn, interruption.resumed_turn)
    };
    let limits = session.limits.as_ref().map(|limits| {
        let time = |value| span(value).map(short_span).unwrap_or_default();
        format!(
            "life {}, idle {}, memory {}, files {}, {} waiting calls, {} a call",
            time(&limits.time_to_live),
            time(&limits.idle_timeout),
            short_size(limits.memory_bytes),
            short_size(limits.scratch_bytes),
            limits.queue_length,
            time(&limits.turn_wall_time)
        )
    });
    output::facts(&[
        ("id", session.id.clone()),
        ("tool", session.tool.clone()),
        ("target", session.target.as_ref().map(|place| target(place).to_string()).unwrap_or_default()),
        ("state", state(session)),
        ("closed", closed.unwrap_or_default()),
        ("owner", session.principal.clone()),
        ("turn", session.turn.to_string()),
        ("checkpoint", checkpoint.unwrap_or_default()),
        ("durable", word(session.durability().as_str_name(), "SESSION_DURABILITY_")),
        ("memory", short_size(session.memory_bytes)),
        ("interrupted", session.interruption.as_ref().map(lost).unwrap_or_default()),
        ("running", session.running_execution_id.clone()),
        ("waiting", if session.queued_calls > 0 { session.queued_calls.to_string() } else { String::new() }),
        ("forked from", session.forked_from_session_id.clone()),
        ("limits", limits.unwrap_or_default()),
        ("created", time(&session.create_time).unwrap_or_default()),
        ("last active", time(&session.last_active_time).unwrap_or_default()),
        ("ends", time(&session.expire_time).unwrap_or_default()),
        ("ends if idle", time(&session.idle_expire_time).unwrap_or_default()),
    ])
}
