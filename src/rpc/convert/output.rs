//! What a run gave besides its two streams, as messages.

use super::{json, timestamp};
use crate::domain::interruption::{Interruption, InterruptionReason};
use crate::domain::output::{
    ChildEvent, Content, ExceptionFrame, ExceptionInfo, FileChunk, OutputFile, Representation, RichOutput,
    RichOutputKind, Stage, StageResult,
};
use crate::execution::Live;
use crate::proto::v1;
use bytes::{Bytes, BytesMut};
use std::collections::HashMap;
use std::sync::Arc;

/// Bytes that the contents of rich outputs and files take together in one answer.
const ANSWER: u64 = 3 << 20;

/// What an answer tells of a run beside its streams.
#[derive(Default)]
pub struct Left {
    /// The value of the last expression.
    pub value: Option<v1::RichOutput>,
    /// What was displayed, in order.
    pub rich_outputs: Vec<v1::RichOutput>,
    /// The files whose contents were kept.
    pub files: Vec<v1::OutputFile>,
}

/// What a run left, its contents as far as they fit one answer: the value first, then what was displayed, then files.
pub fn left(live: &Live) -> Left {
    let mut room = ANSWER;
    let (mut value, mut shown): (Option<Arc<RichOutput>>, Vec<Arc<RichOutput>>) = (None, Vec::new());
    for output in live.journal().rich_outputs() {
        match output.kind {
            RichOutputKind::Value => value = Some(output),
            RichOutputKind::Display => {
                let same = |other: &&mut Arc<RichOutput>| {
                    !output.display_id.is_empty() && other.display_id == output.display_id
                };
                match shown.iter_mut().find(same) {
                    Some(replaced) => *replaced = output,
                    None => shown.push(output),
                }
            }
        }
    }
    let mut fit = |output: Arc<RichOutput>| {
        let mut output = Arc::unwrap_or_clone(output);
        output.fit(room);
        room -= output.content_size();
        rich_output(&output)
    };
    let value = value.map(&mut fit);
    let rich_outputs = shown.into_iter().map(fit).collect();
    Left { value, rich_outputs, files: kept_files(live, room) }
}

fn kept_files(live: &Live, mut room: u64) -> Vec<v1::OutputFile> {
    let outcome = live.execution().outcome;
    let kept: Vec<&OutputFile> = outcome.iter().flat_map(|outcome| &outcome.files).filter(|file| file.kept).collect();
    if kept.is_empty() {
        return Vec::new();
    }
    let mut pieces: HashMap<String, Vec<Bytes>> = HashMap::new();
    for chunk in live.journal().file_chunks() {
        pieces.entry(chunk.path.clone()).or_default().push(chunk.data.clone());
    }
    let mut answered = Vec::with_capacity(kept.len());
    for file in kept {
        let mut message = output_file(file);
        let pieces = pieces.remove(&file.path).unwrap_or_default();
        let size: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        // Whole or not at all.
        if size == file.size_bytes && size <= room {
            room -= size;
            message.data = match <[Bytes; 1]>::try_from(pieces) {
                Ok([one]) => one,
                Err(many) => many
                    .into_iter()
                    .fold(BytesMut::new(), |mut joined, piece| {
                        joined.extend_from_slice(&piece);
                        joined
                    })
                    .freeze(),
            };
        }
        answered.push(message);
    }
    answered
}

/// Something to look at.
pub fn rich_output(output: &RichOutput) -> v1::RichOutput {
    let mut message = v1::RichOutput {
        representations: output.representations.iter().map(representation).collect(),
        display_id: output.display_id.clone(),
        metadata: match serde_json::from_str(&output.metadata) {
            Ok(serde_json::Value::Object(map)) => Some(json::to_struct(map)),
            _ => None,
        },
        ..Default::default()
    };
    message.set_kind(match output.kind {
        RichOutputKind::Value => v1::RichOutputKind::Value,
        RichOutputKind::Display => v1::RichOutputKind::Display,
    });
    message
}

