//! A tree of files in memory: a base that all isolates share, and what one of them changed.
//!
//! Nothing here is a file of the host, so there is nothing to escape to. A node is an inode, found by number;
//! names are in directories. The base is never changed: what an isolate writes goes to its own nodes, and
//! only below directories marked writable. A call that fails changes nothing.

use super::errno::{Errno, Result};
use super::node::{Base, Content, ENTRY, Ino, Kind, Names, Node, ROOT};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Bytes of a name at most.
pub const MAX_NAME: usize = 255;

/// Nodes of an isolate's own at most.
pub const MAX_NODES: usize = 65_536;

/// One isolate's tree.
#[derive(Clone, Debug)]
pub struct Tree {
    pub(super) base: Arc<Base>,
    pub(super) own: HashMap<Ino, Node>,
    pub(super) next: Ino,
    pub(super) used: u64,
    pub(super) peak: u64,
    limit: u64,
    pub(super) clock: u64,
    /// The clock at the mark, and the directories as they were then.
    mark: u64,
    marked: HashMap<Ino, Names>,
}

/// What a name is expected to lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// A directory.
    Directory,
    /// Anything else.
    File,
}

impl Tree {
    /// A tree as its base has it, to which `limit` bytes may be added.
    pub fn new(base: Arc<Base>, limit: u64) -> Tree {
        let next = base.first_free();
        Tree { base, own: HashMap::new(), next, used: 0, peak: 0, limit, clock: 1, mark: 1, marked: HashMap::new() }
    }

    /// Sets how many bytes there may be. What is there already stays, even if it is more.
    pub fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// The most that was used since the last [`Tree::reset_peak`], in bytes.
    pub fn peak(&self) -> u64 {
        self.peak
    }

    /// Forgets the peak.
    pub fn reset_peak(&mut self) {
        self.peak = self.used;
    }

    /// Remembers how things stand; see [`Tree::before`] and [`Tree::changed`].
    pub fn mark(&mut self) {
        self.mark = self.clock;
        let directories = self.own.iter().filter_map(|(ino, node)| Some((*ino, node.names().ok()?.clone())));
        self.marked = directories.collect();
    }

    /// The names that a directory had at the mark; `None` if it was not there.
    pub fn before(&self, directory: Ino) -> Option<&Names> {
        self.marked.get(&directory).or_else(|| self.base.node(directory)?.names().ok())
    }

    /// Whether a node's content or times changed since the mark.
    pub fn changed(&self, node: &Node) -> bool {
        node.changed > self.mark
    }

    /// A node.
    pub fn node(&self, ino: Ino) -> Result<&Node> {
        self.own.get(&ino).or_else(|| self.base.node(ino)).ok_or(Errno::NOENT)
    }

    /// Says whether so much may come in the place of what was there.
    fn room(&self, before: u64, after: u64) -> Result<u64> {
        let used = (self.used - before.min(self.used)).checked_add(after).ok_or(Errno::NOSPC)?;
        if after > before && used > self.limit { Err(Errno::NOSPC) } else { Ok(used) }
    }

    fn spend(&mut self, before: u64, after: u64) -> Result<()> {
        self.used = self.room(before, after)?;
        self.peak = self.peak.max(self.used);
        Ok(())
    }

    /// Makes sure that a node may be changed.
    fn check_writable(&self, ino: Ino) -> Result<&Node> {
        let node = self.node(ino)?;
        if node.writable { Ok(node) } else { Err(Errno::ROFS) }
    }

    /// Makes sure that names may come into a directory, or go. One that was removed is only there for who has
    /// it open, and takes no names.
    fn check_directory(&self, directory: Ino) -> Result<&Names> {
        let node = self.node(directory)?;
        let names = node.names()?;
        match (node.writable, node.links) {
            (false, _) => Err(Errno::ROFS),
            (true, 0) => Err(Errno::NOENT),
            (true, _) => Ok(names),
        }
    }

    /// Makes sure that one more node fits.
    fn check_count(&self) -> Result<()> {
        if self.own.len() < MAX_NODES { Ok(()) } else { Err(Errno::NOSPC) }
    }

