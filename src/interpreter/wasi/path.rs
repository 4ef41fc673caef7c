//! Finding the node that a path leads to.

use super::errno::{Errno, Result};
use super::node::{Ino, Kind, ROOT};
use super::tree::{MAX_NAME, Tree};

/// Bytes of a path at most.
pub const MAX_PATH: usize = 4096;

/// Links followed on one way at most.
const MAX_LINKS: u32 = 40;

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    /// The directory that has, or would have, the last name.
    pub directory: Ino,
    /// The last name; empty when the path ends in a directory by itself (`.`, `..`, `/`).
    pub name: String,
    /// The node, if there is one.
    pub node: Option<Ino>,
    /// Whether the path says that it is a directory.
    pub must_be_directory: bool,
}

impl Place {
    /// The node, which must be there.
    pub fn found(&self, tree: &Tree) -> Result<Ino> {
        let ino = self.node.ok_or(Errno::NOENT)?;
        if self.must_be_directory && !tree.node(ino)?.is_directory() {
            return Err(Errno::NOTDIR);
        }
        Ok(ino)
    }
}

/// Follows a path from a directory. `..` of the root is the root; links lead within the tree. The last name is
/// followed too if it is a link and `follow` says so.
pub fn find(tree: &Tree, from: Ino, path: &str, follow: bool) -> Result<Place> {
    if path.is_empty() {
        return Err(Errno::NOENT);
    }
    if path.len() > MAX_PATH {
        return Err(Errno::NAMETOOLONG);
    }
    let mut links = 0;
    let mut at = if path.starts_with('/') { ROOT } else { from };
    // What is still to be walked, the next part last.
    let mut rest: Vec<String> = parts(path);
    let mut must_be_directory = path.ends_with('/') || path.ends_with("/.") || path == ".";
    loop {
        let Some(part) = rest.pop() else {
            // The path ended in a directory by itself.
            return Ok(Place { directory: at, name: String::new(), node: Some(at), must_be_directory: true });
        };
        let node = tree.node(at)?;
        let Kind::Directory(names, parent) = &node.kind else { return Err(Errno::NOTDIR) };
        if part == "." {
            continue;
        }
        if part == ".." {
            at = *parent;
            continue;
        }
        if part.len() > MAX_NAME {
            return Err(Errno::NAMETOOLONG);
        }
        let last = rest.is_empty();
        let Some(next) = names.get(&part).copied() else {
            return match last {
                true => Ok(Place { directory: at, name: part, node: None, must_be_directory }),
                false => Err(Errno::NOENT),
            };
        };
        if let Kind::Link(target) = &tree.node(next)?.kind
            && (!last || follow || must_be_directory)
        {
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::LOOP);
            }
            if target.is_empty() {
                return Err(Errno::NOENT);
            }
            if target.starts_with('/') {
                at = ROOT;
            }
            must_be_directory |= last && target.ends_with('/');
            rest.extend(parts(target));
            continue;
        }
        if last {
            return Ok(Place { directory: at, name: part, node: Some(next), must_be_directory });
        }
        at = next;
    }
}

/// The parts of a path, the last one first.
fn parts(path: &str) -> Vec<String> {
    path.split('/').rev().filter(|part| !part.is_empty()).map(str::to_owned).collect()
}
