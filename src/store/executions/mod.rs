//! The tables of executions. Plain functions on a connection: callers bring the transaction.

mod listing;
mod record;
mod recovery;
mod retention;

use super::journal;
use crate::domain::event::Event;
use crate::domain::execution::{Execution, Subject};
use crate::domain::id::{ExecutionId, RequestId, SessionId};
use crate::domain::time::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, params};

pub use listing::{Filter, list};
pub use recovery::{recover, said};
pub use retention::{Retention, enforce_retention};

use record::COLUMNS;

/// What a request id led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The execution that the first call with this id started.
    pub execution: ExecutionId,
    /// Fingerprint of that call.
    pub fingerprint: [u8; 32],
}

/// The events of a blob that is what was written.
fn checked_events(blob: &[u8], crc: Option<u32>) -> rusqlite::Result<Vec<Event>> {
    match crc {
        Some(crc) if crc != crc32fast::hash(blob) => {
            Err(record::damaged(0, Type::Blob, "its journal does not match its checksum".into()))
        }
        _ => journal::decode(blob),
    }
}

/// What rows that came and went change in the totals; written once by [`Tally::write`].
#[must_use = "the totals are wrong unless it is written"]
#[derive(Debug, Default)]
pub struct Tally {
    executions: i64,
    bytes: i64,
}

impl Tally {
    fn add(&mut self, bytes: i64) {
        self.executions += 1;
        self.bytes += bytes;
    }

    fn take(&mut self, bytes: i64) {
        self.executions -= 1;
        self.bytes -= bytes;
    }

    /// Brings the totals up to date. Belongs to the transaction that changed the rows.
    pub fn write(self, db: &Connection) -> rusqlite::Result<()> {
        let mut update = db.prepare_cached("UPDATE totals SET value = value + ?2 WHERE name = ?1")?;
        for (name, change) in [("executions", self.executions), ("execution_bytes", self.bytes)] {
            if change != 0 {
                update.execute(params![name, change])?;
            }
        }
        Ok(())
    }
}

/// Records an execution, or brings its record up to date. `journal` is given once it is over.
pub fn put(
    db: &Connection,
    execution: &Execution,
    fingerprint: Option<&[u8; 32]>,
    journal: Option<&[Event]>,
) -> rusqlite::Result<()> {
    let mut tally = Tally::default();
    put_counted(db, execution, fingerprint, journal, &mut tally)?;
    tally.write(db)
}

/// As [`put`], for one of many in a transaction: the caller writes the tally at its end.
pub fn put_counted(
    db: &Connection,
    execution: &Execution,
    fingerprint: Option<&[u8; 32]>,
    journal: Option<&[Event]>,
    tally: &mut Tally,
) -> rusqlite::Result<()> {
    let origin = &execution.origin;
    let detail = record::detail(execution)?;
    let journal = journal.map(journal::encode).transpose()?;
    let labels = if origin.labels.is_empty() {
        None
    } else {
        let text = serde_json::to_string(&origin.labels);
        Some(text.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?)
    };
    let (tool, container) = match &origin.subject {
        Subject::Tool { name, .. } => (Some(&**name), None),
        Subject::Process { container, .. } => (None, Some(&**container)),
    };
    /// What a row weighs beyond its blobs.
    const ROW: usize = 256;
    let bytes = ROW + detail.len() + journal.as_ref().map_or(0, Vec::len) + labels.as_ref().map_or(0, String::len);
    let bytes = bytes as i64;
    let id = origin.id.as_bytes();
    let (created, started, ended) = (time(origin.created), execution.started.map(time), execution.ended.map(time));
    let (sequence, stdin) = (integer(execution.last_sequence), integer(execution.stdin_offset));
    let numbers = [Some(created), started, ended, Some(sequence), Some(stdin)];
    let crc = record::crc(id, execution.state.name(), numbers, labels.as_deref(), &detail);
    let journal_crc = journal.as_deref().map(crc32fast::hash);
    let added = db
        .prepare_cached(
            "INSERT INTO executions (id, state, tool, container, principal, request_id, fingerprint, created, started,
                                     ended, sequence, stdin, labels, detail, journal, bytes, crc, journal_crc,
                                     session, parent)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)
             ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            id,
            execution.state.name(),
            tool,
            container,
            &*origin.principal,
            origin.request_id.as_ref().map(RequestId::as_bytes),
            fingerprint,
            created,
            started,
            ended,
            sequence,
            stdin,
            labels,
            detail,
            journal,
            bytes,
            crc,
            journal_crc,
            origin.session.as_ref().map(SessionId::as_bytes),
            origin.parent.as_ref().map(ExecutionId::as_bytes),
        ])?;
    if added > 0 {
        tally.add(bytes);
        return Ok(());
    }
    let before: i64 =
        db.prepare_cached("SELECT bytes FROM executions WHERE id = ?1")?.query_row([id], |row| row.get(0))?;
    db.prepare_cached(
        "UPDATE executions SET state = ?2, started = ?3, ended = ?4, sequence = ?5, stdin = ?6, detail = ?7,
                               journal = ?8, bytes = ?9, crc = ?10, journal_crc = ?11
         WHERE id = ?1",
    )?
    .execute(params![
        id,
        execution.state.name(),
        started,
        ended,
        sequence,
        stdin,
        detail,
        journal,
        bytes,
        crc,
        journal_crc,
    ])?;
    tally.bytes += bytes - before;
    Ok(())
}

