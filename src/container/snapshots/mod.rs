//! Snapshots of containers: the root file system as an image of the backend's, the workspace as an archive in a file.
//!
//! ```text
//! make     from a container to a snapshot
//! start    from a snapshot to a container
//! archive  the file of a workspace
//! sweep    what a killed server left, and images that belong to no snapshot
//! ```

mod archive;
mod make;
mod start;
mod sweep;

pub use make::NewSnapshot;
pub(in crate::container) use start::Source;

use super::manager::{Containers, Viewer};
use crate::domain::id::{ContainerId, RequestId, SnapshotId};
use crate::domain::snapshot::{ContainerSnapshot, ContainerSnapshotStanding, SnapshotState};
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::store::container_snapshots::{self as table, ContainerSnapshotRecord};
use crate::store::shelf::{Shelf, SnapshotKind};
use crate::store::{Store, snapshots};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The snapshots of containers.
pub(super) struct Snapshots {
    by_name: Mutex<BTreeMap<String, Held>>,
    shelf: Arc<Shelf>,
    /// Where the archives are.
    directory: PathBuf,
    /// Containers that a killed server may have left frozen for a snapshot.
    frozen: HashSet<ContainerId>,
}

#[derive(Clone)]
struct Held {
    snapshot: Arc<ContainerSnapshot>,
    making: bool,
    /// What came of the first look at its archive.
    check: Arc<tokio::sync::Mutex<Option<std::result::Result<(), String>>>>,
    damage: Arc<Mutex<Option<String>>>,
}

/// What a listing selects; empty fields select everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotSelection {
    /// Any of these states.
    pub states: Vec<SnapshotState>,
    /// Name begins so.
    pub name_prefix: String,
    /// All of these labels.
    pub labels: BTreeMap<String, String>,
    /// Of this container.
    pub container: Option<ContainerId>,
}

/// What a server that died left half made.
pub(super) struct Leftover {
    snapshot: SnapshotId,
    container: ContainerId,
}

impl Snapshots {
    /// The snapshots that are recorded. Files that belong to none of them are removed; what else there is of those that
    /// were being made is for [`Containers::clear`].
    pub(super) async fn open(
        store: &Arc<Store>,
        shelf: Arc<Shelf>,
        directory: PathBuf,
    ) -> Result<(Snapshots, Vec<Leftover>)> {
        let (mut by_name, mut left, mut frozen) = (BTreeMap::new(), Vec::new(), HashSet::new());
        for found in store.read(table::all).await? {
            match found {
                Ok(ContainerSnapshotRecord { snapshot, making: None }) => {
                    by_name.insert(snapshot.name.clone(), Held::new(snapshot, false));
                }
                Ok(ContainerSnapshotRecord { snapshot, making: Some(making) }) => {
                    if making.froze {
                        frozen.insert(snapshot.container);
                    }
                    left.push(Leftover { snapshot: snapshot.id, container: snapshot.container });
                }
                Err((id, name)) => {
                    tracing::error!(snapshot = %id, name, "the record of a snapshot is damaged; the snapshot is forgotten");
                    store.write(move |db| snapshots::delete(db, id)).await?;
                }
            }
        }
        let ids: Vec<SnapshotId> = left.iter().map(|leftover| leftover.snapshot).collect();
        if !ids.is_empty() {
            store.write(move |db| table::free_names(db, &ids)).await?;
        }
        let known: HashSet<SnapshotId> = by_name.values().map(|held: &Held| held.snapshot.id).collect();
        archive::prepare(&directory, &known).map_err(|error| Error::StoreUnavailable {
            problem: format!("the directory of snapshots {} cannot be used: {error}", directory.display()),
        })?;
        Ok((Snapshots { by_name: Mutex::new(by_name), shelf, directory, frozen }, left))
    }

    /// Whether a killed server may have left a container frozen for a snapshot.
    pub(super) fn froze(&self, container: ContainerId) -> bool {
        self.frozen.contains(&container)
    }

    fn find(&self, name: &str) -> Option<Held> {
        let by_name = self.by_name.lock();
        if let Some(held) = by_name.get(name) {
            return Some(held.clone());
        }
        let id: SnapshotId = name.parse().ok()?;
        by_name.values().find(|held| held.snapshot.id == id).cloned()
    }

    fn of_id(&self, id: SnapshotId) -> Option<Held> {
        self.by_name.lock().values().find(|held| held.snapshot.id == id).cloned()
    }

    /// The snapshot that a request made.
    fn of_request(&self, viewer: &Viewer, request_id: RequestId) -> Option<Held> {
        let by_name = self.by_name.lock();
        let made = |held: &&Held| {
            held.snapshot.request_id == Some(request_id) && held.snapshot.principal == viewer.name && !held.making
        };
        by_name.values().find(made).cloned()
    }

    fn put(&self, snapshot: ContainerSnapshot, making: bool) -> Held {
        let held = Held::new(snapshot, making);
        self.by_name.lock().insert(held.snapshot.name.clone(), held.clone());
        held
    }
}

