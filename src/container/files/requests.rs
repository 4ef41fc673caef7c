//! What is asked of paths and answered at once: what they are, directories made, moved, removed, listed.

use super::{ROOT, info};
use crate::container::link::Said;
use crate::container::manager::{Containers, Viewer};
use crate::domain::file::FileInfo;
use crate::error::{Error, Result};
use casemate_guest::protocol::{Answer, Request};

/// Levels that a listing goes down at most.
const DEPTH: u32 = 64;

/// A page of a directory.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Its entries, each with its whole path.
    pub entries: Vec<FileInfo>,
    /// Where the next page begins, below the directory; none on the last one.
    pub next: Option<Vec<u8>>,
}

/// A directory somebody wants.
#[derive(Clone, Debug, Default)]
pub struct NewDirectory {
    /// Its path.
    pub path: String,
    /// Its permissions.
    pub mode: Option<u32>,
    /// Whether to make missing ones above it, and to take one that is there.
    pub parents: bool,
}

impl Containers {
    /// What a path is.
    pub async fn stat_path(&self, container: &str, viewer: &Viewer, path: &str, follow: bool) -> Result<FileInfo> {
        self.place(container, viewer, "path", path).await?.stat(follow).await
    }

    /// Makes a directory.
    pub async fn make_directory(&self, container: &str, viewer: &Viewer, new: NewDirectory) -> Result<FileInfo> {
        let place = self.place(container, viewer, "path", &new.path).await?;
        let (root, path) = (ROOT.into(), place.path.clone());
        let request = Request::MakeDirectory { root, path, mode: new.mode.or(Some(0o755)), parents: new.parents };
        place.answer(request).await?;
        place.stat(true).await
    }

    /// Moves or renames.
    pub async fn move_path(
        &self,
        container: &str,
        viewer: &Viewer,
        (from, to): (&str, &str),
        replace: bool,
    ) -> Result<FileInfo> {
        let source = self.place(container, viewer, "source_path", from).await?;
        let target = source.beside("destination_path", to)?;
        let (from, to) = (source.path.clone(), target.path.clone());
        source.answer(Request::Move { root: ROOT.into(), from, to, replace }).await?;
        target.stat(false).await
    }

    /// Removes. Answers how many files, directories and links are gone.
    pub async fn remove_path(
        &self,
        container: &str,
        viewer: &Viewer,
        path: &str,
        (recursive, allow_missing): (bool, bool),
    ) -> Result<u64> {
        let place = self.place(container, viewer, "path", path).await?;
        let path = place.path.clone();
        match place.answer(Request::Remove { root: ROOT.into(), path, recursive, allow_missing }).await? {
            Answer::Removed { entries } => Ok(entries),
            _ => Ok(0),
        }
    }

    /// Lists a directory, from the entry behind `after`.
    pub async fn list_directory(
        &self,
        container: &str,
        viewer: &Viewer,
        path: &str,
        depth: u32,
        after: Option<Vec<u8>>,
        limit: usize,
    ) -> Result<Listing> {
        let place = self.place(container, viewer, "path", path).await?;
        if depth > DEPTH {
            return Err(Error::invalid("depth", format!("is {depth}; at most {DEPTH}")));
        }
        let (root, path) = (ROOT.to_vec(), place.path.clone());
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let request = Request::List { root, path, depth: depth.max(1), after, limit };
        let mut conversation = place.ask(request).await?;
        let (mut entries, mut last) = (Vec::new(), None);
        let above = place.path.strip_suffix(b"/").unwrap_or(&place.path);
        loop {
            match conversation.next().await {
                Some(Said::Entries(more)) => {
                    last = more.last().map(|entry| entry.path.clone()).or(last);
                    entries.extend(more.into_iter().map(|entry| info([above, b"/", &entry.path].concat(), entry.stat)));
                }
                Some(Said::Done(Ok(Answer::Listed { more }))) => {
                    return Ok(Listing { entries, next: last.filter(|_| more) });
                }
                Some(Said::Done(Err(failure))) => return Err(place.fault(failure)),
                Some(_) => {}
                None => return Err(place.gone()),
            }
        }
    }
}
