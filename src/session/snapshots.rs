//! Snapshots: their names, files and rows, and whether something can start from each.

use super::checkpoint::make_directory;
use super::kernel::{Developed, Image, Kernels};
use super::manager::panicked;
use super::snapshot_draft::{BuiltIns, Draft, SnapshotSelection};
use super::snapshot_files::{digest_directory, flush};
use crate::domain::id::{RequestId, SnapshotId};
use crate::domain::snapshot::{Snapshot, SnapshotSource, SnapshotStanding, SnapshotState};
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::store::requests::{self, Mutation, Noted};
use crate::store::shelf::{Claim, Reserved, Shelf, SnapshotKind};
use crate::store::{Store, snapshots};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

/// Ends the name of a directory that is not complete yet.
const ASIDE: &str = ".part";

/// The snapshots of a server.
pub struct Snapshots {
    table: Mutex<Table>,
    /// Files of snapshots that may be deleted while something still runs on them.
    images: Mutex<HashMap<SnapshotId, Weak<Image>>>,
    store: Arc<Store>,
    root: PathBuf,
    shelf: Arc<Shelf>,
    kernels: Arc<HashMap<String, Arc<dyn Kernels>>>,
    built_ins: Arc<dyn BuiltIns>,
}

#[derive(Default)]
struct Table {
    by_name: BTreeMap<String, Held>,
}

#[derive(Clone)]
struct Held {
    snapshot: Arc<Snapshot>,
    image: Arc<Image>,
    check: Arc<tokio::sync::Mutex<Option<std::result::Result<(), String>>>>,
    damage: Arc<Mutex<Option<String>>>,
}