    /// A node, to be changed in something that is not its content.
    fn touch(&mut self, ino: Ino) -> Result<&mut Node> {
        if !self.own.contains_key(&ino) {
            let node = self.check_writable(ino)?.clone();
            self.spend(0, node.whole_cost())?;
            self.own.insert(ino, node);
        }
        let node = self.own.get_mut(&ino).filter(|node| node.writable).ok_or(Errno::ROFS)?;
        node.touched = super::now();
        Ok(node)
    }

    /// A node, to be changed in its content.
    fn change(&mut self, ino: Ino) -> Result<&mut Node> {
        self.clock += 1;
        let clock = self.clock;
        let node = self.touch(ino)?;
        node.changed = clock;
        node.modified = node.touched;
        Ok(node)
    }

    /// Changes the names of a directory.
    fn change_names(&mut self, directory: Ino, change: impl FnOnce(&mut BTreeMap<String, Ino>)) -> Result<()> {
        match &mut self.change(directory)?.kind {
            Kind::Directory(names, _) => {
                change(Arc::make_mut(names));
                Ok(())
            }
            _ => Err(Errno::NOTDIR),
        }
    }

    /// Makes a node in a directory.
    pub fn make(&mut self, directory: Ino, name: &str, kind: Kind) -> Result<Ino> {
        check_name(name)?;
        if self.node(directory)?.names()?.contains_key(name) {
            return Err(Errno::EXIST);
        }
        self.check_directory(directory)?;
        self.check_count()?;
        let ino = self.next;
        let next = ino.checked_add(1).ok_or(Errno::NOSPC)?;
        let kind = match kind {
            Kind::Directory(..) => Kind::Directory(Arc::default(), directory),
            kind => kind,
        };
        let mut node = Node::new(kind, true);
        self.spend(0, ENTRY + node.size())?;
        self.change_names(directory, |names| {
            names.insert(name.to_owned(), ino);
        })?;
        self.next = next;
        node.changed = self.clock;
        let now = super::now();
        (node.accessed, node.modified, node.touched) = (now, now, now);
        self.own.insert(ino, node);
        Ok(ino)
    }

    /// A further name for a file.
    pub fn link(&mut self, ino: Ino, directory: Ino, name: &str) -> Result<()> {
        check_name(name)?;
        if self.node(ino)?.is_directory() {
            return Err(Errno::PERM);
        }
        if self.node(directory)?.names()?.contains_key(name) {
            return Err(Errno::EXIST);
        }
        self.check_directory(directory)?;
        let node = self.check_writable(ino)?;
        if node.links == 0 {
            return Err(Errno::NOENT);
        }
        if ino < self.base.first_free() || node.links == u32::MAX {
            return Err(Errno::PERM);
        }
        self.spend(0, ENTRY)?;
        self.touch(ino)?.links += 1;
        self.change_names(directory, |names| {
            names.insert(name.to_owned(), ino);
        })
    }

    /// Takes a name away. The node goes when no name and, by `held`, no descriptor leads to it.
    pub fn unlink(&mut self, directory: Ino, name: &str, wanted: Want, held: impl Fn(Ino) -> bool) -> Result<()> {
        let ino = *self.node(directory)?.names()?.get(name).ok_or(Errno::NOENT)?;
        self.check_removable(ino, wanted)?;
        self.check_directory(directory)?;
        self.change_names(directory, |names| {
            names.remove(name);
        })?;
        self.used -= ENTRY.min(self.used);
        let node = self.touch(ino)?;
        node.links = node.links.saturating_sub(1);
        if let Kind::Directory(_, parent) = &mut node.kind {
            // What was above may go before this does.
            *parent = ROOT;
        }
        self.let_go(ino, held(ino));
        Ok(())
    }

    fn check_removable(&self, ino: Ino, wanted: Want) -> Result<()> {
        let node = self.node(ino)?;
        match (&node.kind, wanted) {
            (Kind::Directory(names, _), Want::Directory) if !names.is_empty() => Err(Errno::NOTEMPTY),
            (Kind::Directory(..), Want::File) => Err(Errno::ISDIR),
            (Kind::Directory(..), Want::Directory) | (_, Want::File) => {
                // What is in the base stays there.
                if ino < self.base.first_free() { Err(Errno::ROFS) } else { Ok(()) }
            }
            (_, Want::Directory) => Err(Errno::NOTDIR),
        }
    }

