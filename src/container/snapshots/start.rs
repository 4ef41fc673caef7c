//! From a snapshot to a container.

use super::{Held, NO_IMAGE, archive};
use crate::container::backend::ImageFacts;
use crate::container::entry::Entry;
use crate::container::files::{Announced, ArchiveConflict, ArchiveFormat, ArchiveUpload, Place};
use crate::container::link::Link;
use crate::container::manager::{Containers, Viewer, backend_error};
use crate::container::raise::ControlMode;
use crate::container::wish::Wish;
use crate::domain::container::ContainerSpec;
use crate::domain::file::FileFault;
use crate::domain::id::SnapshotId;
use crate::error::{Error, Result};
use std::sync::Arc;

/// What is said where files of a workspace cannot be put back.
const NEEDS_GUEST: &str = "has files of a workspace, which only a supervisor can put back";

/// A snapshot that a container is to start from.
pub(in crate::container) struct Source(Held);

impl Source {
    /// Its id.
    pub(in crate::container) fn id(&self) -> SnapshotId {
        self.0.snapshot.id
    }
}

impl Containers {
    /// A wish with its template's word, and the snapshot that it names. The wish gets the image that this was made from,
    /// so that the operator's rules are about something.
    pub(in crate::container) fn source(&self, wish: Wish, viewer: &Viewer) -> Result<(Wish, Option<Source>)> {
        let mut wish = self.policy().with_template(wish)?;
        if wish.snapshot.is_empty() {
            return Ok((wish, None));
        }
        let held = self.snapshot_for(&wish.snapshot, viewer)?;
        wish.image.clone_from(&held.snapshot.image);
        Ok((wish, Some(Source(held))))
    }

    /// Says so if a snapshot was deleted meanwhile.
    pub(in crate::container) fn is_gone(&self, Source(held): &Source) -> Option<Error> {
        let gone = || Error::SnapshotNotFound { name: held.snapshot.name.clone() };
        self.snapshots.of_id(held.snapshot.id).is_none().then(gone)
    }

    /// The image of a snapshot, once that is known to be whole.
    pub(in crate::container) async fn image_of(
        &self,
        Source(held): &Source,
        spec: &ContainerSpec,
    ) -> Result<ImageFacts> {
        if held.making {
            return Err(held.unusable("is still being made; wait for it"));
        }
        if let Some(workspace) = held.snapshot.workspace {
            let alone = self.facts().is_ok_and(|facts| !facts.shares_files);
            if self.config.control == ControlMode::Exec || alone {
                let problem = format!("{NEEDS_GUEST}, and containers have none here (containers.control)");
                return Err(held.unusable(problem));
            }
            if workspace.content_bytes > spec.workspace.size_bytes {
                let (wanted, there) = (workspace.content_bytes, spec.workspace.size_bytes);
                let text = format!("is {there}, and the snapshot has {wanted} bytes of files for it; ask for more");
                return Err(Error::invalid("spec.workspace.size_bytes", text));
            }
        }
        let image = self.backend.image_of_id(&held.snapshot.image_id).await.map_err(backend_error)?;
        let image = image.ok_or_else(|| held.unusable(format!("cannot be used: {NO_IMAGE}; delete it")))?;
        self.verify(held).await.map_err(|why| held.unusable(format!("cannot be used: {why}; delete it")))?;
        self.note_use(held.snapshot.id);
        Ok(image)
    }

    /// Checks the archive of a workspace once; what was found good is held against its digest again as it is read.
    async fn verify(&self, held: &Held) -> std::result::Result<(), String> {
        let Some(workspace) = held.snapshot.workspace else { return Ok(()) };
        let mut check = held.check.lock().await;
        if let Some(problem) = archive::fault(&self.snapshots.directory, &held.snapshot) {
            return Err(problem);
        }
        if let Some(known) = &*check {
            return known.clone();
        }
        let (directory, id) = (self.snapshots.directory.clone(), held.snapshot.id);
        let found = match tokio::task::spawn_blocking(move || archive::digest(&directory, id)).await {
            Ok(Ok(digest)) if digest == workspace.digest => Ok(()),
            Ok(Ok(_)) => Err(MISMATCH.to_owned()),
            Ok(Err(error)) => Err(format!("the file of its workspace cannot be read: {error}")),
            Err(error) => Err(format!("the file of its workspace was not read: {error}")),
        };
        if let Err(why) = &found {
            damaged(held, why);
        }
        *check = Some(found.clone());
        found
    }

    /// Whether a container has files to be put into its workspace before anything runs in it.
    pub(in crate::container) fn restores(&self, entry: &Entry) -> bool {
        let held = entry.origin.snapshot.and_then(|id| self.snapshots.of_id(id));
        held.is_some_and(|held| held.snapshot.workspace.is_some())
    }

    /// Why a container cannot do without a supervisor, if it cannot.
    pub(in crate::container) fn needs_guest(&self, entry: &Entry, why: &str) -> Option<Error> {
        let problem = || format!("its snapshot {NEEDS_GUEST}, and it has none: {why}");
        self.restores(entry).then(|| Error::ContainerFailed { id: entry.origin.id, problem: problem() })
    }

    /// Puts the files of a snapshot into the workspace, all of them or none. Can be repeated, until the main process
    /// has begun.
    pub(in crate::container) async fn restore(&self, entry: &Arc<Entry>, link: &Link) -> Result<()> {
        let Some(id) = entry.origin.snapshot else { return Ok(()) };
        // What it wrote since is not to be overwritten.
        if self.registry.find(entry.origin.main_execution).await.is_ok() {
            return Ok(());
        }
        let failed = |problem: String| Error::ContainerFailed { id: entry.origin.id, problem };
        let Some(held) = self.snapshots.of_id(id) else {
            return Err(failed("its snapshot is not there any more".into()));
        };
        let Some(workspace) = held.snapshot.workspace else { return Ok(()) };
        let upload = ArchiveUpload {
            path: String::new(),
            format: Some(ArchiveFormat::Tar),
            conflict: ArchiveConflict::Replace,
            parents: false,
            strip: 0,
            announced: Announced { size: Some(workspace.archive_bytes), digest: Some(workspace.digest) },
        };
        let put = async {
            let mut writer = self.unpack_at(Place::workspace(entry.clone(), link.clone()), upload).await?;
            let mut pieces = archive::read(&self.snapshots.directory, id);
            while let Some(piece) = pieces.recv().await {
                let piece = piece.map_err(|error| failed(format!("its snapshot's workspace cannot be read: {error}")));
                writer.write(piece?).await?;
            }
            writer.finish().await
        };
        match put.await {
            Ok(_) => Ok(()),
            Err(Error::File { fault: FileFault::Mismatch(_), .. }) => {
                damaged(&held, MISMATCH);
                Err(held.unusable(format!("cannot be used: {MISMATCH}; delete it")))
            }
            Err(Error::File { fault, .. }) => {
                Err(failed(format!("the files of its snapshot could not be put into its workspace: {fault}")))
            }
            Err(error) => Err(error),
        }
    }
}

/// What is said of a file that changed.
const MISMATCH: &str = "the file of its workspace does not match its digest";

fn damaged(held: &Held, why: &str) {
    tracing::error!(snapshot = %held.snapshot.name, problem = %why, "a snapshot is damaged");
    *held.damage.lock() = Some(why.to_owned());
}
