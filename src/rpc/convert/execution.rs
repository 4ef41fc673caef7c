//! Executions, their events and results as messages.

use super::{duration, id, moment, output, span, timestamp};
use crate::domain::event::{Event, EventKind, LogLevel, OutputStream};
use crate::domain::execution::{Execution, ExecutionState, Exit, Outcome, Subject};
use crate::domain::id::ExecutionId;
use crate::domain::limits::{Limits, LimitsRequest};
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::proto::v1;
use crate::store::executions::Filter;
use v1::execution_event::Event as Body;

/// An execution.
pub fn execution(execution: &Execution) -> v1::Execution {
    let origin = &execution.origin;
    v1::Execution {
        id: origin.id.to_string(),
        state: state(execution.state).into(),
        subject: Some(subject(&origin.subject, &origin.target)),
        principal: origin.principal.to_string(),
        request_id: origin.request_id.map(|id| id.to_string()).unwrap_or_default(),
        labels: origin.labels.clone(),
        limits: Some(limits(&origin.limits)),
        create_time: Some(timestamp(origin.created)),
        start_time: execution.started.map(timestamp),
        end_time: execution.ended.map(timestamp),
        last_sequence: execution.last_sequence,
        stdin_offset: execution.stdin_offset,
        result: execution.outcome.as_deref().map(result),
        session_id: origin.session.map(|id| id.to_string()).unwrap_or_default(),
        session_turn: execution.session_turn,
        parent_execution_id: origin.parent.map(|id| id.to_string()).unwrap_or_default(),
    }
}

fn subject(subject: &Subject, target: &str) -> v1::execution::Subject {
    match subject {
        Subject::Tool { name, version, digest } => v1::execution::Subject::Tool(v1::ToolSubject {
            name: name.to_string(),
            version: version.to_string(),
            digest: digest.to_string(),
            target: target.to_owned(),
        }),
        Subject::Process { container, command, tty } => v1::execution::Subject::Process(v1::ProcessSubject {
            container_id: container.to_string(),
            command: command.clone(),
            tty: *tty,
            pid: 0,
        }),
    }
}

/// A state.
pub fn state(state: ExecutionState) -> v1::ExecutionState {
    match state {
        ExecutionState::Queued => v1::ExecutionState::Queued,
        ExecutionState::Running => v1::ExecutionState::Running,
        ExecutionState::Succeeded => v1::ExecutionState::Succeeded,
        ExecutionState::Failed => v1::ExecutionState::Failed,
        ExecutionState::TimedOut => v1::ExecutionState::TimedOut,
        ExecutionState::Cancelled => v1::ExecutionState::Cancelled,
        ExecutionState::Lost => v1::ExecutionState::Lost,
    }
}

fn limits(limits: &Limits) -> v1::ExecutionLimits {
    v1::ExecutionLimits {
        wall_time: Some(duration(limits.wall_time)),
        memory_bytes: limits.memory_bytes,
        table_elements: limits.table_elements,
        stack_bytes: limits.stack_bytes,
        output_bytes: limits.output_bytes,
        host_calls: limits.host_calls,
        fuel: limits.fuel.unwrap_or(0),
        scratch_bytes: limits.scratch_bytes,
        child_executions: limits.child_executions,
        child_depth: limits.child_depth,
    }
}

/// Limits somebody asks for, as a message.
pub fn limits_asked(limits: &LimitsRequest) -> v1::ExecutionLimits {
    v1::ExecutionLimits {
        wall_time: limits.wall_time.map(duration),
        memory_bytes: limits.memory_bytes.unwrap_or(0),
        table_elements: limits.table_elements.unwrap_or(0),
        stack_bytes: limits.stack_bytes.unwrap_or(0),
        output_bytes: limits.output_bytes.unwrap_or(0),
        host_calls: limits.host_calls.unwrap_or(0),
        fuel: limits.fuel.unwrap_or(0),
        scratch_bytes: limits.scratch_bytes.unwrap_or(0),
        child_executions: limits.child_executions.unwrap_or(0),
        child_depth: limits.child_depth.unwrap_or(0),
    }
}

