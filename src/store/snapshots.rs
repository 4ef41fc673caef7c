//! The table of snapshots, and in it those of interpreters. Plain functions on a connection: callers bring the
//! transaction.

use crate::domain::id::SnapshotId;
use crate::domain::snapshot::Snapshot;
use crate::domain::time::Timestamp;
use rusqlite::{Connection, params};

/// Form of the records; one of another form is refused.
const FORM: u8 = 1;

/// Records a snapshot of an interpreter. Its name must be free.
pub fn insert(db: &Connection, snapshot: &Snapshot) -> rusqlite::Result<()> {
    let blob = super::record::encode(FORM, snapshot)?;
    db.prepare_cached("INSERT INTO snapshots (id, name, record, crc) VALUES (?1, ?2, ?3, ?4)")?.execute(params![
        snapshot.id.as_bytes(),
        snapshot.name,
        blob,
        crc32fast::hash(&blob)
    ])?;
    Ok(())
}

/// All snapshots of interpreters by name. One whose record is damaged is told by its id and name instead.
pub fn all(db: &Connection) -> rusqlite::Result<Vec<Result<Snapshot, (SnapshotId, String)>>> {
    let mut rows =
        db.prepare("SELECT id, name, record, crc, used FROM snapshots WHERE kind = 'interpreter' ORDER BY name")?;
    let rows = rows.query_map([], |row| {
        let (id, name, blob): ([u8; 16], String, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let used: Option<i64> = row.get(4)?;
        let last_used = used.map(|time| Timestamp(u64::try_from(time).unwrap_or(0)));
        Ok(super::record::decode(FORM, &blob, row.get(3)?)
            .map(|snapshot| Snapshot { last_used, ..snapshot })
            .map_err(|_| (SnapshotId::from_bytes(id), name)))
    })?;
    rows.collect()
}

/// Notes that something started from a snapshot of either kind.
pub fn used(db: &Connection, id: SnapshotId, time: Timestamp) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE snapshots SET used = ?2 WHERE id = ?1")?
        .execute(params![id.as_bytes(), i64::try_from(time.0).unwrap_or(i64::MAX)])?;
    Ok(())
}

/// Forgets a snapshot of either kind.
pub fn delete(db: &Connection, id: SnapshotId) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM snapshots WHERE id = ?1")?.execute([id.as_bytes()])?;
    Ok(())
}
