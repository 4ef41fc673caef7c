//! The form of events in the database: one version byte, then the events in postcard's format.

use super::{version1, version2};
use crate::domain::event::{Event, EventKind};
use serde::de::DeserializeOwned;

const VERSION: u8 = 3;

/// Larger sequences and offsets are damage: the store counts in 64 bits with a sign, and readers add to them.
const MAX_COUNT: u64 = 1 << 62;

/// Events as bytes.
pub fn encode(events: &[Event]) -> rusqlite::Result<Vec<u8>> {
    let size = events.iter().map(|event| event.kind.weight() as usize).sum::<usize>() + 16;
    let mut bytes = Vec::with_capacity(size);
    bytes.push(VERSION);
    postcard::to_extend(events, bytes).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// The events of those bytes. Bytes that are no journal are refused as a whole: whoever reads one relies on rising
/// sequences and on offsets that can be added to.
pub fn decode(bytes: &[u8]) -> rusqlite::Result<Vec<Event>> {
    let damaged = |why: String| {
        rusqlite::Error::FromSqlConversionFailure(
            0,
            rusqlite::types::Type::Blob,
            format!("damaged journal: {why}").into(),
        )
    };
    let events = match bytes.split_first() {
        Some((&VERSION, bytes)) => all::<Event>(bytes),
        Some((2, bytes)) => all::<version2::OldEvent>(bytes).map(|old| old.into_iter().map(Event::from).collect()),
        Some((1, bytes)) => all::<version1::OldEvent>(bytes).map(|old| old.into_iter().map(Event::from).collect()),
        Some((version, _)) => Err(format!("unknown version {version}")),
        None => Err("it is empty".into()),
    };
    let events: Vec<Event> = events.map_err(damaged)?;
    match events.iter().try_fold(0, follow) {
        Ok(_) => Ok(events),
        Err(problem) => Err(damaged(problem)),
    }
}

/// All that the bytes hold, and nothing but that.
fn all<T: DeserializeOwned>(bytes: &[u8]) -> Result<Vec<T>, String> {
    let (events, rest) = postcard::take_from_bytes::<Vec<T>>(bytes).map_err(|error| error.to_string())?;
    match rest.len() {
        0 => Ok(events),
        more => Err(format!("{more} bytes follow its last event")),
    }
}

/// The sequence of an event that comes after the one with sequence `last`.
fn follow(last: u64, event: &Event) -> Result<u64, String> {
    if event.sequence <= last || event.sequence > MAX_COUNT {
        return Err(format!("an event has sequence {} after {last}", event.sequence));
    }
    match &event.kind {
        EventKind::Output { offset, .. } if *offset > MAX_COUNT => Err(format!("output at offset {offset}")),
        EventKind::FileChunk(chunk) if chunk.offset > MAX_COUNT => {
            Err(format!("a piece of a file at offset {}", chunk.offset))
        }
        _ => Ok(event.sequence),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{EventKind, LogLevel, OutputStream, Truncated};
    use crate::domain::execution::{Exit, Outcome, Usage};
    use crate::domain::id::ExecutionId;
    use crate::domain::interruption::{Interruption, InterruptionReason};
    use crate::domain::output::{
        ChildEvent, Content, ExceptionInfo, FileChunk, OutputFile, Representation, RichOutput, RichOutputKind, Stage,
        StageResult,
    };
    use crate::domain::time::Timestamp;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn events_come_back_as_they_were() {
        let outcome = Outcome {
            exception: Some(ExceptionInfo { type_name: "E".into(), ..ExceptionInfo::default() }),
            files: vec![OutputFile { path: "a".into(), ..OutputFile::default() }],
            unlisted_files: 3,
            stages: vec![StageResult {
                stage: Stage::Compile,
                exit_code: 1,
                signal: String::new(),
                run_time: Duration::from_millis(5),
                offsets: [1, 2],
                diagnostics: "no".into(),
            }],
            session_interruption: Some(Interruption {
                reason: InterruptionReason::Trapped,
                time: Timestamp(9),
                execution: None,
                last_turn: 4,
                resumed_turn: 2,
            }),
            ..Outcome::new(Exit::Exited { code: 3 }, "no", Usage::default())
        };
        let kinds = [
            EventKind::RichOutput(Arc::new(RichOutput {
                kind: RichOutputKind::Value,
                representations: vec![Representation {
                    mime_type: "image/png".into(),
                    content: Some(Content::Data(bytes::Bytes::from_static(b"\x89PNG"))),
                    size_bytes: 4,
                }],
                display_id: String::new(),
                metadata: "{}".into(),
            })),
            EventKind::Child(Arc::new(ChildEvent {
                execution: Some(ExecutionId::new()),
                tool: "t".into(),
                state: Some(outcome.exit.state()),
                message: String::new(),
            })),
            EventKind::FileChunk(Arc::new(FileChunk {
                path: "a".into(),
                offset: 0,
                data: bytes::Bytes::from_static(b"x"),
                file: Some(OutputFile { path: "a".into(), kept: true, ..OutputFile::default() }),
            })),
            EventKind::Started { pid: 0 },
            EventKind::Output { stream: OutputStream::Stderr, offset: 7, data: bytes::Bytes::from_static(b"\xff\x00") },
            EventKind::Log { level: LogLevel::Warn, message: "hm".into() },
            EventKind::Stage(Stage::Run),
            EventKind::Truncated(Truncated { first_sequence: 4, stdout_offset: 9, stderr_offset: 1 }),
            EventKind::Finished { state: outcome.exit.state(), outcome: outcome.into() },
        ];
        let events: Vec<Event> = kinds
            .into_iter()
            .zip(1..)
            .map(|(kind, sequence)| Event { sequence, time: Timestamp(sequence * 1000), kind })
            .collect();
        assert_eq!(decode(&encode(&events).unwrap()).unwrap(), events);
    }

    #[test]
    fn damage_is_an_error() {
        assert!(decode(&[]).is_err());
        assert!(decode(&[9, 0]).is_err());
        assert!(decode(&[VERSION, 200, 1]).is_err());
        let output = |sequence, offset| Event {
            sequence,
            time: Timestamp(1),
            kind: EventKind::Output { stream: OutputStream::Stdout, offset, data: bytes::Bytes::from_static(b"x") },
        };
        let good = encode(&[output(1, 0), output(2, 1)]).unwrap();
        assert!(decode(&good).is_ok());
        assert!(decode(&[good.as_slice(), &[0]].concat()).is_err());
        for wrong in [[output(0, 0), output(1, 0)], [output(2, 0), output(2, 1)], [output(1, 0), output(2, u64::MAX)]] {
            assert!(decode(&encode(&wrong).unwrap()).is_err(), "{wrong:?}");
        }
    }
}
