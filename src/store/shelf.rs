//! Where snapshots stand, whatever they hold: their names, each given once, and the room that they take on disk. Those
//! who keep sessions and those who keep containers share it and know nothing of each other.

use super::{Store, container_snapshots, snapshots};
use crate::domain::id::SnapshotId;
use crate::error::{Error, Result};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Longest name.
const MAX_NAME: usize = 64;

/// What a snapshot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SnapshotKind {
    /// The memory of an interpreter.
    Interpreter,
    /// The file system of a container.
    Container,
}

/// The shelf.
pub struct Shelf {
    inner: Mutex<Inner>,
    max_bytes: u64,
    /// Names of the snapshots that come with the interpreters.
    built_in: Box<dyn Fn(&str) -> bool + Send + Sync>,
}

#[derive(Default)]
struct Inner {
    /// What has each name; none while it is being made.
    names: HashMap<String, Option<(SnapshotId, SnapshotKind)>>,
    used: u64,
}

/// A name that is being given; free again when dropped.
pub struct Reserved {
    shelf: Arc<Shelf>,
    name: String,
    kept: bool,
}

/// Room that is being taken; given back when dropped.
pub struct Claim {
    shelf: Arc<Shelf>,
    bytes: u64,
}

impl Shelf {
    /// The shelf with what the store has of either kind. What is still being made takes no room yet.
    pub async fn open(
        store: &Arc<Store>,
        max_bytes: u64,
        built_in: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Result<Arc<Shelf>> {
        let (interpreters, containers) =
            store.read(|db| Ok((snapshots::all(db)?, container_snapshots::all(db)?))).await?;
        let mut inner = Inner::default();
        for snapshot in interpreters.into_iter().flatten() {
            inner.used = inner.used.saturating_add(snapshot.size_bytes);
            inner.names.insert(snapshot.name, Some((snapshot.id, SnapshotKind::Interpreter)));
        }
        for record in containers.into_iter().flatten().filter(|record| record.making.is_none()) {
            let snapshot = record.snapshot;
            inner.used = inner.used.saturating_add(snapshot.size_bytes());
            inner.names.insert(snapshot.name, Some((snapshot.id, SnapshotKind::Container)));
        }
        Ok(Arc::new(Shelf { inner: Mutex::new(inner), max_bytes, built_in: Box::new(built_in) }))
    }

    /// Reserves a free name.
    pub fn reserve(self: &Arc<Self>, name: &str) -> Result<Reserved> {
        check_name("name", name)?;
        let mut inner = self.inner.lock();
        if (self.built_in)(name) || inner.names.contains_key(name) {
            return Err(Error::SnapshotExists { name: name.into() });
        }
        inner.names.insert(name.to_owned(), None);
        Ok(Reserved { shelf: self.clone(), name: name.to_owned(), kept: false })
    }

    /// What the snapshot of this id or name holds; none if there is none.
    pub fn kind(&self, name: &str) -> Option<SnapshotKind> {
        if (self.built_in)(name) {
            return Some(SnapshotKind::Interpreter);
        }
        let inner = self.inner.lock();
        if let Some(found) = inner.names.get(name) {
            return found.map(|(_, kind)| kind);
        }
        let id: SnapshotId = name.parse().ok()?;
        inner.names.values().flatten().find(|(known, _)| *known == id).map(|(_, kind)| *kind)
    }

    /// A snapshot is gone: its name and its room are free.
    pub fn remove(&self, name: &str, bytes: u64) {
        let mut inner = self.inner.lock();
        inner.names.remove(name);
        inner.used = inner.used.saturating_sub(bytes);
    }

    /// Begins to take room.
    pub fn claim(self: &Arc<Self>) -> Claim {
        Claim { shelf: self.clone(), bytes: 0 }
    }
}

impl Reserved {
    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A snapshot has it from now on.
    pub fn keep(mut self, id: SnapshotId, kind: SnapshotKind) {
        self.shelf.inner.lock().names.insert(self.name.clone(), Some((id, kind)));
        self.kept = true;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if !self.kept {
            self.shelf.inner.lock().names.remove(&self.name);
        }
    }
}

impl Claim {
    /// Takes so many bytes in all, more or fewer than before.
    pub fn resize(&mut self, bytes: u64) -> Result<()> {
        let mut inner = self.shelf.inner.lock();
        let others = inner.used.saturating_sub(self.bytes);
        let sum = others.saturating_add(bytes);
        if sum > self.shelf.max_bytes && bytes > self.bytes {
            return Err(Error::QuotaReached {
                what: format!("a snapshot of {bytes} bytes, with {others} bytes taken (sessions.max_snapshots)"),
                limit: self.shelf.max_bytes.to_string(),
                todo: "delete snapshots that are no longer needed, or have the operator raise the bound",
            });
        }
        inner.used = sum;
        self.bytes = bytes;
        Ok(())
    }