fn representation(form: &Representation) -> v1::Representation {
    v1::Representation {
        mime_type: form.mime_type.clone(),
        content: form.content.as_ref().map(|content| match content {
            Content::Text(text) => v1::representation::Content::Text(text.clone()),
            Content::Data(data) => v1::representation::Content::Data(data.clone()),
        }),
        size_bytes: form.size_bytes,
    }
}

/// A file that a run made or changed, without its content.
pub fn output_file(file: &OutputFile) -> v1::OutputFile {
    v1::OutputFile {
        path: file.path.clone(),
        size_bytes: file.size_bytes,
        mode: file.mode,
        created: file.created,
        link_target: file.link_target.clone(),
        digest: file.digest.clone(),
        kept: file.kept,
        data: Bytes::new(),
        problem: file.problem.clone(),
    }
}

/// A stage.
pub fn stage(stage: Stage) -> v1::ExecutionStage {
    match stage {
        Stage::Compile => v1::ExecutionStage::Compile,
        Stage::Run => v1::ExecutionStage::Run,
    }
}

/// How a stage ended.
pub fn stage_result(result: &StageResult) -> v1::StageResult {
    let [stdout_offset, stderr_offset] = result.offsets;
    v1::StageResult {
        stage: stage(result.stage).into(),
        exit_code: result.exit_code,
        signal: result.signal.clone(),
        run_time: Some(super::duration(result.run_time)),
        stdout_offset,
        stderr_offset,
        diagnostics: result.diagnostics.clone(),
    }
}

/// A piece of a file.
pub fn file_chunk(chunk: &FileChunk) -> v1::OutputFileChunk {
    v1::OutputFileChunk {
        path: chunk.path.clone(),
        offset: chunk.offset,
        data: chunk.data.clone(),
        file: chunk.file.as_ref().map(output_file),
    }
}

/// A call of another tool, or its end.
pub fn child(event: &ChildEvent) -> v1::ChildExecutionEvent {
    v1::ChildExecutionEvent {
        execution_id: event.execution.map(|id| id.to_string()).unwrap_or_default(),
        tool: event.tool.clone(),
        state: event.state.map_or(v1::ExecutionState::Unspecified, super::execution::state).into(),
        message: event.message.clone(),
    }
}

/// The exception that ended a program.
pub fn exception(exception: &ExceptionInfo) -> v1::ExceptionInfo {
    let frame = |frame: &ExceptionFrame| v1::ExceptionFrame {
        file: frame.file.clone(),
        line: frame.line,
        column: frame.column,
        function: frame.function.clone(),
        source: frame.source.clone(),
    };
    v1::ExceptionInfo {
        type_name: exception.type_name.clone(),
        message: exception.message.clone(),
        traceback: exception.traceback.clone(),
        frames: exception.frames.iter().map(frame).collect(),
    }
}