impl Held {
    fn new(snapshot: ContainerSnapshot, making: bool) -> Held {
        Held { snapshot: Arc::new(snapshot), making, check: Arc::default(), damage: Arc::default() }
    }

    /// Whether it is there for somebody: for its owner, and for whoever administers.
    fn is_for(&self, viewer: &Viewer) -> bool {
        viewer.administers || self.snapshot.principal == viewer.name
    }

    fn unusable(&self, problem: impl Into<String>) -> Error {
        Error::SnapshotUnusable { name: self.snapshot.name.clone(), problem: problem.into() }
    }
}

impl SnapshotSelection {
    fn selects(&self, snapshot: &ContainerSnapshot) -> bool {
        snapshot.name.starts_with(&self.name_prefix)
            && self.container.is_none_or(|container| snapshot.container == container)
            && self.labels.iter().all(|(key, value)| snapshot.labels.get(key) == Some(value))
    }
}

impl Containers {
    /// Snapshots that a selection names, by name, from the one after `after`.
    pub async fn list_snapshots(
        &self,
        selection: &SnapshotSelection,
        viewer: &Viewer,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<ContainerSnapshotStanding> {
        let mut found: Vec<Held> = self.snapshots.by_name.lock().values().cloned().collect();
        found.retain(|held| {
            let snapshot = &held.snapshot;
            held.is_for(viewer) && after.is_none_or(|after| *snapshot.name > *after) && selection.selects(snapshot)
        });
        if found.is_empty() {
            return Vec::new();
        }
        let images = self.snapshot_images().await;
        let standings = found.iter().map(|held| self.standing(held, &images));
        let wanted =
            |found: &ContainerSnapshotStanding| selection.states.is_empty() || selection.states.contains(&found.state);
        standings.filter(wanted).take(limit).collect()
    }

    /// One snapshot, by id or name.
    pub async fn get_snapshot(&self, name: &str, viewer: &Viewer) -> Result<ContainerSnapshotStanding> {
        let held = self.snapshot_for(name, viewer)?;
        Ok(self.standing(&held, &self.snapshot_images().await))
    }

    /// Deletes a snapshot, by id or name. `needed` tells what else needs it still, in words that follow "is needed by".
    pub async fn delete_snapshot(
        &self,
        name: &str,
        viewer: &Viewer,
        request_id: Option<RequestId>,
        needed: impl Fn(&ContainerSnapshot) -> Option<String>,
    ) -> Result<()> {
        let Some(request_id) = request_id else { return self.remove_snapshot(name, viewer, needed).await };
        // As the other kind has it: a retry may come when nobody knows any more of which kind it was.
        let fingerprint = Sha256::digest(name.as_bytes()).into();
        let remove = async |again: bool| match self.remove_snapshot(name, viewer, needed).await {
            // The first try removed it before it was cut off.
            Err(Error::SnapshotNotFound { .. }) if again => Ok(()),
            done => done,
        };
        self.once(viewer, (request_id, "DeleteSnapshot", fingerprint), remove).await.map(drop)
    }

    async fn remove_snapshot(
        &self,
        name: &str,
        viewer: &Viewer,
        needed: impl Fn(&ContainerSnapshot) -> Option<String>,
    ) -> Result<()> {
        let held = self.snapshot_for(name, viewer)?;
        let id = held.snapshot.id;
        if held.making {
            return Err(held.unusable("is still being made; wait for it, then delete it"));
        }
        {
            // Whoever starts from it looks for it once more when its container is known.
            let mut by_name = self.snapshots.by_name.lock();
            if let Some(what) = self.container_of(id).or_else(|| needed(&held.snapshot)) {
                return Err(held.unusable(format!("is needed by {what}; end or change that first, then delete it")));
            }
            by_name.remove(&held.snapshot.name);
        }
        if let Err(error) = self.store.write(move |db| snapshots::delete(db, id)).await {
            self.snapshots.by_name.lock().insert(held.snapshot.name.clone(), held);
            return Err(error);
        }
        self.snapshots.shelf.remove(&held.snapshot.name, held.snapshot.size_bytes());
        self.drop_content(id).await;
        tracing::info!(snapshot = %held.snapshot.name, "a snapshot was deleted");
        Ok(())
    }

    /// Removes image and archive. What cannot be removed now is no snapshot's any more, and goes later.
    async fn drop_content(&self, id: SnapshotId) {
        archive::remove(&self.snapshots.directory, id);
        if let Err(error) = self.backend.remove_snapshot(id).await {
            tracing::warn!(snapshot = %id, %error, "the image of a snapshot could not be removed yet");
        }
    }

    /// A container that started from a snapshot and still needs its image.
    fn container_of(&self, id: SnapshotId) -> Option<String> {
        let needs = self.entries.iter().find(|entry| {
            entry.origin.snapshot == Some(id) && !(entry.state().is_over() && entry.backend_id().is_empty())
        });
        needs.map(|entry| format!("container {:?} ({})", entry.origin.name, entry.origin.id))
    }

    fn snapshot_for(&self, name: &str, viewer: &Viewer) -> Result<Held> {
        let found = self.snapshots.find(name).filter(|held| held.is_for(viewer));
        found.ok_or_else(|| match self.snapshots.shelf.kind(name) {
            Some(SnapshotKind::Interpreter) => Error::SnapshotUnusable {
                name: name.into(),
                problem: "holds the state of an interpreter; create a session from it (target.snapshot_id)".into(),
            },
            _ => Error::SnapshotNotFound { name: name.chars().take(80).collect() },
        })
    }

    /// Images of snapshots that the backend has, by id; or why that is not known.
    async fn snapshot_images(&self) -> std::result::Result<HashSet<String>, String> {
        self.facts()?;
        let found = tokio::time::timeout(LOOK, self.backend.snapshots(&self.installation)).await;
        let found = found.map_err(|_| format!("no answer within {LOOK:?}"))?.map_err(|error| error.to_string())?;
        Ok(found.into_iter().map(|image| image.id).collect())
    }

    /// The snapshot of each image that is one, as far as somebody may see it.
    pub(super) fn snapshots_by_image(&self, viewer: &Viewer) -> BTreeMap<String, SnapshotId> {
        let by_name = self.snapshots.by_name.lock();
        let visible = by_name.values().filter(|held| held.is_for(viewer) && !held.making);
        visible.map(|held| (held.snapshot.image_id.clone(), held.snapshot.id)).collect()
    }

    fn standing(
        &self,
        held: &Held,
        images: &std::result::Result<HashSet<String>, String>,
    ) -> ContainerSnapshotStanding {
        let snapshot = held.snapshot.clone();
        let damage = || held.damage.lock().clone().or_else(|| archive::fault(&self.snapshots.directory, &snapshot));
        let (state, problem) = if held.making {
            (SnapshotState::Creating, String::new())
        } else if let Some(why) = damage() {
            (SnapshotState::Damaged, format!("{why}; delete it"))
        } else {
            match images {
                Ok(images) if images.contains(&snapshot.image_id) => (SnapshotState::Ready, String::new()),
                Ok(_) => (SnapshotState::Foreign, format!("{NO_IMAGE}; delete it, or bring that backend back")),
                Err(why) => (SnapshotState::Foreign, format!("the container backend does not answer: {why}")),
            }
        };
        ContainerSnapshotStanding { snapshot, state, problem }
    }

    /// Something starts from a snapshot.
    fn note_use(&self, id: SnapshotId) {
        let now = Timestamp::now();
        // Behind: nobody waits for a time of use.
        drop(self.store.write(move |db| snapshots::used(db, id, now)));
        let mut by_name = self.snapshots.by_name.lock();
        if let Some(held) = by_name.values_mut().find(|held| held.snapshot.id == id) {
            Arc::make_mut(&mut held.snapshot).last_used = Some(now);
        }
    }
}

/// How long a listing waits for the backend.
const LOOK: Duration = Duration::from_secs(5);
/// What is said of a snapshot whose image is not there.
const NO_IMAGE: &str = "its image is not at the container backend";

#[cfg(test)]
mod tests {
    use super::*;

