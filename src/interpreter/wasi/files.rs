//! What the host does with an isolate's files: putting some in, seeing what changed, taking some out.

use super::Wasi;
use super::errno::{Errno, Result};
use super::path::find;
use super::tree::{Content, Ino, Kind, ROOT};
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
    /// Whether it was not there before.
    pub created: bool,
    /// Where a link leads; empty for a file.
    pub link_target: String,
    ino: Ino,
}

impl Wasi {
    /// Puts a file into the scratch directory, making directories on the way.
    ///
    /// # Errors
    /// Says what is in the way.
    pub fn put(&mut self, path: &str, data: Bytes, mode: u32) -> std::result::Result<(), &'static str> {
        self.place(path, data, mode).map_err(Errno::text)
    }

    fn place(&mut self, path: &str, data: Bytes, mode: u32) -> Result<()> {
        let mut directory = find(&self.tree, ROOT, SCRATCH, true)?.found(&self.tree)?;
        let mut parts = path.split('/').filter(|part| !part.is_empty()).peekable();
        while let Some(part) = parts.next() {
            let there = self.tree.node(directory)?.names()?.get(part).copied();
            match (parts.peek().is_some(), there) {
                (true, Some(ino)) => directory = ino,
                (true, None) => {
                    directory = self.tree.make(directory, part, Kind::Directory(Arc::default(), directory))?
                }
                (false, there) => {
                    let ino = match there {
                        Some(ino) => ino,
                        None => self.tree.make(directory, part, Kind::File(Content::Shared(Bytes::new())))?,
                    };
                    if !matches!(self.tree.node(ino)?.kind, Kind::File(_)) {
                        return Err(Errno::EXIST);
                    }
                    return self.tree.replace(ino, data, mode & 0o777);
                }
            }
        }
        Err(Errno::INVAL)
    }

    /// From here on, what changes is new.
    pub fn mark(&mut self) {
        self.mark = self.tree.clock();
    }

    /// Files and links of the scratch directory that were made or changed since the mark, by path.
    pub fn changes(&self) -> Vec<Change> {
        let mut found = Vec::new();
        if let Ok(place) = find(&self.tree, ROOT, SCRATCH, true)
            && let Ok(ino) = place.found(&self.tree)
        {
            self.look(ino, "", 0, &mut found);
        }
        found
    }

    fn look(&self, directory: Ino, above: &str, depth: usize, found: &mut Vec<Change>) {
        let Ok(names) = self.tree.node(directory).and_then(|node| node.names()) else { return };
        for (name, ino) in names.iter() {
            let Ok(node) = self.tree.node(*ino) else { continue };
            let path = if above.is_empty() { name.clone() } else { format!("{above}/{name}") };
            let target = match &node.kind {
                Kind::Directory(..) => {
                    if depth < MAX_DEPTH {
                        self.look(*ino, &path, depth + 1, found);
                    }
                    continue;
                }
                Kind::Link(target) => target.clone(),
                Kind::File(_) => String::new(),
                Kind::Channel => continue,
            };
            if node.changed > self.mark {
                found.push(Change {
                    path,
                    size: if target.is_empty() { node.size() } else { 0 },
                    mode: node.mode,
                    created: node.made > self.mark,
                    link_target: target,
                    ino: *ino,
                });
            }
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

/// Bytes that a tree shares.
struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
