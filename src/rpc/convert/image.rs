//! Images and their pulls as messages.

use super::timestamp;
use crate::container::backend::{ImageFacts, LayerProgress, PullPhase};
use crate::proto::v1;

/// An image; `containers` counts those that use it.
pub fn image(image: &ImageFacts, containers: u32) -> v1::Image {
    v1::Image {
        id: image.id.clone(),
        references: image.tags.clone(),
        digests: image.digests.clone(),
        size_bytes: image.size_bytes,
        create_time: image.created.map(timestamp),
        platform: image.platform.clone(),
        snapshot_id: String::new(),
        containers,
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
