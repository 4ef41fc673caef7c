//! The table of containers, and the name of this installation. Plain functions on a connection: callers bring the
//! transaction.

use crate::domain::container::{Belonging, ContainerOrigin, ContainerStatus};
use crate::domain::id::ContainerId;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

/// Form of the records; one of another form is refused.
const FORM: u8 = 2;
/// The form before there were pools: origin and status.
const FORM_WITHOUT_POOLS: u8 = 1;

/// What the store knows of a container: all that is needed to find it again, and to go on making or ending it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// What was known from the start.
    pub origin: ContainerOrigin,
    /// How it stood when this was written.
    pub status: ContainerStatus,
    /// The pool it was made for.
    pub belonging: Option<Belonging>,
}

#[derive(Serialize)]
struct RecordRef<'a> {
    origin: &'a ContainerOrigin,
    status: &'a ContainerStatus,
    belonging: Option<&'a Belonging>,
}

/// Records a container, or brings its record up to date.
pub fn put(
    db: &Connection,
    origin: &ContainerOrigin,
    status: &ContainerStatus,
    belonging: Option<&Belonging>,
) -> rusqlite::Result<()> {
    let blob = super::record::encode(FORM, &RecordRef { origin, status, belonging })?;
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
        Ok(decode(&blob, crc).map_err(|_| ContainerId::from_bytes(id)))
    })?;
    rows.collect()
}

fn decode(blob: &[u8], crc: u32) -> rusqlite::Result<ContainerRecord> {
    if blob.first() != Some(&FORM_WITHOUT_POOLS) {
        return super::record::decode(FORM, blob, crc);
    }
    let (origin, status) = super::record::decode(FORM_WITHOUT_POOLS, blob, crc)?;
    Ok(ContainerRecord { origin, status, belonging: None })
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
