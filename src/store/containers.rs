//! The table of containers, and the name of this installation. Plain functions on a connection: callers bring the
//! transaction.

use crate::domain::container::{ContainerOrigin, ContainerStatus};
use crate::domain::id::ContainerId;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

/// Form of the records; one of another form is refused.
const FORM: u8 = 1;

/// What the store knows of a container: all that is needed to find it again, and to go on making or ending it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// What was known from the start.
    pub origin: ContainerOrigin,
    /// How it stood when this was written.
    pub status: ContainerStatus,
}

#[derive(Serialize)]
struct RecordRef<'a> {
    origin: &'a ContainerOrigin,
    status: &'a ContainerStatus,
}

/// Records a container, or brings its record up to date.
pub fn put(db: &Connection, origin: &ContainerOrigin, status: &ContainerStatus) -> rusqlite::Result<()> {
    let blob = super::record::encode(FORM, &RecordRef { origin, status })?;
    db.prepare_cached(
        "INSERT INTO containers (id, ended, record, crc) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (id) DO UPDATE SET ended = ?2, record = ?3, crc = ?4",
    )?
    .execute(params![
        origin.id.as_bytes(),
        status.ended.map(|time| i64::try_from(time.0).unwrap_or(i64::MAX)),
        blob,
        crc32fast::hash(&blob),
    ])?;
    Ok(())
}

/// All containers, oldest first. One whose record is damaged is told by its id instead.
pub fn all(db: &Connection) -> rusqlite::Result<Vec<Result<ContainerRecord, ContainerId>>> {
    let mut rows = db.prepare("SELECT id, record, crc FROM containers ORDER BY id")?;
    let rows = rows.query_map([], |row| {
        let (id, blob, crc): ([u8; 16], Vec<u8>, u32) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(super::record::decode(FORM, &blob, crc).map_err(|_| ContainerId::from_bytes(id)))
    })?;
    rows.collect()
}

/// Forgets a container.
pub fn delete(db: &Connection, id: ContainerId) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM containers WHERE id = ?1")?.execute([id.as_bytes()])?;
    Ok(())
}

/// The name of this installation: `fresh` where there is none yet.
pub fn installation(db: &Connection, fresh: &str) -> rusqlite::Result<String> {
    let known = db.query_row("SELECT id FROM installation", [], |row| row.get(0)).optional()?;
    if let Some(known) = known {
        return Ok(known);
    }
    db.execute("INSERT INTO installation (id) VALUES (?1)", [fresh])?;
    Ok(fresh.to_owned())
}
