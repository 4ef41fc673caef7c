//! What the host does with an isolate's files: putting some in, seeing what changed, taking some out.

use super::Wasi;
use super::errno::{Errno, Result};
use super::node::{Content, Ino, Kind, Names, ROOT};
use super::path::{MAX_PATH, find};
use super::tree::Want;
use bytes::Bytes;
use std::sync::Arc;

/// The scratch directory, which is also the working directory.
pub const SCRATCH: &str = "/work";

/// Directories below each other that are looked through at most.
const MAX_DEPTH: usize = 64;

/// A file that was made or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Path, relative to the scratch directory.
    pub path: String,
    /// Bytes; 0 for a link.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Whether there was nothing but perhaps a directory at this path before.
    pub created: bool,
    /// Where a link leads; empty for a file.
    pub link_target: String,
    ino: Ino,
}

/// Changes as they are found, and how many there are beyond those.
struct Found {
    changes: Vec<Change>,
    limit: usize,
    more: u64,
}

impl Wasi {
    /// Puts a file into the scratch directory, making directories on the way. The bytes are copied.
    ///
    /// # Errors
    /// Says what is in the way.
    pub fn put(&mut self, path: &str, data: &Bytes, mode: u32) -> std::result::Result<(), &'static str> {
        self.place(path, data, mode).map_err(Errno::text)
    }

    fn place(&mut self, path: &str, data: &Bytes, mode: u32) -> Result<()> {
        if path.len() > MAX_PATH {
            return Err(Errno::NAMETOOLONG);
        }
        let mut directory = find(&self.tree, ROOT, SCRATCH, true)?.found(&self.tree)?;
        let mut parts = path.split('/').filter(|part| !part.is_empty()).peekable();
        while let Some(part) = parts.next() {
            let there = self.tree.node(directory)?.names()?.get(part).copied();
            match (parts.peek().is_some(), there) {
                (true, Some(ino)) => directory = ino,
                (true, None) => {
                    directory = self.tree.make(directory, part, Kind::Directory(Arc::default(), directory))?;
                }
                (false, Some(ino)) => return self.tree.replace(ino, data, mode & 0o777),
                (false, None) => {
                    let ino = self.tree.make(directory, part, Kind::File(Content::default()))?;
                    return self.tree.replace(ino, data, mode & 0o777).inspect_err(|_| {
                        // Nobody has it open, and it was just made: this cannot fail.
                        let _ = self.tree.unlink(directory, part, Want::File, |_| false);
                    });
                }
            }
        }
        Err(Errno::INVAL)
    }

    /// From here on, what changes is new.
    pub fn mark(&mut self) {
        self.tree.mark();
    }

    /// Up to `limit` files and links of the scratch directory that were made or changed since the mark, and how
    /// many more there are.
    pub fn changes(&self, limit: usize) -> (Vec<Change>, u64) {
        let mut found = Found { changes: Vec::new(), limit, more: 0 };
        if let Ok(place) = find(&self.tree, ROOT, SCRATCH, true)
            && let Ok(ino) = place.found(&self.tree)
        {
            self.look(ino, self.tree.before(ino), &mut String::new(), 0, &mut found);
        }
        (found.changes, found.more)
    }

    /// Looks through a directory; `before` are the names that there were at its path.
    fn look(&self, directory: Ino, before: Option<&Names>, path: &mut String, depth: usize, found: &mut Found) {
        let Ok(names) = self.tree.node(directory).and_then(|node| node.names()) else { return };
        for (name, ino) in names.iter() {
            let Ok(node) = self.tree.node(*ino) else { continue };
            let there = before.and_then(|names| names.get(name)).copied();
            let length = path.len();
            if length > 0 {
                path.push('/');
            }
            path.push_str(name);
            match &node.kind {
                Kind::Directory(..) if depth < MAX_DEPTH => {
                    let before = there.and_then(|ino| self.tree.before(ino));
                    self.look(*ino, before, path, depth + 1, found);
                }
                Kind::Directory(..) | Kind::Channel => {}
                Kind::File(_) | Kind::Link(_) => {
                    if there != Some(*ino) || self.tree.changed(node) {
                        let target = if let Kind::Link(target) = &node.kind { target.as_str() } else { "" };
                        found.add(|| Change {
                            path: path.clone(),
                            size: if target.is_empty() { node.size() } else { 0 },
                            mode: node.mode,
                            created: there.is_none_or(|ino| self.tree.before(ino).is_some()),
                            link_target: target.to_owned(),
                            ino: *ino,
                        });
                    }
                }
            }
            path.truncate(length);
        }
    }

    /// The content of a file that changed.
    pub fn content(&self, change: &Change) -> Option<Bytes> {
        match &self.tree.node(change.ino).ok()?.kind {
            Kind::File(Content::Shared(bytes)) => Some(bytes.clone()),
            Kind::File(Content::Own(bytes)) => Some(Bytes::from_owner(Shared(bytes.clone()))),
            _ => None,
        }
    }
}

impl Found {
    fn add(&mut self, change: impl FnOnce() -> Change) {
        if self.changes.len() < self.limit {
            self.changes.push(change());
        } else {
            self.more += 1;
        }
    }
}

/// Bytes that a tree shares.
struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