    /// Removes a node without names that nobody holds.
    pub fn let_go(&mut self, ino: Ino, held: bool) {
        if !held
            && self.own.get(&ino).is_some_and(|node| node.links == 0)
            && let Some(node) = self.own.remove(&ino)
        {
            self.used -= node.whole_cost().min(self.used);
        }
    }

    /// Moves a name.
    pub fn rename(&mut self, from: (Ino, &str), to: (Ino, &str), held: impl Fn(Ino) -> bool) -> Result<()> {
        check_name(to.1)?;
        let ino = *self.node(from.0)?.names()?.get(from.1).ok_or(Errno::NOENT)?;
        self.check_directory(from.0)?;
        self.check_directory(to.0)?;
        if ino < self.base.first_free() {
            return Err(Errno::ROFS);
        }
        let is_directory = self.node(ino)?.is_directory();
        if is_directory {
            // Not below itself.
            let mut above = to.0;
            while above != ROOT {
                if above == ino {
                    return Err(Errno::INVAL);
                }
                let Kind::Directory(_, parent) = &self.node(above)?.kind else { return Err(Errno::NOTDIR) };
                above = *parent;
            }
        }
        if let Some(there) = self.node(to.0)?.names()?.get(to.1).copied() {
            if there == ino {
                return Ok(());
            }
            self.unlink(to.0, to.1, if is_directory { Want::Directory } else { Want::File }, &held)?;
        }
        self.change_names(from.0, |names| {
            names.remove(from.1);
        })?;
        self.change_names(to.0, |names| {
            names.insert(to.1.to_owned(), ino);
        })?;
        if let Kind::Directory(_, parent) = &mut self.touch(ino)?.kind {
            *parent = to.0;
        }
        Ok(())
    }

    /// Lets `fill` write `length` bytes of a file at an offset. Beyond its end it grows first, with zeros in
    /// between; what does not fit the limit is refused before anything is written.
    pub fn write(&mut self, ino: Ino, offset: u64, length: u64, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        let end = offset.checked_add(length).ok_or(Errno::FBIG)?;
        if end > self.node(ino)?.size() {
            self.resize(ino, end)?;
        }
        let (offset, end) = (offset as usize, end as usize);
        match &mut self.change(ino)?.kind {
            Kind::File(content) => {
                fill(&mut content.own()[offset..end]);
                Ok(())
            }
            _ => Err(Errno::INVAL),
        }
    }

    /// Makes a file this long.
    pub fn resize(&mut self, ino: Ino, size: u64) -> Result<()> {
        let node = self.check_writable(ino)?;
        let Kind::File(_) = &node.kind else { return Err(Errno::INVAL) };
        let before = node.size();
        if size > i64::MAX as u64 {
            return Err(Errno::FBIG);
        }
        let length = usize::try_from(size).map_err(|_| Errno::FBIG)?;
        self.spend(before, size)?;
        if let Kind::File(content) = &mut self.change(ino)?.kind {
            content.resize(length);
        }
        Ok(())
    }

    /// Sets times, in nanoseconds since 1970: of the last access, and of the last change.
    pub fn set_times(&mut self, ino: Ino, accessed: Option<u64>, modified: Option<u64>) -> Result<()> {
        self.clock += 1;
        let clock = self.clock;
        let node = self.touch(ino)?;
        node.changed = clock;
        node.accessed = accessed.unwrap_or(node.accessed);
        node.modified = modified.unwrap_or(node.modified);
        Ok(())
    }

    /// Gives a file this content and these permission bits. The bytes are copied: they may be a small part of
    /// a large message, which would stay in memory for as long as they do.
    pub fn replace(&mut self, ino: Ino, content: &Bytes, mode: u32) -> Result<()> {
        let node = self.check_writable(ino)?;
        let Kind::File(_) = &node.kind else { return Err(Errno::EXIST) };
        let before = node.size();
        self.spend(before, content.len() as u64)?;
        let node = self.change(ino)?;
        node.kind = Kind::File(Content::Own(Arc::new(content.to_vec())));
        node.mode = mode;
        Ok(())
    }
}

/// Says what is wrong with a name.
pub fn check_name(name: &str) -> Result<()> {
    match name.len() {
        0 => Err(Errno::NOENT),
        1..=MAX_NAME if name == "." || name == ".." || name.contains(['/', '\0']) => Err(Errno::INVAL),
        1..=MAX_NAME => Ok(()),
        _ => Err(Errno::NAMETOOLONG),
    }
}
