//! What becomes of executions that a killed server left unfinished.

use super::record::{COLUMNS, execution};
use super::{checked_events, put, remove_chunks};
use crate::domain::event::{Event, EventKind, Truncated};
use crate::domain::execution::{Execution, ExecutionState, Exit, Outcome, Usage};
use crate::domain::id::ExecutionId;
use crate::domain::time::Timestamp;
use rusqlite::Connection;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// How many events a run may have delivered that a crash took before they were flushed.
pub(super) const UNKNOWN_EVENTS: u64 = 1 << 32;

/// What an unfinished execution had said, as far as the store was told, in order. Numbers can be missing.
pub fn said(db: &Connection, id: ExecutionId) -> rusqlite::Result<Vec<Event>> {
    let mut events = Vec::new();
    let mut chunks =
        db.prepare_cached("SELECT events, crc FROM journal_chunks WHERE execution = ?1 ORDER BY first_sequence")?;
    for chunk in chunks.query_map([id.as_bytes()], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get(1)?)))? {
        let (blob, crc) = chunk?;
        match checked_events(&blob, crc) {
            // The end counts once its record says so, and comes again if that was not written.
            Ok(chunk) => {
                events.extend(chunk.into_iter().filter(|event| !matches!(event.kind, EventKind::Finished { .. })))
            }
            // A gap in what one run said is no reason to refuse all others.
            Err(error) => {
                tracing::error!(execution = %id, %error, "a piece of what it said is damaged and left out");
            }
        }
    }
    Ok(events)
}

/// Turns executions that a killed server left unfinished into lost ones, with what they had said; but not those that
/// are `alive` without it.
pub fn recover(db: &Connection, now: Timestamp, alive: &HashSet<ExecutionId>) -> rusqlite::Result<u64> {
    let mut unfinished: Vec<Execution> = db
        .prepare(&format!("SELECT {COLUMNS} FROM executions WHERE ended IS NULL"))?
        .query_map([], execution)?
        .collect::<rusqlite::Result<_>>()?;
    unfinished.retain(|execution| !alive.contains(&execution.origin.id));
    for mut lost in unfinished.iter().cloned() {
        let id = lost.origin.id;
        let events = said(db, id)?;
        let mut written = [0u64; 2];
        for event in &events {
            if let EventKind::Output { stream, offset, data } = &event.kind {
                written[*stream as usize] = offset + data.len() as u64;
            }
        }
        let mut events = fill_gaps(events, written);
        // Readers may have seen events that were not flushed. Their numbers are never used again: a gap
        // stands for them, wider than any run could have filled.
        let flushed = events.last().map_or(0, |event| event.sequence);
        let last = flushed + UNKNOWN_EVENTS;
        let gap = Truncated { first_sequence: flushed + 1, stdout_offset: written[0], stderr_offset: written[1] };
        let usage = Usage {
            run_time: lost.started.map_or(Duration::ZERO, |started| {
                events.last().map_or(Duration::ZERO, |event| event.time.since(started))
            }),
            stdout_bytes: written[0],
            stderr_bytes: written[1],
            ..Usage::default()
        };
        let message = "the server died while this ran; what it had written by then is kept, and it was not run again";
        let outcome = Arc::new(Outcome::new(Exit::ServerLost, message, usage));
        lost.state = ExecutionState::Lost;
        lost.ended = Some(now);
        lost.last_sequence = last + 1;
        lost.outcome = Some(outcome.clone());
        let state = lost.state;
        events.push(Event { sequence: last, time: now, kind: EventKind::Truncated(gap) });
        events.push(Event { sequence: last + 1, time: now, kind: EventKind::Finished { state, outcome } });
        put(db, &lost, None, Some(&events))?;
        remove_chunks(db, id)?;
    }
    Ok(unfinished.len() as u64)
}

/// Puts a `Truncated` event wherever sequences are missing between flushed chunks.
fn fill_gaps(events: Vec<Event>, written: [u64; 2]) -> Vec<Event> {
    let mut filled = Vec::with_capacity(events.len() + 1);
    // Backwards, so that the offsets after a gap are known when it is met.
    let mut offsets = written;
    let mut later: Option<(u64, Timestamp)> = None;
    for event in events.into_iter().rev() {
        if let Some((sequence, time)) = later
            && event.sequence + 1 < sequence
        {
            let kind = EventKind::Truncated(Truncated {
                first_sequence: event.sequence + 1,
                stdout_offset: offsets[0],
                stderr_offset: offsets[1],
            });
            filled.push(Event { sequence: sequence - 1, time, kind });
        }
        if let EventKind::Output { stream, offset, .. } = &event.kind {
            offsets[*stream as usize] = *offset;
        }
        later = Some((event.sequence, event.time));
        filled.push(event);
    }
    filled.reverse();
    filled
}
