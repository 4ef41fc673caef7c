//! Executions.

use super::event::output_file;
use super::{Fields, seconds, short_size, short_span, short_time, span, time, word};
use crate::cli::output;
use crate::proto::v1::execution::Subject;
use crate::proto::v1::{
    ExceptionFrame, ExceptionInfo, Execution, ExecutionLimits, ExecutionResult, ExecutionState, ExecutionUsage,
    ExitReason, OutputViolation, SessionInterruption, StageResult, Trap,
};
use serde_json::{Value, json};

/// An execution as JSON.
pub fn json(execution: &Execution) -> Value {
    let fields = Fields::default().set("id", execution.id.as_str()).set("state", execution.state().as_str_name());
    let fields = match &execution.subject {
        Some(Subject::Tool(tool)) => fields.choose(
            "tool",
            Fields::default()
                .set("name", tool.name.as_str())
                .set("version", tool.version.as_str())
                .set("digest", tool.digest.as_str())
                .set("target", tool.target.as_str())
                .into_value(),
        ),
        Some(Subject::Process(process)) => fields.choose(
            "process",
            Fields::default()
                .set("containerId", process.container_id.as_str())
                .set("command", process.command.clone())
                .set("tty", process.tty)
                .set("pid", process.pid)
                .into_value(),
        ),
        None => fields,
    };
    fields
        .set("sessionId", execution.session_id.as_str())
        .set("sessionTurn", execution.session_turn)
        .set("parentExecutionId", execution.parent_execution_id.as_str())
        .set("principal", execution.principal.as_str())
        .set("requestId", execution.request_id.as_str())
        .set("labels", json!(execution.labels))
        .set("limits", execution.limits.as_ref().map(limits))
        .set("createTime", time(&execution.create_time))
        .set("startTime", time(&execution.start_time))
        .set("endTime", time(&execution.end_time))
        .set("lastSequence", execution.last_sequence)
        .set("stdinOffset", execution.stdin_offset)
        .set("result", execution.result.as_ref().map(result))
        .into_value()
}

/// Limits as JSON.
pub fn limits(limits: &ExecutionLimits) -> Value {
    Fields::default()
        .set("wallTime", seconds(&limits.wall_time))
        .set("memoryBytes", limits.memory_bytes)
        .set("tableElements", limits.table_elements)
        .set("stackBytes", limits.stack_bytes)
        .set("outputBytes", limits.output_bytes)
        .set("hostCalls", limits.host_calls)
        .set("fuel", limits.fuel)
        .set("scratchBytes", limits.scratch_bytes)
        .set("childExecutions", limits.child_executions)
        .set("childDepth", limits.child_depth)
        .into_value()
}

/// A result as JSON.
pub fn result(result: &ExecutionResult) -> Value {
    let trap = |trap: &Trap| {
        Fields::default()
            .set("code", trap.code.as_str())
            .set("message", trap.message.as_str())
            .set("backtrace", trap.backtrace.clone())
            .into_value()
    };
    let violation =
        |violation: &OutputViolation| json!({ "pointer": violation.pointer, "description": violation.description });
    let fields = Fields::default().set("exitReason", result.exit_reason().as_str_name());
    let fields = match result.exit_reason() {
        // Zero is the good news here, and not to be left out.
        ExitReason::Exited | ExitReason::OutputInvalid => fields.choose("exitCode", result.exit_code),
        _ => fields,
    };
    fields
        .set("signal", result.signal.as_str())
        .set("trap", result.trap.as_ref().map(trap))
        .set("message", result.message.as_str())
        .set("usage", result.usage.as_ref().map(usage))
        .set("outputViolations", result.output_violations.iter().map(violation).collect::<Vec<_>>())
        .set("exception", result.exception.as_ref().map(exception))
        .set("stages", result.stages.iter().map(stage).collect::<Vec<_>>())
        .set("files", result.files.iter().map(output_file).collect::<Vec<_>>())
        .set("unlistedFiles", result.unlisted_files)
        .set("sessionInterruption", result.session_interruption.as_ref().map(interruption))
        .into_value()
}

fn exception(exception: &ExceptionInfo) -> Value {
    let frame = |frame: &ExceptionFrame| {
        Fields::default()
            .set("file", frame.file.as_str())
            .set("line", frame.line)
            .set("column", frame.column)
            .set("function", frame.function.as_str())
            .set("source", frame.source.as_str())
            .into_value()
    };
    Fields::default()
        .set("typeName", exception.type_name.as_str())
        .set("message", exception.message.as_str())
        .set("traceback", exception.traceback.as_str())
        .set("frames", exception.frames.iter().map(frame).collect::<Vec<_>>())
        .into_value()
}

fn stage(stage: &StageResult) -> Value {
    Fields::default()
        .set("stage", stage.stage().as_str_name())
        .choose("exitCode", stage.exit_code)
        .set("signal", stage.signal.as_str())
        .set("runTime", seconds(&stage.run_time))
        .set("stdoutOffset", stage.stdout_offset)
        .set("stderrOffset", stage.stderr_offset)
        .set("diagnostics", stage.diagnostics.as_str())
        .into_value()
}

/// An interruption as JSON.
pub fn interruption(interruption: &SessionInterruption) -> Value {
    Fields::default()
        .set("reason", interruption.reason().as_str_name())
        .set("time", time(&interruption.time))
        .set("executionId", interruption.execution_id.as_str())
        .set("lastTurn", interruption.last_turn)
        .choose("resumedTurn", interruption.resumed_turn)
        .into_value()
}