/// Limits somebody asks for; `field` is where they stand. Zero is not set.
pub fn limits_request(field: &str, limits: Option<&v1::ExecutionLimits>) -> Result<LimitsRequest> {
    let Some(limits) = limits else { return Ok(LimitsRequest::default()) };
    let set = |value: u64| (value > 0).then_some(value);
    let wall_time = limits.wall_time.as_ref().map(|time| span(&format!("{field}.wall_time"), time)).transpose()?;
    Ok(LimitsRequest {
        wall_time: wall_time.filter(|time| !time.is_zero()),
        memory_bytes: set(limits.memory_bytes),
        table_elements: set(limits.table_elements),
        stack_bytes: set(limits.stack_bytes),
        output_bytes: set(limits.output_bytes),
        host_calls: set(limits.host_calls),
        fuel: set(limits.fuel),
        scratch_bytes: set(limits.scratch_bytes),
        child_executions: set(limits.child_executions),
        child_depth: (limits.child_depth > 0).then_some(limits.child_depth),
    })
}

/// A result.
pub fn result(outcome: &Outcome) -> v1::ExecutionResult {
    let usage = &outcome.usage;
    let mut result = v1::ExecutionResult {
        message: outcome.message.clone(),
        usage: Some(v1::ExecutionUsage {
            queue_time: Some(duration(usage.queue_time)),
            run_time: Some(duration(usage.run_time)),
            peak_memory_bytes: usage.peak_memory_bytes,
            fuel: usage.fuel,
            host_calls: usage.host_calls,
            stdout_bytes: usage.stdout_bytes,
            stderr_bytes: usage.stderr_bytes,
            dropped_bytes: usage.dropped_bytes,
            truncated: usage.truncated,
            child_executions: usage.child_executions,
            scratch_bytes: usage.scratch_bytes,
            cpu_time: None,
        }),
        exception: outcome.exception.as_ref().map(output::exception),
        files: outcome.files.iter().map(output::output_file).collect(),
        unlisted_files: outcome.unlisted_files,
        stages: outcome.stages.iter().map(output::stage_result).collect(),
        session_interruption: outcome.session_interruption.as_ref().map(output::interruption),
        ..Default::default()
    };
    let reason = match &outcome.exit {
        Exit::Exited { code } => {
            result.exit_code = *code;
            v1::ExitReason::Exited
        }
        Exit::Signaled { signal } => {
            result.signal.clone_from(signal);
            v1::ExitReason::Signaled
        }
        Exit::Trapped(trap) => {
            result.trap = Some(v1::Trap {
                code: trap.code.clone(),
                message: trap.message.clone(),
                backtrace: trap.backtrace.clone(),
            });
            v1::ExitReason::Trapped
        }
        Exit::OutputInvalid { code, violations } => {
            result.exit_code = *code;
            result.output_violations = violations
                .iter()
                .map(|violation| v1::OutputViolation {
                    pointer: violation.pointer.clone(),
                    description: violation.description.clone(),
                })
                .collect();
            v1::ExitReason::OutputInvalid
        }
        Exit::OutOfMemory => v1::ExitReason::OutOfMemory,
        Exit::OutOfFuel => v1::ExitReason::OutOfFuel,
        Exit::StackOverflow => v1::ExitReason::StackOverflow,
        Exit::TimedOut => v1::ExitReason::TimedOut,
        Exit::Cancelled => v1::ExitReason::Cancelled,
        Exit::ServerShutdown => v1::ExitReason::ServerShutdown,
        Exit::ServerLost => v1::ExitReason::ServerLost,
        Exit::Internal => v1::ExitReason::Internal,
        Exit::ContainerStopped => v1::ExitReason::ContainerStopped,
        Exit::NotStarted => v1::ExitReason::NotStarted,
    };
    result.set_exit_reason(reason);
    result
}

