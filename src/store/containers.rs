//! The table of containers, and the name of this installation. Plain functions on a connection: callers bring the
//! transaction.

use super::containers_before::OriginBefore;
use crate::domain::container::{ContainerOrigin, ContainerStatus};
use crate::domain::id::ContainerId;
use crate::domain::loan::Belonging;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

/// Form of the records; one of another form is refused.
const FORM: u8 = 3;
/// The form before containers could start from snapshots.
const FORM_WITHOUT_SNAPSHOTS: u8 = 2;
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
    let (origin, status, belonging): (OriginBefore, _, _) = match blob.first() {
        Some(&FORM_WITHOUT_POOLS) => {
            let (origin, status) = super::record::decode(FORM_WITHOUT_POOLS, blob, crc)?;
            (origin, status, None)
        }
        Some(&FORM_WITHOUT_SNAPSHOTS) => super::record::decode(FORM_WITHOUT_SNAPSHOTS, blob, crc)?,
        _ => return super::record::decode(FORM, blob, crc),
    };
    Ok(ContainerRecord { origin: origin.into(), status, belonging })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::{ContainerPolicy, Wish};
    use crate::domain::container::{ContainerState, Control};
    use crate::domain::id::{ExecutionId, LeaseId};
    use crate::domain::image::ImageRule;
    use crate::domain::loan::Loan;
    use crate::domain::time::Timestamp;
    use std::time::Duration;

    fn sample() -> ContainerRecord {
        let policy = ContainerPolicy { images: vec![ImageRule::parse("a").unwrap()], ..Default::default() };
        let spec = policy.resolve(Wish { image: "a".into(), ..Default::default() }, "c").unwrap();
        let origin = ContainerOrigin {
            id: ContainerId::new(),
            name: "c".into(),
            spec,
            image_id: "sha256:0".into(),
            snapshot: None,
            health_check: None,
            main: vec!["x".into()],
            main_execution: ExecutionId::new(),
            stop_signal: 15,
            environment: Default::default(),
            principal: "p".into(),
            request_id: None,
            fingerprint: None,
            created: Timestamp(1),
        };
        let status = ContainerStatus {
            state: ContainerState::Running,
            problem: String::new(),
            backend_id: "b".into(),
            started: Some(Timestamp(2)),
            ended: None,
            last_active: Timestamp(3),
            end: None,
            ending: None,
            control: Control::Unknown,
        };
        ContainerRecord { origin, status, belonging: None }
    }

    #[test]
    fn records_of_earlier_builds_are_read() {
        let record = sample();
        let origin = OriginBefore::from(record.origin.clone());
        let home = Belonging { pool: "warm".into(), pool_created: Timestamp(1), generation: 1, loan: None };
        let lent = ContainerRecord { belonging: Some(home.clone()), ..record.clone() };
        let encode = crate::store::record::encode::<(&OriginBefore, &ContainerStatus, Option<&Belonging>)>;
        let first = crate::store::record::encode(FORM_WITHOUT_POOLS, &(&origin, &record.status)).unwrap();
        let second = encode(FORM_WITHOUT_SNAPSHOTS, &(&origin, &record.status, Some(&home))).unwrap();
        for (old, expected) in [(first, record), (second, lent)] {
            assert_eq!(decode(&old, crc32fast::hash(&old)).unwrap(), expected);
            assert!(decode(&old, 0).is_err());
        }
    }

    #[tokio::test]
    async fn a_loan_is_recorded_and_counted_together() {
        let store = std::sync::Arc::new(crate::store::Store::in_memory().unwrap());
        let pool = crate::store::pools::PoolRecord {
            origin: crate::domain::pool::PoolOrigin {
                name: "warm".into(),
                principal: "p".into(),
                request_id: None,
                created: Timestamp(1),
            },
            settings: Default::default(),
            specification: vec![1],
            generation: 1,
            updated: Timestamp(1),
            etag: "e".into(),
            changed_by: None,
            deleting: false,
        };
        let loan = Loan {
            lease: LeaseId::new(),
            principal: "q".into(),
            labels: Default::default(),
            request_id: None,
            fingerprint: None,
            created: Timestamp(4),
            expires: Timestamp(5),
            waited: Duration::ZERO,
        };
        let mut record = sample();
        let home = Belonging { pool: "warm".into(), pool_created: Timestamp(1), generation: 1, loan: Some(loan) };
        record.belonging = Some(home);
        let (kept, first) = (pool.clone(), record.clone());
        store.write(move |db| crate::store::pools::put(db, &kept)).await.unwrap();
        let home = first.belonging.clone();
        let lent = move |db: &Connection| crate::store::pools::lent(db, &first.origin, &first.status, home.as_ref());
        store.write(lent).await.unwrap();
        assert_eq!(store.read(all).await.unwrap(), [Ok(record)]);
        let found = store.read(crate::store::pools::all).await.unwrap().remove(0).unwrap();
        assert_eq!((found.0, found.1.leases), (pool, 1));
    }
}
