//! Events of a journal as JSON.

use super::execution::result;
use super::structure::object;
use super::{Fields, time};
use crate::proto::v1::execution_event::Event;
use crate::proto::v1::{ExecutionEvent, OutputChunk};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// One event. Output carries `data` in base64 and, where it is UTF-8, `text` as well.
pub fn json(event: &ExecutionEvent) -> Value {
    let fields = Fields::default().set("sequence", event.sequence).set("time", time(&event.time));
    let (name, body) = match &event.event {
        None => return fields.into_value(),
        Some(Event::Started(started)) => (
            "started",
            Fields::default().set("executionId", started.execution_id.as_str()).set("pid", started.pid).into_value(),
        ),
        Some(Event::Stdout(chunk)) => ("stdout", output(chunk)),
        Some(Event::Stderr(chunk)) => ("stderr", output(chunk)),
        Some(Event::Log(log)) => ("log", json!({ "level": log.level().as_str_name(), "message": log.message })),
        Some(Event::Progress(progress)) => (
            "progress",
            Fields::default()
                .set("message", progress.message.as_str())
                .set("current", progress.current)
                .set("total", progress.total)
                .set("detail", progress.detail.as_ref().map(object))
                .into_value(),
        ),
        Some(Event::Truncated(gap)) => (
            "truncated",
            json!({
                "firstSequence": gap.first_sequence,
                "stdoutOffset": gap.stdout_offset,
                "stderrOffset": gap.stderr_offset,
            }),
        ),
        Some(Event::Keepalive(_)) => ("keepalive", json!({})),
        Some(Event::Finished(finished)) => (
            "finished",
            json!({
                "state": finished.state().as_str_name(),
                "result": finished.result.as_ref().map(result),
            }),
        ),
    };
    fields.choose(name, body).into_value()
}

fn output(chunk: &OutputChunk) -> Value {
    let fields = Fields::default().choose("offset", chunk.offset).set("data", STANDARD.encode(&chunk.data));
    match std::str::from_utf8(&chunk.data) {
        Ok(text) => fields.set("text", text).into_value(),
        Err(_) => fields.into_value(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_bytes_and_where_possible_text() {
        let event = |data: &'static [u8]| ExecutionEvent {
            sequence: 2,
            time: None,
            event: Some(Event::Stdout(OutputChunk { offset: 0, data: data.into() })),
        };
        let text = json!({"sequence": 2, "stdout": {"offset": 0, "data": "aGk=", "text": "hi"}});
        assert_eq!(json(&event(b"hi")), text);
        assert_eq!(json(&event(b"\xff"))["stdout"], json!({"offset": 0, "data": "/w=="}));
    }
}
