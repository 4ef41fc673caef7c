//! From a container to a snapshot. The intent is recorded before the backend is asked for anything; whatever fails leaves
//! nothing.

use super::Held;
use super::archive::Writing;
use crate::container::backend::{BackendError, Mark};
use crate::container::entry::{Entry, Way};
use crate::container::files::{ArchiveDownload, ArchivePart};
use crate::container::manager::{Containers, Viewer, backend_error};
use crate::domain::container::ContainerState;
use crate::domain::file::FileFault;
use crate::domain::id::{RequestId, SnapshotId};
use crate::domain::snapshot::{ContainerSnapshot, ContainerSnapshotStanding, FrozenWorkspace, SnapshotState};
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::store::container_snapshots::{self as table, ContainerSnapshotRecord, Making};
use crate::store::shelf::{Claim, SnapshotKind};
use crate::store::snapshots;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How often a workspace is packed anew whose files become shorter while they are read.
const TRIES: usize = 3;

/// A snapshot to make of a container.
#[derive(Clone, Debug)]
pub struct NewSnapshot {
    /// Id or name of the container.
    pub container: String,
    /// Name of the snapshot.
    pub name: String,
    /// What it holds, for people.
    pub description: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether processes go on while the root file system is frozen.
    pub keep_running: bool,
    /// Whether the workspace is left out.
    pub exclude_workspace: bool,
    /// Who asks.
    pub viewer: Viewer,
    /// The request id, and a fingerprint of what is asked.
    pub request: Option<(RequestId, [u8; 32])>,
}

impl Containers {
    /// Makes a snapshot of a container. Goes on without whoever asked for it.
    pub async fn snapshot(&self, wanted: NewSnapshot) -> Result<ContainerSnapshotStanding> {
        let this = self.share()?;
        let made = tokio::spawn(async move { this.make_once(wanted).await }).await;
        let held = made.map_err(|error| Error::Internal(format!("making a snapshot failed: {error}")))??;
        // It was there a moment ago; nobody needs to look.
        Ok(ContainerSnapshotStanding { snapshot: held.snapshot, state: SnapshotState::Ready, problem: String::new() })
    }

    async fn make_once(&self, wanted: NewSnapshot) -> Result<Held> {
        let Some((request_id, fingerprint)) = wanted.request else { return self.make_snapshot(&wanted).await };
        let known = || self.snapshots.of_request(&wanted.viewer, request_id);
        let make = async |again: bool| match known() {
            // The first try made it before it was cut off.
            Some(known) if again => Ok(known),
            _ => self.make_snapshot(&wanted).await,
        };
        match self.once(&wanted.viewer, (request_id, "SnapshotContainer", fingerprint), make).await? {
            Some(made) => Ok(made),
            None => known().ok_or_else(|| Error::SnapshotNotFound { name: wanted.name.clone() }),
        }
    }

    async fn make_snapshot(&self, wanted: &NewSnapshot) -> Result<Held> {
        if self.closing.load(Ordering::Acquire) {
            return Err(Error::ShuttingDown);
        }
        let entry = self.find(&wanted.container, &wanted.viewer)?;
        entry.adopted().await;
        check(&entry, wanted.exclude_workspace)?;
        let name = self.snapshots.shelf.reserve(&wanted.name)?;
        let snapshot = ContainerSnapshot {
            id: SnapshotId::new(),
            name: wanted.name.clone(),
            description: wanted.description.clone(),
            labels: wanted.labels.clone(),
            principal: wanted.viewer.name.clone(),
            request_id: wanted.request.map(|(id, _)| id),
            container: entry.origin.id,
            image: entry.origin.spec.image.clone(),
            image_id: String::new(),
            image_bytes: 0,
            total_bytes: 0,
            workspace: None,
            created: Timestamp::now(),
            last_used: None,
        };
        let id = snapshot.id;
        let mut claim = self.snapshots.shelf.claim();
        let mut record = ContainerSnapshotRecord { snapshot, making: Some(Making { froze: false }) };
        self.keep_snapshot(&record).await?;
        self.snapshots.put(record.snapshot.clone(), true);
        if let Err(error) = self.fill(&entry, wanted, &mut record, &mut claim).await {
            self.discard(id, &wanted.name).await;
            return Err(error);
        }
        entry.active();
        let held = self.snapshots.put(record.snapshot, false);
        // It was written a moment ago, and is what its digest says.
        *held.check.lock().await = Some(Ok(()));
        name.keep(id, SnapshotKind::Container);
        claim.keep();
        let bytes = held.snapshot.size_bytes();
        tracing::info!(snapshot = %held.snapshot.name, container = %entry.origin.id, bytes, "a snapshot was made");
        Ok(held)
    }

