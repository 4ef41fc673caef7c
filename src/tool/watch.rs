//! Follows the tools directory, so that a tool is there as soon as its files are complete.
//!
//! A file counts as complete when its writer closes it or moves it in; what is still being written is
//! left alone, however long that takes.

use super::Catalog;
use super::directory::tool_of;
use crate::error::{Error, Result};
use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind};
use notify::{Event, RecursiveMode, Watcher};
use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::mpsc;

/// Quiet time after a change: a module and its manifest often arrive together.
const QUIET: Duration = Duration::from_millis(50);

/// Keeps a catalog up to date until the returned watcher is dropped.
pub fn watch(catalog: &Arc<Catalog>) -> Result<impl Send + 'static> {
    let refuse = |error: notify::Error| {
        Error::Internal(format!(
            "cannot watch {}: {error}; raise fs.inotify.max_user_watches, or set tools.watch = false and call ReloadTools",
            catalog.path().display()
        ))
    };
    let (tell, told) = mpsc::unbounded_channel();
    let mut watcher = notify::recommended_watcher(move |event| {
        // The receiver ends with the catalog.
        let _ = tell.send(event);
    })
    .map_err(refuse)?;
    watcher.watch(catalog.path(), RecursiveMode::NonRecursive).map_err(refuse)?;
    tokio::spawn(follow(Arc::downgrade(catalog), told));
    Ok(watcher)
}

async fn follow(catalog: Weak<Catalog>, mut told: mpsc::UnboundedReceiver<notify::Result<Event>>) {
    while let Some(event) = told.recv().await {
        let mut changed = Changed::default();
        changed.add(event);
        while let Ok(Some(event)) = tokio::time::timeout(QUIET, told.recv()).await {
            changed.add(event);
        }
        let Some(catalog) = catalog.upgrade() else { return };
        let result = match &changed {
            Changed { everything: true, .. } => catalog.reload(None).await,
            Changed { tools, .. } if !tools.is_empty() => catalog.reload(Some(tools)).await,
            _ => continue,
        };
        if let Err(error) = result {
            tracing::error!(%error, "the tools directory could not be read");
        }
    }
}

#[derive(Default)]
struct Changed {
    tools: BTreeSet<String>,
    /// Events were lost, so anything may have changed.
    everything: bool,
}

impl Changed {
    fn add(&mut self, event: notify::Result<Event>) {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(%error, "events of the tools directory were lost; reading all of it");
                self.everything = true;
                return;
            }
        };
        self.everything |= event.need_rescan();
        let complete = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(_))
            | EventKind::Remove(_) => true,
            // A link is complete at once; its creation is not followed by a close. So is a hard link,
            // which cannot be told from a file that is about to be written.
            EventKind::Create(CreateKind::File | CreateKind::Other | CreateKind::Any) => {
                event.paths.iter().any(|path| path.is_symlink())
            }
            _ => false,
        };
        if complete {
            let names = event.paths.iter().filter_map(|path| path.file_name()?.to_str()).filter_map(tool_of);
            self.tools.extend(names.map(str::to_owned));
        }
    }
}