/// An event; `id` goes into `started`, for readers that learn it from the stream.
pub fn event(id: ExecutionId, event: Event) -> v1::ExecutionEvent {
    let body = match event.kind {
        EventKind::Started { pid } => Body::Started(v1::StartedEvent { execution_id: id.to_string(), pid }),
        EventKind::Output { stream: OutputStream::Stdout, offset, data } => {
            Body::Stdout(v1::OutputChunk { offset, data })
        }
        EventKind::Output { stream: OutputStream::Stderr, offset, data } => {
            Body::Stderr(v1::OutputChunk { offset, data })
        }
        EventKind::Log { level, message } => {
            Body::Log(v1::LogEvent { level: log_level(level).into(), message: message.to_string() })
        }
        EventKind::Progress(progress) => Body::Progress(v1::ProgressEvent {
            message: progress.message.clone(),
            current: progress.current,
            total: progress.total,
            detail: progress.detail.as_deref().and_then(|text| match serde_json::from_str(text) {
                Ok(serde_json::Value::Object(map)) => Some(super::json::to_struct(map)),
                _ => None,
            }),
        }),
        EventKind::Truncated(gap) => Body::Truncated(v1::TruncatedEvent {
            first_sequence: gap.first_sequence,
            stdout_offset: gap.stdout_offset,
            stderr_offset: gap.stderr_offset,
        }),
        EventKind::Finished { state: ended, outcome } => {
            Body::Finished(v1::FinishedEvent { state: state(ended).into(), result: Some(result(&outcome)) })
        }
        EventKind::RichOutput(rich) => Body::RichOutput(output::rich_output(&rich)),
        EventKind::Child(child) => Body::Child(output::child(&child)),
        EventKind::FileChunk(chunk) => Body::FileChunk(output::file_chunk(&chunk)),
        EventKind::Stage(stage) => Body::Stage(v1::StageEvent { stage: output::stage(stage).into() }),
    };
    v1::ExecutionEvent { sequence: event.sequence, time: Some(timestamp(event.time)), event: Some(body) }
}

/// A sign of life on a silent stream, after the event with this sequence.
pub fn keepalive(sequence: u64) -> v1::ExecutionEvent {
    v1::ExecutionEvent {
        sequence,
        time: Some(timestamp(Timestamp::now())),
        event: Some(Body::Keepalive(v1::KeepaliveEvent {})),
    }
}

fn log_level(level: LogLevel) -> v1::LogLevel {
    match level {
        LogLevel::Trace => v1::LogLevel::Trace,
        LogLevel::Debug => v1::LogLevel::Debug,
        LogLevel::Info => v1::LogLevel::Info,
        LogLevel::Warn => v1::LogLevel::Warn,
        LogLevel::Error => v1::LogLevel::Error,
    }
}

/// What a listing selects.
pub fn filter(filter: Option<v1::ExecutionFilter>) -> Result<Filter> {
    let Some(filter) = filter else { return Ok(Filter::default()) };
    let states = filter
        .states
        .iter()
        .map(|&number| match v1::ExecutionState::try_from(number) {
            Ok(v1::ExecutionState::Queued) => Ok(ExecutionState::Queued),
            Ok(v1::ExecutionState::Running) => Ok(ExecutionState::Running),
            Ok(v1::ExecutionState::Succeeded) => Ok(ExecutionState::Succeeded),
            Ok(v1::ExecutionState::Failed) => Ok(ExecutionState::Failed),
            Ok(v1::ExecutionState::TimedOut) => Ok(ExecutionState::TimedOut),
            Ok(v1::ExecutionState::Cancelled) => Ok(ExecutionState::Cancelled),
            Ok(v1::ExecutionState::Lost) => Ok(ExecutionState::Lost),
            Ok(v1::ExecutionState::Unspecified) | Err(_) => {
                Err(Error::invalid("filter.states", format!("{number} is not a state")))
            }
        })
        .collect::<Result<_>>()?;
    let session = (!filter.session_id.is_empty()).then(|| id("filter.session_id", &filter.session_id)).transpose()?;
    let parent = &filter.parent_execution_id;
    let parent = (!parent.is_empty()).then(|| id("filter.parent_execution_id", parent)).transpose()?;
    let text = |text: String| (!text.is_empty()).then_some(text);
    Ok(Filter {
        states,
        tool: text(filter.tool),
        container: text(filter.container_id),
        session,
        parent,
        created_from: filter.created_after.as_ref().map(moment),
        created_before: filter.created_before.as_ref().map(moment),
        labels: filter.labels,
    })
}