/// What a principal's request id led to, if it was used before.
pub fn intent(db: &Connection, principal: &str, request_id: RequestId) -> rusqlite::Result<Option<Intent>> {
    db.prepare_cached("SELECT id, fingerprint FROM executions WHERE principal = ?1 AND request_id = ?2")?
        .query_row(params![principal, request_id.as_bytes()], |row| {
            Ok(Intent { execution: ExecutionId::from_bytes(row.get(0)?), fingerprint: row.get(1)? })
        })
        .optional()
}

/// Forgets an execution.
pub fn remove(db: &Connection, id: ExecutionId) -> rusqlite::Result<()> {
    let mut tally = Tally::default();
    delete(db, id.as_bytes(), &mut tally)?;
    tally.write(db)?;
    remove_chunks(db, id)
}

fn delete(db: &Connection, id: &[u8; 16], tally: &mut Tally) -> rusqlite::Result<()> {
    let bytes = db
        .prepare_cached("DELETE FROM executions WHERE id = ?1 RETURNING bytes")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    if let Some(bytes) = bytes {
        tally.take(bytes);
    }
    Ok(())
}

/// Adds to what a running execution has said.
pub fn add_chunk(db: &Connection, id: ExecutionId, events: &[Event]) -> rusqlite::Result<()> {
    let (Some(first), Some(last)) = (events.first(), events.last()) else { return Ok(()) };
    let blob = journal::encode(events)?;
    db.prepare_cached("INSERT OR REPLACE INTO journal_chunks VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(params![
        id.as_bytes(),
        integer(first.sequence),
        integer(last.sequence),
        blob,
        crc32fast::hash(&blob),
    ])?;
    Ok(())
}

/// Forgets chunks that end before a sequence, but for the first one: it holds the beginning.
pub fn trim_chunks(db: &Connection, id: ExecutionId, before: u64) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM journal_chunks WHERE execution = ?1 AND last_sequence < ?2 AND first_sequence > 1")?
        .execute(params![id.as_bytes(), integer(before)])?;
    Ok(())
}

/// Forgets what a running execution has said; its record now holds the whole journal.
pub fn remove_chunks(db: &Connection, id: ExecutionId) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM journal_chunks WHERE execution = ?1")?.execute([id.as_bytes()])?;
    Ok(())
}

/// One execution.
pub fn get(db: &Connection, id: ExecutionId) -> rusqlite::Result<Option<Execution>> {
    db.prepare_cached(&format!("SELECT {COLUMNS} FROM executions WHERE id = ?1"))?
        .query_row([id.as_bytes()], record::execution)
        .optional()
}

/// The journal of an execution that is over.
pub fn events(db: &Connection, id: ExecutionId) -> rusqlite::Result<Vec<Event>> {
    let found: Option<(Option<Vec<u8>>, Option<u32>)> = db
        .prepare_cached("SELECT journal, journal_crc FROM executions WHERE id = ?1")?
        .query_row([id.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match found {
        Some((Some(blob), crc)) => checked_events(&blob, crc),
        _ => Ok(Vec::new()),
    }
}

// SQLite's integers are signed; times and counts here never reach the sign bit.
fn time(time: Timestamp) -> i64 {
    integer(time.0)
}

fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn timestamp(value: i64) -> Timestamp {
    Timestamp(unsigned(value))
}

#[cfg(test)]
mod tests;
