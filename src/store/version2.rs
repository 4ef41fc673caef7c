//! What version 2 of the blobs held: read, never written. A run had no stages then.

use crate::domain::event::{Event, EventKind, LogLevel, OutputStream, Progress, Truncated};
use crate::domain::execution::{ExecutionState, Exit, Outcome, Subject, Usage};
use crate::domain::id::{ExecutionId, SessionId};
use crate::domain::interruption::Interruption;
use crate::domain::limits::Limits;
use crate::domain::output::{ChildEvent, ExceptionInfo, FileChunk, OutputFile, RichOutput};
use crate::domain::time::Timestamp;
use serde::Deserialize;
#[cfg(test)]
use serde::Serialize;
use std::sync::Arc;

/// What of a record is not in columns.
#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
pub(super) struct Detail {
    pub(super) subject: Subject,
    pub(super) limits: Limits,
    pub(super) outcome: Option<OldOutcome>,
    pub(super) session: Option<SessionId>,
    pub(super) session_turn: u64,
    pub(super) parent: Option<ExecutionId>,
    pub(super) target: String,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
pub(super) struct OldOutcome {
    exit: Exit,
    message: String,
    usage: Usage,
    exception: Option<ExceptionInfo>,
    files: Vec<OutputFile>,
    unlisted_files: u64,
    session_interruption: Option<Interruption>,
}

impl From<OldOutcome> for Outcome {
    fn from(old: OldOutcome) -> Self {
        let OldOutcome { exit, message, usage, exception, files, unlisted_files, session_interruption } = old;
        let stages = Vec::new();
        Outcome { exit, message, usage, exception, files, unlisted_files, stages, session_interruption }
    }
}

/// An event of a journal.
#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
pub(super) struct OldEvent {
    sequence: u64,
    time: Timestamp,
    kind: OldKind,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
enum OldKind {
    Started { pid: i32 },
    Output { stream: OutputStream, offset: u64, data: bytes::Bytes },
    Log { level: LogLevel, message: Arc<str> },
    Progress(Arc<Progress>),
    Truncated(Truncated),
    Finished { state: ExecutionState, outcome: Box<OldOutcome> },
    RichOutput(Arc<RichOutput>),
    Child(Arc<ChildEvent>),
    FileChunk(Arc<FileChunk>),
}

impl From<OldEvent> for Event {
    fn from(OldEvent { sequence, time, kind }: OldEvent) -> Self {
        let kind = match kind {
            OldKind::Started { pid } => EventKind::Started { pid },
            OldKind::Output { stream, offset, data } => EventKind::Output { stream, offset, data },
            OldKind::Log { level, message } => EventKind::Log { level, message },
            OldKind::Progress(progress) => EventKind::Progress(progress),
            OldKind::Truncated(gap) => EventKind::Truncated(gap),
            OldKind::Finished { state, outcome } => {
                EventKind::Finished { state, outcome: Arc::new(Outcome::from(*outcome)) }
            }
            OldKind::RichOutput(output) => EventKind::RichOutput(output),
            OldKind::Child(child) => EventKind::Child(child),
            OldKind::FileChunk(chunk) => EventKind::FileChunk(chunk),
        };
        Event { sequence, time, kind }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::journal;

    #[test]
    fn events_of_the_build_before_are_read() {
        let outcome = || OldOutcome {
            exit: Exit::Exited { code: 3 },
            message: "no".into(),
            usage: Usage { stdout_bytes: 4, ..Usage::default() },
            exception: Some(ExceptionInfo { type_name: "E".into(), ..ExceptionInfo::default() }),
            files: vec![OutputFile { path: "a".into(), ..OutputFile::default() }],
            unlisted_files: 2,
            session_interruption: None,
        };
        let event = |sequence, kind| OldEvent { sequence, time: Timestamp(sequence), kind };
        let end = OldKind::Finished { state: ExecutionState::Failed, outcome: Box::new(outcome()) };
        let output = OldKind::Output { stream: OutputStream::Stderr, offset: 0, data: "x".into() };
        let old = vec![event(1, OldKind::Started { pid: 7 }), event(2, output), event(3, end)];
        let blob = postcard::to_extend(&old, vec![2]).unwrap();
        let read = journal::decode(&blob).unwrap();
        assert_eq!(read.len(), 3);
        let EventKind::Finished { state: ExecutionState::Failed, outcome: found } = &read[2].kind else {
            panic!("the end is {:?}", read[2])
        };
        assert_eq!(**found, Outcome::from(outcome()));
        assert_eq!((found.unlisted_files, found.stages.len()), (2, 0));
    }
}
