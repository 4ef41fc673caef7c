//! The table of pools. Plain functions on a connection: callers bring the transaction.

use crate::domain::container::{ContainerOrigin, ContainerStatus};
use crate::domain::id::RequestId;
use crate::domain::loan::Belonging;
use crate::domain::pool::{PoolOrigin, PoolSettings, PoolTotals};
use crate::domain::time::Timestamp;
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

/// Form of the records; one of another form is refused.
const FORM: u8 = 2;
/// The form before containers could start from snapshots.
const FORM_WITHOUT_SNAPSHOTS: u8 = 1;
/// Form of the totals.
const TOTALS_FORM: u8 = 1;

/// What the store knows of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolRecord {
    /// What was known from the start.
    pub origin: PoolOrigin,
    /// What its owner can change.
    pub settings: PoolSettings,
    /// What its containers are, as those who make them wrote it.
    pub specification: Vec<u8>,
    /// Counts the specifications it had.
    pub generation: u64,
    /// When its owner last changed it.
    pub updated: Timestamp,
    /// Changes with each of those changes.
    pub etag: String,
    /// The request id of the last change.
    pub changed_by: Option<RequestId>,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// Records a pool, or brings its record up to date. Its totals stay.
pub fn put(db: &Connection, record: &PoolRecord) -> rusqlite::Result<()> {
    let blob = super::record::encode(FORM, record)?;
    let none = super::record::encode(TOTALS_FORM, &PoolTotals::default())?;
    db.prepare_cached(
        "INSERT INTO pools (name, record, crc, leases, totals, totals_crc) VALUES (?1, ?2, ?3, 0, ?4, ?5)
         ON CONFLICT (name) DO UPDATE SET record = ?2, crc = ?3",
    )?
    .execute(params![record.origin.name, blob, crc32fast::hash(&blob), none, crc32fast::hash(&none)])?;
    Ok(())
}

/// Records a container that was just lent, and counts the lease: both or neither.
pub fn lent(
    db: &Connection,
    origin: &ContainerOrigin,
    status: &ContainerStatus,
    home: Option<&Belonging>,
) -> rusqlite::Result<()> {
    super::containers::put(db, origin, status, home)?;
    if let Some(home) = home {
        db.prepare_cached("UPDATE pools SET leases = leases + 1 WHERE name = ?1")?.execute([&home.pool])?;
    }
    Ok(())
}

/// Brings the totals of a pool up to date, all but its leases; nothing for one that is gone.
pub fn put_totals(db: &Connection, name: &str, totals: &PoolTotals) -> rusqlite::Result<()> {
    let blob = super::record::encode(TOTALS_FORM, totals)?;
    db.prepare_cached("UPDATE pools SET totals = ?2, totals_crc = ?3 WHERE name = ?1")?.execute(params![
        name,
        blob,
        crc32fast::hash(&blob)
    ])?;
    Ok(())
}

/// All pools by name. One whose record is damaged is told by its name instead; totals that are begin anew.
pub fn all(db: &Connection) -> rusqlite::Result<Vec<Result<(PoolRecord, PoolTotals), String>>> {
    let mut rows = db.prepare("SELECT name, record, crc, totals, totals_crc, leases FROM pools ORDER BY name")?;
    let rows = rows.query_map([], |row| {
        let (name, blob, totals): (String, Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(3)?);
        let totals: PoolTotals = super::record::decode(TOTALS_FORM, &totals, row.get(4)?).unwrap_or_default();
        let leases: i64 = row.get(5)?;
        let totals = PoolTotals { leases: u64::try_from(leases).unwrap_or_default(), ..totals };
        Ok(decode(&blob, row.get(2)?).map(|record| (record, totals)).map_err(|_| name))
    })?;
    rows.collect()
}

fn decode(blob: &[u8], crc: u32) -> rusqlite::Result<PoolRecord> {
    if blob.first() != Some(&FORM_WITHOUT_SNAPSHOTS) {
        return super::record::decode(FORM, blob, crc);
    }
    let mut record: PoolRecord = super::record::decode(FORM_WITHOUT_SNAPSHOTS, blob, crc)?;
    // A specification ended before the snapshot that it names and its health check: an empty text, and none.
    record.specification.extend([0, 0]);
    Ok(record)
}

/// Forgets a pool.
pub fn delete(db: &Connection, name: &str) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM pools WHERE name = ?1")?.execute([name])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::Wish;

    #[test]
    fn specifications_from_before_there_were_snapshots_are_read() {
        let wish = Wish { image: "a".into(), stop_signal: "SIGINT".into(), ..Wish::default() };
        let mut specification = postcard::to_allocvec(&wish).unwrap();
        // The snapshot is behind all others.
        assert_eq!(specification.pop(), Some(0));
        let origin = PoolOrigin { name: "warm".into(), principal: "p".into(), request_id: None, created: Timestamp(1) };
        let record = PoolRecord {
            origin,
            settings: PoolSettings::default(),
            specification,
            generation: 1,
            updated: Timestamp(1),
            etag: "e".into(),
            changed_by: None,
            deleting: false,
        };
        let old = crate::store::record::encode(FORM_WITHOUT_SNAPSHOTS, &record).unwrap();
        let read = decode(&old, crc32fast::hash(&old)).unwrap();
        assert_eq!(postcard::from_bytes::<Wish>(&read.specification).unwrap(), wish);
        let new = PoolRecord { specification: postcard::to_allocvec(&wish).unwrap(), ..record };
        let kept = crate::store::record::encode(FORM, &new).unwrap();
        assert_eq!(decode(&kept, crc32fast::hash(&kept)).unwrap(), new);
    }
}
