//! Executions.

use super::{Fields, seconds, short_size, short_span, short_time, span, time, word};
use crate::cli::output;
use crate::proto::v1::execution::Subject;
use crate::proto::v1::{
    Execution, ExecutionLimits, ExecutionResult, ExecutionState, ExecutionUsage, ExitReason, OutputViolation, Trap,
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
            if usage.fuel > 0 {
                rows.push(("fuel", usage.fuel.to_string()));
            }
        }
    }
    output::facts(&rows)
}
