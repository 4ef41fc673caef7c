//! The form of events in the database: one version byte, then the events in postcard's format.

use crate::domain::event::Event;

const VERSION: u8 = 1;

/// Events as bytes.
pub fn encode(events: &[Event]) -> rusqlite::Result<Vec<u8>> {
    let size = events.iter().map(|event| event.kind.weight() as usize).sum::<usize>() + 16;
    let mut bytes = Vec::with_capacity(size);
    bytes.push(VERSION);
    postcard::to_extend(events, bytes).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// The events of those bytes.
pub fn decode(bytes: &[u8]) -> rusqlite::Result<Vec<Event>> {
    let damaged = |why: String| {
        rusqlite::Error::FromSqlConversionFailure(
            0,
            rusqlite::types::Type::Blob,
            format!("damaged journal: {why}").into(),
        )
    };
    match bytes.split_first() {
        Some((&VERSION, events)) => postcard::from_bytes(events).map_err(|error| damaged(error.to_string())),
        Some((version, _)) => Err(damaged(format!("unknown version {version}"))),
        None => Err(damaged("it is empty".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{EventKind, LogLevel, OutputStream, Truncated};
    use crate::domain::execution::{Exit, Outcome, Usage};
    use crate::domain::time::Timestamp;

    #[test]
    fn events_come_back_as_they_were() {
        let outcome = Outcome { exit: Exit::Exited { code: 3 }, message: "no".into(), usage: Usage::default() };
        let kinds = [
            EventKind::Started { pid: 0 },
            EventKind::Output { stream: OutputStream::Stderr, offset: 7, data: bytes::Bytes::from_static(b"\xff\x00") },
            EventKind::Log { level: LogLevel::Warn, message: "hm".into() },
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
    }
}