impl Snapshots {
    /// The snapshots below `root`. Files that belong to none of them, and to none of `in_use`, are removed.
    pub(super) async fn open(
        store: Arc<Store>,
        root: PathBuf,
        shelf: Arc<Shelf>,
        kernels: Arc<HashMap<String, Arc<dyn Kernels>>>,
        built_ins: Arc<dyn BuiltIns>,
        in_use: &HashSet<SnapshotId>,
    ) -> Result<Arc<Snapshots>> {
        let unusable = |error: io::Error| Error::StoreUnavailable {
            problem: format!("the directory of snapshots {} cannot be used: {error}", root.display()),
        };
        make_directory(&root).map_err(unusable)?;
        let mut table = Table::default();
        let mut images = HashMap::new();
        for found in store.read(snapshots::all).await? {
            match found {
                Ok(snapshot) => {
                    let image = Image::new(snapshot.id, root.join(snapshot.id.to_string()));
                    images.insert(snapshot.id, Arc::downgrade(&image));
                    let held = Held::new(snapshot, image, None);
                    table.by_name.insert(held.snapshot.name.clone(), held);
                }
                Err((id, name)) => {
                    tracing::error!(snapshot = %id, name, "the record of a snapshot is damaged; the snapshot is forgotten");
                    store.write(move |db| snapshots::delete(db, id)).await?;
                }
            }
        }
        for entry in fs::read_dir(&root).map_err(unusable)? {
            let entry = entry.map_err(unusable)?;
            let id = entry.file_name().to_str().and_then(|name| name.parse::<SnapshotId>().ok());
            if !id.is_some_and(|id| images.contains_key(&id) || in_use.contains(&id)) {
                let path = entry.path();
                if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }.map_err(unusable)?;
            }
        }
        let (table, images) = (Mutex::new(table), Mutex::new(images));
        Ok(Arc::new(Snapshots { table, images, store, root, shelf, kernels, built_ins }))
    }

    /// Snapshots that a selection names, by name, from the one after `after`.
    pub fn list(&self, selection: &SnapshotSelection, after: Option<&str>, limit: usize) -> Vec<SnapshotStanding> {
        let mut all = self.built_ins.snapshots();
        all.extend(self.table.lock().by_name.values().map(|held| self.standing(held)));
        all.sort_by(|a, b| a.snapshot.name.cmp(&b.snapshot.name));
        let wanted = |standing: &SnapshotStanding| {
            let snapshot = &standing.snapshot;
            after.is_none_or(|after| *snapshot.name > *after)
                && snapshot.name.starts_with(&selection.name_prefix)
                && (selection.states.is_empty() || selection.states.contains(&standing.state))
                && selection.tool.as_ref().is_none_or(|tool| *snapshot.tool == **tool)
                && selection.session.is_none_or(|session| snapshot.source == SnapshotSource::Session(session))
                && selection.labels.iter().all(|(key, value)| snapshot.labels.get(key) == Some(value))
        };
        all.into_iter().filter(wanted).take(limit).collect()
    }

    /// One snapshot, by id or name.
    pub fn get(&self, name: &str) -> Result<SnapshotStanding> {
        if let Some(held) = self.find(name) {
            return Ok(self.standing(&held));
        }
        let is =
            |standing: &SnapshotStanding| standing.snapshot.name == name || standing.snapshot.id.to_string() == name;
        self.built_ins.snapshots().into_iter().find(is).ok_or_else(|| match self.shelf.kind(name) {
            Some(SnapshotKind::Container) => Error::SnapshotUnusable {
                name: name.into(),
                problem: "holds the file system of a container; spawn a container from it (spec.snapshot_id)".into(),
            },
            _ => Error::SnapshotNotFound { name: name.into() },
        })
    }

    /// The shelf that snapshots of every kind stand on.
    pub fn shelf(&self) -> &Arc<Shelf> {
        &self.shelf
    }

    /// The files of a snapshot for something of `tool` to start from, checked against their digest; noted as used.
    pub async fn start_from(self: &Arc<Self>, name: &str, tool: &str) -> Result<Arc<Image>> {
        let standing = self.get(name)?;
        let snapshot = &standing.snapshot;
        let unusable = |problem: String| Error::SnapshotUnusable { name: name.into(), problem };
        if *snapshot.tool != *tool {
            return Err(unusable(format!("holds {:?}, not {tool:?}", snapshot.tool)));
        }
        if standing.state == SnapshotState::Foreign {
            return Err(unusable(format!("cannot be used: {}", standing.problem)));
        }
        let Some(held) = self.find(name) else {
            return Err(unusable("comes with the interpreter and is where everything starts; name no snapshot".into()));
        };
        self.verify(&held).await.map_err(|why| unusable(format!("cannot be used: {why}; delete it")))?;
        let (id, now) = (snapshot.id, Timestamp::now());
        // Behind: nobody waits for a time of use.
        drop(self.store.write(move |db| snapshots::used(db, id, now)));
        if let Some(held) = self.table.lock().by_name.get_mut(&snapshot.name) {
            Arc::make_mut(&mut held.snapshot).last_used = Some(now);
        }
        Ok(held.image)
    }

    /// Checks the content once; what was found good is not read again before the next start.
    async fn verify(&self, held: &Held) -> std::result::Result<(), String> {
        let mut check = held.check.lock().await;
        if let Some(known) = &*check {
            return known.clone();
        }
        let (directory, digest) = (held.image.directory().to_owned(), held.snapshot.digest);
        let read = tokio::task::spawn_blocking(move || digest_directory(&directory)).await;
        let found = match read {
            Ok(Ok((found, _))) if found == digest => Ok(()),
            Ok(Ok(_)) => Err("its content does not match its digest".to_owned()),
            Ok(Err(error)) => Err(format!("its content cannot be read: {error}")),
            Err(error) => Err(panicked(error).to_string()),
        };
        if let Err(why) = &found {
            tracing::error!(snapshot = %held.snapshot.name, problem = %why, "a snapshot is damaged");
            *held.damage.lock() = Some(why.clone());
        }
        *check = Some(found.clone());
        found
    }

    /// Reserves a free name.
    pub fn reserve(self: &Arc<Self>, name: &str) -> Result<Reserved> {
        self.shelf.reserve(name)
    }

    /// Makes a snapshot of the files that `write` puts into a directory: whole and durable, or not at all.
    pub async fn add(
        self: &Arc<Self>,
        name: Reserved,
        draft: Draft,
        write: impl FnOnce(&Path) -> Result<Developed> + Send + 'static,
    ) -> Result<SnapshotStanding> {
        let id = SnapshotId::new();
        let (aside, path) = (self.root.join(format!("{id}{ASIDE}")), self.root.join(id.to_string()));
        let room = self.clone();
        let written = tokio::task::spawn_blocking(move || {
            let written = room.write(&aside, &path, write);
            if written.is_err() {
                // Whatever is left of them, the next start removes.
                let _ = fs::remove_dir_all(&aside);
                let _ = fs::remove_dir_all(&path);
            }
            written
        });
        let (digest, size_bytes, developed, claim) = written.await.map_err(panicked)??;
        let snapshot = Snapshot {
            id,
            name: name.name().to_owned(),
            description: draft.description,
            labels: draft.labels,
            principal: draft.principal,
            request_id: draft.request_id,
            source: draft.source,
            tool: draft.tool,
            turn: draft.turn,
            runtime: draft.runtime,
            digest,
            size_bytes,
            total_bytes: developed.total_bytes,
            created: Timestamp::now(),
            last_used: None,
        };
        let image = Image::new(id, self.root.join(id.to_string()));
        let row = snapshot.clone();
        if let Err(error) = self.store.write(move |db| snapshots::insert(db, &row)).await {
            image.doom();
            return Err(error);
        }
        self.images.lock().insert(id, Arc::downgrade(&image));
        let held = Held::new(snapshot, image, Some(Ok(())));
        self.table.lock().by_name.insert(name.name().to_owned(), held.clone());
        tracing::info!(snapshot = name.name(), bytes = size_bytes, "a snapshot was made");
        name.keep(id, SnapshotKind::Interpreter);
        claim.keep();
        Ok(self.standing(&held))
    }

    fn write(
        &self,
        aside: &Path,
        path: &Path,
        write: impl FnOnce(&Path) -> Result<Developed>,
    ) -> Result<([u8; 32], u64, Developed, Claim)> {
        let failed = |error: io::Error| Error::StoreUnavailable {
            problem: format!("the files of a snapshot cannot be written to {}: {error}", self.root.display()),
        };
        make_directory(aside).map_err(failed)?;
        let developed = write(aside)?;
        flush(aside).map_err(failed)?;
        let (digest, size) = digest_directory(aside).map_err(failed)?;
        let mut claim = self.shelf.claim();
        claim.resize(size)?;
        let moved = fs::rename(aside, path).and_then(|()| fs::File::open(&self.root)?.sync_all());
        moved.map_err(failed)?;
        Ok((digest, size, developed, claim))
    }

    /// Deletes a snapshot, by id or name. What started from it keeps its files until it ends.
    pub async fn delete(&self, name: &str, request: Option<(Arc<str>, RequestId)>) -> Result<()> {
        let Some((principal, request_id)) = request else { return self.remove(name).await };
        let fingerprint = Sha256::digest(name.as_bytes()).into();
        let mutation = Mutation { principal: principal.clone(), request_id, method: "DeleteSnapshot", fingerprint };
        let again = match self.store.write(move |db| requests::note(db, &mutation, Timestamp::now())).await? {
            Noted::Done => return Ok(()),
            Noted::Reused { method } => {
                return Err(Error::RequestIdReused { request_id, first: format!("a call of {method}") });
            }
            Noted::New => false,
            Noted::Unfinished => true,
        };
        match self.remove(name).await {
            // The first try removed it before it was cut off.
            Err(Error::SnapshotNotFound { .. }) if again => {}
            Err(error) => {
                self.store.write(move |db| requests::forget(db, &principal, request_id)).await?;
                return Err(error);
            }
            Ok(()) => {}
        }
        self.store.write(move |db| requests::finish(db, &principal, request_id)).await
    }

    async fn remove(&self, name: &str) -> Result<()> {
        let Some(held) = self.find(name) else {
            // An error if there is none at all.
            self.get(name)?;
            let problem = "comes with the interpreter and cannot be deleted".into();
            return Err(Error::SnapshotUnusable { name: name.into(), problem });
        };
        let id = held.snapshot.id;
        self.store.write(move |db| snapshots::delete(db, id)).await?;
        self.table.lock().by_name.remove(&held.snapshot.name);
        held.image.doom();
        self.shelf.remove(&held.snapshot.name, held.snapshot.size_bytes);
        tracing::info!(snapshot = %held.snapshot.name, "a snapshot was deleted");
        Ok(())
    }

    /// The files that a session started from, also when the snapshot was deleted since.
    pub(super) fn held(&self, id: SnapshotId) -> Arc<Image> {
        let mut images = self.images.lock();
        if let Some(image) = images.get(&id).and_then(Weak::upgrade) {
            return image;
        }
        let image = Image::new(id, self.root.join(id.to_string()));
        // No snapshot has it: it goes with the last session.
        image.doom();
        images.insert(id, Arc::downgrade(&image));
        image
    }

    /// The snapshot that a request made.
    pub(super) fn of_request(&self, principal: &Arc<str>, request_id: RequestId) -> Option<SnapshotStanding> {
        let table = self.table.lock();
        let made = |held: &&Held| held.snapshot.request_id == Some(request_id) && held.snapshot.principal == *principal;
        table.by_name.values().find(made).map(|held| self.standing(held))
    }

    fn find(&self, name: &str) -> Option<Held> {
        let table = self.table.lock();
        if let Some(held) = table.by_name.get(name) {
            return Some(held.clone());
        }
        let id: SnapshotId = name.parse().ok()?;
        table.by_name.values().find(|held| held.snapshot.id == id).cloned()
    }

    fn standing(&self, held: &Held) -> SnapshotStanding {
        let snapshot = held.snapshot.clone();
        let ours = self.kernels.get(&*snapshot.tool).is_some_and(|kernels| kernels.fingerprint() == snapshot.runtime);
        let (state, problem) = match &*held.damage.lock() {
            Some(why) => (SnapshotState::Damaged, format!("{why}; delete it")),
            None if ours => (SnapshotState::Ready, String::new()),
            None => {
                let problem = format!("it belongs to another build of {}; delete it and make it anew", snapshot.tool);
                (SnapshotState::Foreign, problem)
            }
        };
        SnapshotStanding { snapshot, state, problem }
    }
}

impl Held {
    fn new(snapshot: Snapshot, image: Arc<Image>, check: Option<std::result::Result<(), String>>) -> Held {
        let check = Arc::new(tokio::sync::Mutex::new(check));
        Held { snapshot: Arc::new(snapshot), image, check, damage: Arc::default() }
    }
}
