//! What nobody needs any more: what a killed server left half made, and images of snapshots that there are not.

use super::Leftover;
use crate::container::backend::BackendError;
use crate::container::manager::Containers;
use crate::domain::container::ContainerState;
use crate::store::snapshots;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How long to wait before a backend that does not answer is asked again.
const AGAIN: Duration = Duration::from_millis(500);

impl Containers {
    /// Removes what is left of snapshots that were being made when a server died. Their records go last: as long as one
    /// is there, its container is known to be frozen for nothing.
    pub(in crate::container) fn clear(self: &Arc<Self>, left: Vec<Leftover>) {
        for leftover in left {
            tokio::spawn(clear(Arc::downgrade(self), leftover));
        }
    }

    /// Removes images that say they are snapshots of this installation and that it knows nothing of: of a snapshot that
    /// was deleted while the backend was away, or one that it made for a server that had died by then.
    pub(in crate::container) async fn reap_images(&self) {
        let Ok(found) = self.backend.snapshots(&self.installation).await else { return };
        for image in found {
            if self.snapshots.of_id(image.snapshot).is_some() {
                continue;
            }
            let named = self.backend.remove_snapshot(image.snapshot).await;
            let removed = match named {
                Ok(()) => self.backend.remove_nameless(&image.id).await,
                failed => failed,
            };
            match removed {
                Ok(()) => tracing::info!(snapshot = %image.snapshot, "an image of no snapshot was removed"),
                // Others stand on it; it goes with the last of them.
                Err(BackendError::Conflict(_)) => {}
                Err(error) => tracing::warn!(snapshot = %image.snapshot, %error, "an image could not be removed yet"),
            }
        }
    }
}

async fn clear(containers: Weak<Containers>, leftover: Leftover) {
    let Leftover { snapshot: id, container } = leftover;
    let entry = match containers.upgrade() {
        Some(this) => this.entries.get(&container).map(|entry| entry.value().clone()),
        None => return,
    };
    // Whoever finds it again thaws it.
    if let Some(entry) = entry {
        entry.until(|state| state != ContainerState::Unreachable).await;
    }
    loop {
        let Some(this) = containers.upgrade() else { return };
        match this.backend.remove_snapshot(id).await {
            Ok(()) | Err(BackendError::Conflict(_)) => {
                if let Err(error) = this.store.write(move |db| snapshots::delete(db, id)).await {
                    // The next server tries again.
                    tracing::error!(snapshot = %id, %error, "a snapshot that was cut off could not be forgotten yet");
                }
                tracing::info!(snapshot = %id, "a snapshot that was being made when the server died was removed");
                return;
            }
            Err(error) => tracing::debug!(snapshot = %id, %error, "the image of a snapshot could not be removed yet"),
        }
        drop(this);
        tokio::time::sleep(AGAIN).await;
    }
}
