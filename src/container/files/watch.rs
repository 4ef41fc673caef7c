//! Changes below a path, as they happen.

use super::{Place, ROOT};
use crate::container::link::{Conversation, Said};
use crate::container::manager::{Containers, Viewer};
use crate::domain::file::{FileChange, FileChangeKind, FileInfo};
use crate::error::{Error, Result};
use casemate_guest::protocol::{Change, Event, Request};
use std::collections::VecDeque;
use std::time::Duration;

/// How long the other half of a move is waited for.
const HALF: Duration = Duration::from_millis(20);

/// A path that is being watched. Dropped, it no longer is.
pub struct FileWatcher {
    place: Place,
    conversation: Conversation,
    found: VecDeque<Found>,
    /// Something went from here, and may be on its way to another place: its path, its number, whether it is a directory.
    leaving: Option<(Vec<u8>, u32, bool)>,
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A change.
    Change(FileChange),
    /// Changes were missed.
    Overflow,
}

impl Containers {
    /// Watches a path. Every change from the answer on is told.
    pub async fn watch_path(
        &self,
        container: &str,
        viewer: &Viewer,
        path: &str,
        recursive: bool,
    ) -> Result<(FileInfo, FileWatcher)> {
        let place = self.place(container, viewer, "path", path).await?;
        let found = place.stat(true).await?;
        let request = Request::Watch { root: ROOT.into(), path: place.path.clone(), recursive };
        let mut conversation = place.ask(request).await?;
        match conversation.next().await {
            Some(Said::Began(_)) => {}
            Some(Said::Done(Err(failure))) => return Err(place.fault(failure)),
            Some(_) => return Err(Error::Internal("a supervisor told of changes before it watched".into())),
            None => return Err(place.gone()),
        }
        Ok((found, FileWatcher { place, conversation, found: VecDeque::new(), leaving: None }))
    }
}

impl FileWatcher {
    /// The next that is found. May be given up at any time, and called again.
    pub async fn next(&mut self) -> Result<Found> {
        loop {
            if let Some(found) = self.found.pop_front() {
                return Ok(found);
            }
            let said = match self.leaving.is_some() {
                false => self.conversation.next().await,
                true => match tokio::time::timeout(HALF, self.conversation.next()).await {
                    Ok(said) => said,
                    Err(_) => {
                        // It went where nobody watches.
                        self.left();
                        continue;
                    }
                },
            };
            match said {
                Some(Said::Events(events)) => events.into_iter().for_each(|event| self.take(event)),
                Some(Said::Done(Err(failure))) => return Err(self.place.fault(failure)),
                Some(Said::Done(Ok(_))) | None => return Err(self.place.gone()),
                Some(_) => {}
            }
        }
    }

    fn take(&mut self, event: Event) {
        let path = match event.path.is_empty() {
            true => self.place.path.clone(),
            false => [self.place.path.strip_suffix(b"/").unwrap_or(&self.place.path), b"/", &event.path].concat(),
        };
        let kind = match event.change {
            Change::MovedTo(number) => match self.leaving.take_if(|(_, of, _)| *of == number) {
                Some((from, ..)) => FileChangeKind::MovedFrom(from),
                None => FileChangeKind::Created,
            },
            Change::MovedFrom(number) => {
                self.left();
                self.leaving = Some((path, number, event.directory));
                return;
            }
            Change::Created => FileChangeKind::Created,
            Change::Modified => FileChangeKind::Modified,
            Change::Written => FileChangeKind::Written,
            Change::Attributes => FileChangeKind::Attributes,
            Change::Removed => FileChangeKind::Removed,
            Change::Overflow => {
                self.left();
                self.found.push_back(Found::Overflow);
                return;
            }
        };
        self.left();
        self.found.push_back(Found::Change(FileChange { path, kind, directory: event.directory }));
    }

    /// What went, and did not come anywhere, is gone.
    fn left(&mut self) {
        if let Some((path, _, directory)) = self.leaving.take() {
            self.found.push_back(Found::Change(FileChange { path, kind: FileChangeKind::Removed, directory }));
        }
    }
}