    /// Takes so many bytes more.
    pub fn grow(&mut self, bytes: u64) -> Result<()> {
        self.resize(self.bytes.saturating_add(bytes))
    }

    /// A snapshot has the room from now on.
    pub fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut inner = self.shelf.inner.lock();
        inner.used = inner.used.saturating_sub(self.bytes);
    }
}

/// Checks the name of a snapshot.
pub fn check_name(field: &str, name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'.');
    let good = (1..=MAX_NAME).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(plain);
    if good {
        return Ok(());
    }
    let rule = format!("expected 1 to {MAX_NAME} of a-z, 0-9, '_', '-' and '.', beginning with a letter");
    Err(Error::invalid(field, rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shelf(max_bytes: u64) -> Arc<Shelf> {
        let store = Arc::new(Store::in_memory().unwrap());
        Shelf::open(&store, max_bytes, |name| name == "python").await.unwrap()
    }

    #[tokio::test]
    async fn a_name_is_given_once_whatever_has_it() {
        let shelf = shelf(0).await;
        let id = SnapshotId::new();
        assert!(matches!(shelf.reserve("python"), Err(Error::SnapshotExists { .. })));
        assert!(matches!(shelf.reserve("Box"), Err(Error::InvalidArgument(_))));
        let name = shelf.reserve("box").unwrap();
        assert!(matches!(shelf.reserve("box"), Err(Error::SnapshotExists { .. })));
        assert_eq!(shelf.kind("box"), None);
        drop(name);
        shelf.reserve("box").unwrap().keep(id, SnapshotKind::Container);
        assert!(matches!(shelf.reserve("box"), Err(Error::SnapshotExists { .. })));
        assert_eq!(shelf.kind("box"), Some(SnapshotKind::Container));
        assert_eq!(shelf.kind(&id.to_string()), Some(SnapshotKind::Container));
        assert_eq!(shelf.kind("python"), Some(SnapshotKind::Interpreter));
        shelf.remove("box", 0);
        assert_eq!((shelf.kind("box"), shelf.kind(&id.to_string())), (None, None));
        assert!(shelf.reserve("box").is_ok());
    }

    #[tokio::test]
    async fn room_that_is_not_kept_is_given_back() {
        let shelf = shelf(100).await;
        let mut first = shelf.claim();
        first.resize(80).unwrap();
        let mut second = shelf.claim();
        assert!(matches!(second.grow(21), Err(Error::QuotaReached { .. })));
        second.grow(20).unwrap();
        assert!(second.grow(1).is_err());
        // Less than before is always possible.
        first.resize(70).unwrap();
        second.grow(10).unwrap();
        first.keep();
        drop(second);
        let mut third = shelf.claim();
        assert!(third.resize(31).is_err());
        third.resize(30).unwrap();
        drop(third);
        shelf.remove("gone", 70);
        shelf.claim().resize(100).unwrap();
    }
}
