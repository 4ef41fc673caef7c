//! The snapshots of containers, in the table of all snapshots. Plain functions on a connection: callers bring the
//! transaction.

use crate::domain::id::SnapshotId;
use crate::domain::snapshot::ContainerSnapshot;
use crate::domain::time::Timestamp;
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

/// Form of the records; one of another form is refused.
const FORM: u8 = 1;
/// Tells these rows from those of interpreters.
const KIND: &str = "container";

/// What the store knows of a snapshot of a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerSnapshotRecord {
    /// The snapshot, as far as it is known.
    pub snapshot: ContainerSnapshot,
    /// Set while it is being made: whoever finds it so after a start removes what there is of it.
    pub making: Option<Making>,
}

/// How far the making of a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Making {
    /// Whether the container's processes are, or may be, frozen for it: whoever removes it sees to it that they go on.
    pub froze: bool,
}

/// Records a snapshot, or brings its record up to date. Its name must be free.
pub fn put(db: &Connection, record: &ContainerSnapshotRecord) -> rusqlite::Result<()> {
    let blob = super::record::encode(FORM, record)?;
    db.prepare_cached(
        "INSERT INTO snapshots (id, name, kind, record, crc) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (id) DO UPDATE SET record = ?4, crc = ?5",
    )?
    .execute(params![record.snapshot.id.as_bytes(), record.snapshot.name, KIND, blob, crc32fast::hash(&blob)])?;
    Ok(())
}

/// All of them by name. One whose record is damaged is told by its id and name instead.
pub fn all(db: &Connection) -> rusqlite::Result<Vec<Result<ContainerSnapshotRecord, (SnapshotId, String)>>> {
    let mut rows = db.prepare("SELECT id, name, record, crc, used FROM snapshots WHERE kind = ?1 ORDER BY name")?;
    let rows = rows.query_map([KIND], |row| {
        let (id, name, blob): ([u8; 16], String, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let used: Option<i64> = row.get(4)?;
        let last_used = used.map(|time| Timestamp(u64::try_from(time).unwrap_or(0)));
        Ok(super::record::decode::<ContainerSnapshotRecord>(FORM, &blob, row.get(3)?)
            .map(|record| ContainerSnapshotRecord {
                snapshot: ContainerSnapshot { last_used, ..record.snapshot },
                ..record
            })
            .map_err(|_| (SnapshotId::from_bytes(id), name)))
    })?;
    rows.collect()
}

/// Frees the names of those that were being made when a server died; their rows stay until what there is of them is
/// removed.
pub fn free_names(db: &Connection, ids: &[SnapshotId]) -> rusqlite::Result<()> {
    // No snapshot can have an id as its name: that begins with a digit.
    let mut statement = db.prepare_cached("UPDATE snapshots SET name = ?2 WHERE id = ?1")?;
    for id in ids {
        statement.execute(params![id.as_bytes(), id.to_string()])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::ContainerId;
    use crate::domain::snapshot::FrozenWorkspace;
    use crate::store::{Store, snapshots};
    use std::sync::Arc;

    fn record(name: &str) -> ContainerSnapshotRecord {
        let workspace = FrozenWorkspace { digest: [7; 32], archive_bytes: 2048, content_bytes: 3 };
        let snapshot = ContainerSnapshot {
            id: SnapshotId::new(),
            name: name.into(),
            description: "d".into(),
            labels: [("a".into(), "b".into())].into(),
            principal: "p".into(),
            request_id: None,
            container: ContainerId::new(),
            image: "docker.io/library/a:1".into(),
            image_id: "sha256:0".into(),
            image_bytes: 5,
            total_bytes: 9,
            workspace: Some(workspace),
            created: Timestamp(1),
            last_used: None,
        };
        ContainerSnapshotRecord { snapshot, making: Some(Making { froze: true }) }
    }

    #[tokio::test]
    async fn both_kinds_share_names_and_nothing_else() {
        let store = Arc::new(Store::in_memory().unwrap());
        let (first, second) = (record("box"), record("box"));
        let id = first.snapshot.id;
        let kept = first.clone();
        store.write(move |db| put(db, &kept)).await.unwrap();
        assert!(store.write(move |db| put(db, &second)).await.is_err());
        let done = ContainerSnapshotRecord { making: None, ..first };
        let kept = done.clone();
        store.write(move |db| put(db, &kept)).await.unwrap();
        store.write(move |db| snapshots::used(db, id, Timestamp(4))).await.unwrap();
        let expected = ContainerSnapshot { last_used: Some(Timestamp(4)), ..done.snapshot.clone() };
        let found = store.read(all).await.unwrap();
        assert_eq!(found, [Ok(ContainerSnapshotRecord { snapshot: expected, making: None })]);
        assert!(store.read(snapshots::all).await.unwrap().is_empty());
        // The name of one that was cut off is for another.
        store.write(move |db| free_names(db, &[id])).await.unwrap();
        let second = record("box");
        store.write(move |db| put(db, &second)).await.unwrap();
        store.write(move |db| snapshots::delete(db, id)).await.unwrap();
        assert_eq!(store.read(all).await.unwrap().len(), 1);
    }
}
