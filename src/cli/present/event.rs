//! Events of a journal as JSON.

use super::execution::result;
use super::structure::object;
use super::{Fields, time};
use crate::proto::v1::execution_event::Event;
use crate::proto::v1::representation::Content;
use crate::proto::v1::{ExecutionEvent, OutputChunk, OutputFile, Representation, RichOutput};
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
        Some(Event::RichOutput(output)) => ("richOutput", rich_output(output)),
        Some(Event::Child(child)) => (
            "child",
            Fields::default()
                .set("executionId", child.execution_id.as_str())
                .set("tool", child.tool.as_str())
                .set("state", child.state().as_str_name())
                .set("message", child.message.as_str())
                .into_value(),
        ),
        Some(Event::FileChunk(chunk)) => (
            "fileChunk",
            Fields::default()
                .set("path", chunk.path.as_str())
                .choose("offset", chunk.offset)
                .set("data", STANDARD.encode(&chunk.data))
                .set("file", chunk.file.as_ref().map(output_file))
                .into_value(),
        ),
        Some(Event::Stage(stage)) => ("stage", json!({ "stage": stage.stage().as_str_name() })),
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

fn rich_output(output: &RichOutput) -> Value {
    let representation = |form: &Representation| {
        let fields = Fields::default().set("mimeType", form.mime_type.as_str()).set("sizeBytes", form.size_bytes);
        match &form.content {
            Some(Content::Text(text)) => fields.choose("text", text.as_str()).into_value(),
            Some(Content::Data(data)) => fields.choose("data", STANDARD.encode(data)).into_value(),
            None => fields.into_value(),
        }
    };
    Fields::default()
        .set("kind", output.kind().as_str_name())
        .set("representations", output.representations.iter().map(representation).collect::<Vec<_>>())
        .set("displayId", output.display_id.as_str())
        .set("metadata", output.metadata.as_ref().map(object))
        .into_value()
}

/// A file that a run left, without its content.
pub(super) fn output_file(file: &OutputFile) -> Value {
    Fields::default()
        .set("path", file.path.as_str())
        .choose("sizeBytes", file.size_bytes)
        .set("mode", file.mode)
        .set("created", file.created)
        .set("linkTarget", file.link_target.as_str())
        .set("digest", file.digest.as_str())
        .set("kept", file.kept)
        .set("problem", file.problem.as_str())
        .into_value()
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
