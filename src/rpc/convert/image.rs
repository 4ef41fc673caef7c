//! Images and their pulls as messages.

use super::timestamp;
use crate::container::ListedImage;
use crate::container::backend::{ImageFacts, LayerProgress, PullPhase};
use crate::proto::v1;

/// An image of a listing.
pub fn listed(found: &ListedImage) -> v1::Image {
    let snapshot_id = found.snapshot.map(|id| id.to_string()).unwrap_or_default();
    v1::Image { containers: found.containers, snapshot_id, ..image(&found.image) }
}

/// An image.
pub fn image(image: &ImageFacts) -> v1::Image {
    v1::Image {
        id: image.id.clone(),
        references: image.tags.clone(),
        digests: image.digests.clone(),
        size_bytes: image.size_bytes,
        create_time: image.created.map(timestamp),
        platform: image.platform.clone(),
        snapshot_id: String::new(),
        containers: 0,
        capabilities: None,
    }
}

/// How far a layer is.
pub fn progress(progress: LayerProgress) -> v1::PullProgress {
    v1::PullProgress {
        layer: progress.layer,
        phase: match progress.phase {
            PullPhase::Resolving => v1::PullPhase::Resolving,
            PullPhase::Waiting => v1::PullPhase::Waiting,
            PullPhase::Downloading => v1::PullPhase::Downloading,
            PullPhase::Verifying => v1::PullPhase::Verifying,
            PullPhase::Extracting => v1::PullPhase::Extracting,
            PullPhase::Done => v1::PullPhase::Done,
        }
        .into(),
        current_bytes: progress.current,
        total_bytes: progress.total,
    }
}