    fn held(name: &str) -> Held {
        let snapshot = ContainerSnapshot {
            id: SnapshotId::new(),
            name: name.into(),
            description: String::new(),
            labels: [("job".into(), "7".into())].into(),
            principal: "ada".into(),
            request_id: None,
            container: ContainerId::new(),
            image: "docker.io/library/a:1".into(),
            image_id: "sha256:0".into(),
            image_bytes: 0,
            total_bytes: 0,
            workspace: None,
            created: Timestamp(1),
            last_used: None,
        };
        Held::new(snapshot, false)
    }

    #[test]
    fn a_snapshot_is_its_owners_and_the_administrators() {
        let viewer = |name: &str, administers| Viewer { name: name.into(), administers };
        let held = held("box");
        assert!(held.is_for(&viewer("ada", false)) && held.is_for(&viewer("operator", true)));
        assert!(!held.is_for(&viewer("bob", false)));
    }

    #[test]
    fn a_selection_matches_all_that_is_set() {
        let snapshot = held("box-1").snapshot;
        let all = SnapshotSelection {
            name_prefix: "box".into(),
            labels: [("job".into(), "7".into())].into(),
            container: Some(snapshot.container),
            ..Default::default()
        };
        assert!(all.selects(&snapshot) && SnapshotSelection::default().selects(&snapshot));
        for other in [
            SnapshotSelection { name_prefix: "ox".into(), ..all.clone() },
            SnapshotSelection { labels: [("job".into(), "8".into())].into(), ..all.clone() },
            SnapshotSelection { container: Some(ContainerId::new()), ..all.clone() },
        ] {
            assert!(!other.selects(&snapshot), "{other:?}");
        }
    }
}
