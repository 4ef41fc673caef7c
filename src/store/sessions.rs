//! The table of sessions. Plain functions on a connection: callers bring the transaction.

use crate::domain::id::{ExecutionId, SessionId};
use crate::domain::interruption::Interruption;
use crate::domain::session::{Closure, Home, SessionOrigin};
use crate::domain::time::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

/// Form of the records; one of another form is refused.
const FORM: u8 = 2;
/// The form before kernels had homes: the same without its last field.
const FORM_WITHOUT_HOMES: u8 = 1;

/// What the store knows of a session: enough to go on from its checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// What was known from the start.
    pub origin: SessionOrigin,
    /// The last completed turn that is known of.
    pub turn: u64,
    /// When its last call was accepted or ended.
    pub last_active: Timestamp,
    /// Set as long as there is state beyond the checkpoint: a kill then loses some.
    pub unsaved: bool,
    /// The execution that ran when this was written.
    pub running: Option<ExecutionId>,
    /// The checkpoint.
    pub checkpoint: Option<CheckpointRecord>,
    /// The last interruption.
    pub interruption: Option<Interruption>,
    /// How it was closed; `None` while it is open.
    pub closure: Option<Closure>,
    /// Where its kernel lives, if not in the server.
    pub home: Option<Home>,
}

/// A checkpoint: the files that make it up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointRecord {
    /// The turn after which the state was frozen.
    pub turn: u64,
    /// When.
    pub time: Timestamp,
    /// A whole state, then what changed since, in order.
    pub files: Vec<FileRecord>,
}

/// One file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Its name in the session's directory.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 over all but its last 32 bytes.
    pub digest: [u8; 32],
    /// Whether it is a whole state.
    pub whole: bool,
}

impl CheckpointRecord {
    /// Bytes of all its files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// Records a session, or brings its record up to date.
pub fn put(db: &Connection, record: &SessionRecord) -> rusqlite::Result<()> {
    let blob = super::record::encode(FORM, record)?;
    db.prepare_cached(
        "INSERT INTO sessions (id, closed, record, crc) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (id) DO UPDATE SET closed = ?2, record = ?3, crc = ?4",
    )?
    .execute(params![
        record.origin.id.as_bytes(),
        record.closure.as_ref().map(|closure| i64::try_from(closure.time.0).unwrap_or(i64::MAX)),
        blob,
        crc32fast::hash(&blob),
    ])?;
    Ok(())
}

/// All sessions, oldest first. One whose record is damaged is told by its id instead.
pub fn all(db: &Connection) -> rusqlite::Result<Vec<Result<SessionRecord, SessionId>>> {
    let mut rows = db.prepare("SELECT id, record, crc FROM sessions ORDER BY id")?;
    let rows = rows.query_map([], |row| {
        let (id, blob, crc): ([u8; 16], Vec<u8>, u32) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(decode(&blob, crc).map_err(|_| SessionId::from_bytes(id)))
    })?;
    rows.collect()
}

fn decode(blob: &[u8], crc: u32) -> rusqlite::Result<SessionRecord> {
    let mut record: SessionRecord = match blob.first() {
        Some(&FORM_WITHOUT_HOMES) if crc32fast::hash(blob) == crc => {
            // Nothing, where there is something now.
            let whole = [&[FORM], &blob[1..], &[0]].concat();
            super::record::decode(FORM, &whole, crc32fast::hash(&whole))?
        }
        _ => super::record::decode(FORM, blob, crc)?,
    };
    record.origin.home.clone_from(&record.home);
    Ok(record)
}

/// Forgets a session.
pub fn delete(db: &Connection, id: SessionId) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM sessions WHERE id = ?1")?.execute([id.as_bytes()])?;
    Ok(())
}

/// For errors of decoding.
pub(super) const RECORD_COLUMN: (usize, Type) = (1, Type::Blob);