    /// Fills a snapshot that is recorded, and records that it is whole.
    async fn fill(
        &self,
        entry: &Arc<Entry>,
        wanted: &NewSnapshot,
        record: &mut ContainerSnapshotRecord,
        claim: &mut Claim,
    ) -> Result<()> {
        let id = record.snapshot.id;
        // First, for the supervisor that packs it is a process of the container, and is frozen with the others.
        let packed = match wanted.exclude_workspace {
            true => None,
            false => Some(self.pack(entry, &wanted.viewer, id, claim).await?),
        };
        record.snapshot.workspace = packed;
        let archive_bytes = packed.map_or(0, |packed| packed.archive_bytes);
        let image = {
            // Whoever freezes or thaws it waits: what was frozen for this goes on when this is done.
            let _still = entry.still.lock().await;
            check(entry, true)?;
            let freeze = !wanted.keep_running && entry.state() != ContainerState::Paused;
            if freeze {
                record.making = Some(Making { froze: true });
                self.keep_snapshot(record).await?;
            }
            let backend_id = entry.backend_id();
            let failed = |error| refusal(entry, error);
            let written = self.backend.written(&backend_id).await.map_err(failed)?;
            claim.resize(archive_bytes.saturating_add(written))?;
            let mark = Mark { snapshot: id, installation: self.installation.clone() };
            self.backend.commit(&backend_id, &mark, freeze).await.map_err(failed)?
        };
        claim.resize(archive_bytes.saturating_add(image.added_bytes))?;
        record.snapshot.image_bytes = image.added_bytes;
        record.snapshot.total_bytes = image.image.size_bytes;
        record.snapshot.image_id = image.image.id;
        record.making = None;
        self.keep_snapshot(record).await
    }

    /// Packs the workspace into a file, by its supervisor.
    async fn pack(
        &self,
        entry: &Arc<Entry>,
        viewer: &Viewer,
        id: SnapshotId,
        claim: &mut Claim,
    ) -> Result<FrozenWorkspace> {
        let mut tries = 1;
        loop {
            match self.pack_once(entry, viewer, id, claim).await {
                Err(Error::File { fault: FileFault::Shrank { .. }, .. }) if tries < TRIES => tries += 1,
                packed => return packed,
            }
            claim.resize(0)?;
        }
    }

    async fn pack_once(
        &self,
        entry: &Arc<Entry>,
        viewer: &Viewer,
        id: SnapshotId,
        claim: &mut Claim,
    ) -> Result<FrozenWorkspace> {
        let container = entry.origin.id.to_string();
        // All of the workspace, by names that are relative to it: it may be somewhere else the next time.
        let download = ArchiveDownload { paths: Vec::new(), base: String::new(), gzip: false, bytes: None };
        let (_, mut reader) = self.download_archive(&container, viewer, download).await?;
        let failed = |error: io::Error| Error::StoreUnavailable {
            problem: format!(
                "the workspace of a snapshot cannot be written to {}: {error}",
                self.snapshots.directory.display()
            ),
        };
        let mut writing = Writing::begin(&self.snapshots.directory, id);
        let mut archive_bytes = 0;
        loop {
            match reader.next().await? {
                Some(ArchivePart::Bytes(data)) => {
                    archive_bytes += data.len() as u64;
                    claim.grow(data.len() as u64)?;
                    writing.write(data).await.map_err(failed)?;
                }
                Some(ArchivePart::Packed(packed)) => {
                    if !packed.omitted.is_empty() {
                        let count = packed.omitted.len();
                        tracing::warn!(snapshot = %id, %container, count, "a workspace has what cannot be in a snapshot");
                    }
                    writing.finish().await.map_err(failed)?;
                    let digest = packed.digest;
                    return Ok(FrozenWorkspace { digest, archive_bytes, content_bytes: packed.bytes });
                }
                None => return Err(Error::Internal("an archive ended without its last word".into())),
            }
        }
    }

    async fn keep_snapshot(&self, record: &ContainerSnapshotRecord) -> Result<()> {
        let record = record.clone();
        self.store.write(move |db| table::put(db, &record)).await
    }

    /// Removes a snapshot that could not be made whole.
    async fn discard(&self, id: SnapshotId, name: &str) {
        self.snapshots.by_name.lock().remove(name);
        self.drop_content(id).await;
        if let Err(error) = self.store.write(move |db| snapshots::delete(db, id)).await {
            tracing::error!(snapshot = %id, %error, "what was left of a snapshot could not be forgotten yet");
        }
    }
}

/// Whether a container can be frozen as it stands.
fn check(entry: &Entry, exclude_workspace: bool) -> Result<()> {
    let id = entry.origin.id;
    match entry.state() {
        ContainerState::Paused if exclude_workspace => Ok(()),
        ContainerState::Paused => {
            let problem = "is paused, and so is its supervisor, which alone can read its workspace; resume it first \
                           (ResumeContainer), or leave the workspace out (exclude_workspace)";
            Err(Error::ContainerNotReady { id, problem: problem.into() })
        }
        _ => match entry.ready()? {
            Way::Backend if !exclude_workspace => Err(Error::Unsupervised { id }),
            Way::Guest(_) | Way::Backend => Ok(()),
        },
    }
}

fn refusal(entry: &Entry, error: BackendError) -> Error {
    match error {
        BackendError::NotFound(_) | BackendError::Conflict(_) => Error::ContainerNotReady {
            id: entry.origin.id,
            problem: format!("could not be frozen, for it ended meanwhile: {error}"),
        },
        other => backend_error(other),
    }
}