/// A loss of live state that the session survived.
pub fn interruption(interruption: &Interruption) -> v1::SessionInterruption {
    let mut message = v1::SessionInterruption {
        time: Some(timestamp(interruption.time)),
        execution_id: interruption.execution.map(|id| id.to_string()).unwrap_or_default(),
        last_turn: interruption.last_turn,
        resumed_turn: interruption.resumed_turn,
        ..Default::default()
    };
    message.set_reason(match interruption.reason {
        InterruptionReason::TimedOut => v1::SessionInterruptionReason::TimedOut,
        InterruptionReason::Cancelled => v1::SessionInterruptionReason::Cancelled,
        InterruptionReason::Trapped => v1::SessionInterruptionReason::Trapped,
        InterruptionReason::OutOfMemory => v1::SessionInterruptionReason::OutOfMemory,
        InterruptionReason::ServerLost => v1::SessionInterruptionReason::ServerLost,
    });
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::execution::{Exit, Subject};
    use crate::domain::io::OutputSink;
    use crate::domain::limits::{Limits, LimitsPolicy};
    use crate::execution::{Begun, Ended, Lane, NoObserver, Registry, RegistryConfig, Start};
    use crate::store::Store;

    fn form(mime_type: &str, size: usize) -> Representation {
        let content = Content::Data(vec![7; size].into());
        Representation { mime_type: mime_type.into(), size_bytes: content.size(), content: Some(content) }
    }

    fn shown(kind: RichOutputKind, display_id: &str, size: usize) -> RichOutput {
        RichOutput {
            kind,
            representations: vec![form("image/png", size)],
            display_id: display_id.into(),
            metadata: r#"{"image/png":{"width":640}}"#.into(),
        }
    }

    async fn run(guest: impl FnOnce(&Live) -> Ended + Send) -> Arc<Live> {
        let store = Arc::new(Store::in_memory().unwrap());
        let registry = Registry::open(store, RegistryConfig::default(), Arc::new(NoObserver)).await.unwrap();
        let start = Start {
            id: None,
            subject: Subject::Tool { name: "t".into(), version: "".into(), digest: "".into() },
            principal: "p".into(),
            request: None,
            labels: Default::default(),
            limits: Limits { output_bytes: 64 << 20, ..LimitsPolicy::default().defaults },
            stdin: Default::default(),
            stdin_given: Default::default(),
            stdin_open: false,
            session: None,
            parent: None,
            target: "".into(),
            lane: Lane::new("t", 1),
        };
        let Begun::New(run) = registry.begin(start).await.unwrap() else { panic!("it is new") };
        run.drive(|live| async move { guest(&live) }).await.unwrap()
    }

    #[tokio::test]
    async fn an_answer_has_the_value_the_displays_and_the_files_as_far_as_they_fit() {
        let live = run(|live| {
            live.rich(shown(RichOutputKind::Display, "", 1 << 20));
            live.rich(shown(RichOutputKind::Display, "bar", 10));
            live.rich(shown(RichOutputKind::Display, "bar", 20));
            live.rich(shown(RichOutputKind::Value, "", 1 << 20));
            let mut ended = Ended::new(Exit::Exited { code: 0 }, "");
            for (path, sizes) in [("b", vec![600 << 10, 600 << 10]), ("a", vec![300 << 10, 100]), ("empty", vec![0])] {
                let (mut offset, last) = (0, sizes.len() - 1);
                let size_bytes = sizes.iter().sum::<usize>() as u64;
                let file = OutputFile { path: path.into(), size_bytes, kept: true, ..OutputFile::default() };
                for (at, size) in sizes.into_iter().enumerate() {
                    let (path, data) = (path.to_owned(), vec![1; size].into());
                    live.file(FileChunk { path, offset, data, file: (at == last).then(|| file.clone()) });
                    offset += size as u64;
                }
                ended.files.push(file);
            }
            ended.files.push(OutputFile { path: "big".into(), problem: "too large".into(), ..OutputFile::default() });
            ended
        })
        .await;
        let left = left(&live);
        assert_eq!(left.value.unwrap().representations[0].size_bytes, 1 << 20);
        let sizes: Vec<u64> = left.rich_outputs.iter().map(|output| output.representations[0].size_bytes).collect();
        assert_eq!(sizes, [1 << 20, 20], "what has the same display id replaces what was there");
        assert!(left.rich_outputs[0].metadata.as_ref().unwrap().fields.contains_key("image/png"));
        let files: Vec<(&str, usize, u64)> =
            left.files.iter().map(|file| (file.path.as_str(), file.data.len(), file.size_bytes)).collect();
        // "b" does not fit the 3 MiB, and comes without its content.
        assert_eq!(files, [("a", (300 << 10) + 100, (300 << 10) + 100), ("b", 0, 1200 << 10), ("empty", 0, 0)]);
        assert_eq!(live.execution().outcome.unwrap().files.len(), 4);
    }
}
