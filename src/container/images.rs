//! Images that containers can start from, those of snapshots included.

use super::backend::ImageFacts;
use super::entry::Entry;
use super::manager::{Containers, Viewer, backend_error};
use crate::domain::id::SnapshotId;
use crate::domain::image::ImageReference;
use crate::error::Result;
use std::sync::Arc;

/// An image, for whoever asks which there are.
#[derive(Clone, Debug)]
pub struct ListedImage {
    /// The image.
    pub image: ImageFacts,
    /// Containers that use it.
    pub containers: u32,
    /// The snapshot that it is.
    pub snapshot: Option<SnapshotId>,
}

impl Containers {
    /// Images that are here and that the operator allows, or that are snapshots, each with the number of containers that
    /// use it. With a repository, only those of it.
    pub async fn images(&self, repository: &str, viewer: &Viewer) -> Result<Vec<ListedImage>> {
        let images = self.backend.images().await.map_err(backend_error)?;
        let snapshots = self.snapshots_by_image(viewer);
        let named = |text: &String, snapshot: bool| {
            let Ok(reference) = ImageReference::parse(text) else { return false };
            let name = format!("{}/{}", reference.registry, reference.repository);
            (snapshot || self.config.policy.admits("reference", &reference).is_ok())
                && (repository.is_empty() || name == repository)
        };
        let users = |id: &str| {
            let uses = |entry: &Arc<Entry>| entry.origin.image_id == id && !entry.state().is_over();
            let visible = |entry: &Arc<Entry>| viewer.administers || entry.is_of(&viewer.name);
            self.entries.iter().filter(|entry| uses(entry) && visible(entry)).count() as u32
        };
        let images = images.into_iter().filter_map(|mut image| {
            let snapshot = snapshots.get(&image.id).copied();
            image.tags.retain(|text| named(text, snapshot.is_some()));
            image.digests.retain(|text| named(text, snapshot.is_some()));
            let containers = users(&image.id);
            let there = !image.tags.is_empty() || !image.digests.is_empty();
            there.then_some(ListedImage { image, containers, snapshot })
        });
        Ok(images.collect())
    }
}