fn usage(usage: &ExecutionUsage) -> Value {
    Fields::default()
        .set("queueTime", seconds(&usage.queue_time))
        .set("runTime", seconds(&usage.run_time))
        .set("peakMemoryBytes", usage.peak_memory_bytes)
        .set("fuel", usage.fuel)
        .set("hostCalls", usage.host_calls)
        .set("stdoutBytes", usage.stdout_bytes)
        .set("stderrBytes", usage.stderr_bytes)
        .set("droppedBytes", usage.dropped_bytes)
        .set("truncated", usage.truncated)
        .set("childExecutions", usage.child_executions)
        .set("scratchBytes", usage.scratch_bytes)
        .set("cpuTime", seconds(&usage.cpu_time))
        .into_value()
}

/// `succeeded`, `timed_out`, ...
pub fn state_word(state: ExecutionState) -> String {
    word(state.as_str_name(), "EXECUTION_STATE_")
}

/// How it ended, in a few words: `exit 3`, `trapped: unreachable`, `out_of_memory`.
pub fn ending(result: &ExecutionResult) -> String {
    match (result.exit_reason(), &result.trap) {
        (ExitReason::Exited, _) => format!("exit {}", result.exit_code),
        (ExitReason::Signaled, _) => result.signal.clone(),
        (ExitReason::Trapped, Some(trap)) => format!("trapped: {}", trap.code),
        (reason, _) => word(reason.as_str_name(), "EXIT_REASON_"),
    }
}

fn subject(execution: &Execution) -> String {
    match &execution.subject {
        Some(Subject::Tool(tool)) => tool.name.clone(),
        Some(Subject::Process(process)) => process.command.join(" "),
        None => String::new(),
    }
}

fn session(execution: &Execution) -> String {
    match execution.session_turn {
        0 => execution.session_id.clone(),
        turn => format!("{}, turn {turn}", execution.session_id),
    }
}

fn run_time(execution: &Execution) -> String {
    let usage = execution.result.as_ref().and_then(|result| result.usage.as_ref());
    usage.and_then(|usage| span(&usage.run_time)).map(short_span).unwrap_or_default()
}

/// A table of executions.
pub fn table(executions: &[Execution]) -> String {
    let row = |execution: &Execution| {
        vec![
            execution.id.clone(),
            state_word(execution.state()),
            subject(execution),
            short_time(&execution.create_time),
            run_time(execution),
            execution.result.as_ref().map(ending).unwrap_or_default(),
        ]
    };
    let rows: Vec<Vec<String>> = executions.iter().map(row).collect();
    output::table(&["ID", "STATE", "SUBJECT", "CREATED", "RAN", "ENDED"], &rows)
}

/// One execution in full.
pub fn detail(execution: &Execution) -> String {
    let labels: Vec<String> = execution.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut rows = vec![
        ("id", execution.id.clone()),
        ("state", state_word(execution.state())),
        ("subject", subject(execution)),
        ("session", session(execution)),
        ("called by", execution.parent_execution_id.clone()),
        ("principal", execution.principal.clone()),
        ("request id", execution.request_id.clone()),
        ("labels", labels.join(" ")),
        ("created", time(&execution.create_time).unwrap_or_default()),
        ("started", time(&execution.start_time).unwrap_or_default()),
        ("ended", time(&execution.end_time).unwrap_or_default()),
        ("events", execution.last_sequence.to_string()),
    ];
    if let Some(result) = &execution.result {
        rows.push(("how", ending(result)));
        rows.push(("message", result.message.clone()));
        if let Some(exception) = &result.exception {
            rows.push(("exception", format!("{}: {}", exception.type_name, exception.message)));
        }
        for file in &result.files {
            let about = if file.kept { "kept" } else { file.problem.as_str() };
            let about = if about.is_empty() { String::new() } else { format!(" ({about})") };
            rows.push(("file", format!("{}, {}{about}", file.path, short_size(file.size_bytes))));
        }
        if result.unlisted_files > 0 {
            rows.push(("more files", result.unlisted_files.to_string()));
        }
        if let Some(interruption) = &result.session_interruption {
            let turn = interruption.resumed_turn;
            rows.push(("interrupted", format!("the session lost its live state and goes on from turn {turn}")));
        }
        for violation in &result.output_violations {
            rows.push(("output", format!("{}: {}", violation.pointer, violation.description)));
        }
        if let Some(usage) = &result.usage {
            rows.push(("ran", span(&usage.run_time).map(short_span).unwrap_or_default()));
            rows.push(("queued", span(&usage.queue_time).map(short_span).unwrap_or_default()));
            rows.push(("peak memory", short_size(usage.peak_memory_bytes)));
            rows.push((
                "output",
                format!("{} stdout, {} stderr", short_size(usage.stdout_bytes), short_size(usage.stderr_bytes)),
            ));
            if usage.truncated {
                rows.push(("dropped", short_size(usage.dropped_bytes)));
            }
            if usage.child_executions > 0 {
                rows.push(("calls", usage.child_executions.to_string()));
            }
            if usage.scratch_bytes > 0 {
                rows.push(("scratch", short_size(usage.scratch_bytes)));
            }
            if usage.fuel > 0 {
                rows.push(("fuel", usage.fuel.to_string()));
            }
        }
    }
    output::facts(&rows)
}
