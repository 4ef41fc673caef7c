//! A tree of files in memory: a base that all isolates share, and what one of them changed.
//!
//! Nothing here is a file of the host, so there is nothing to escape to. A node is an inode, found by number;
//! names are in directories. The base is never changed: what an isolate writes goes to its own nodes, and
//! only below directories marked writable.

use super::errno::{Errno, Result};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Number of a node.
pub type Ino = u32;

/// The root directory.
pub const ROOT: Ino = 0;

/// Bytes that a name in a directory counts for, with its node, so that a million empty files are bounded too.
const ENTRY: u64 = 512;

/// Bytes of a name at most.
pub const MAX_NAME: usize = 255;

/// One file, directory or link.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Permission bits; kept, not enforced.
    pub mode: u32,
    /// Time of the last change, in nanoseconds since 1970.
    pub modified: u64,
    /// Names that lead here.
    pub links: u32,
    /// Whether it may be changed.
    pub writable: bool,
    /// Tick of the tree's clock at which it came to be where it is.
    pub made: u64,
    /// Tick of the tree's clock at which it last changed.
    pub changed: u64,
}

/// What a node is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Kind {
    /// Names and their nodes, and the directory above.
    Directory(Arc<BTreeMap<String, Ino>>, Ino),
    /// Bytes.
    File(Content),
    /// The path it leads to.
    Link(String),
    /// The channel to the host.
    Channel,
}

/// The bytes of a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Content {
    /// Of a file that was not written to.
    Shared(Bytes),
    /// Copied once somebody else holds them, too.
    Own(Arc<Vec<u8>>),
}

impl Content {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Content::Shared(bytes) => bytes,
            Content::Own(bytes) => bytes,
        }
    }

    fn own(&mut self) -> &mut Vec<u8> {
        if let Content::Shared(bytes) = self {
            *self = Content::Own(Arc::new(bytes.to_vec()));
        }
        match self {
            Content::Own(bytes) => Arc::make_mut(bytes),
            Content::Shared(_) => unreachable!("it was just made its own"),
        }
    }
}

impl Node {
    fn new(kind: Kind, writable: bool) -> Node {
        Node { kind, mode: 0o644, modified: 0, links: 1, writable, made: 0, changed: 0 }
    }

    fn directory(parent: Ino, writable: bool) -> Node {
        Node { mode: 0o755, ..Node::new(Kind::Directory(Arc::default(), parent), writable) }
    }

    /// Bytes of a file's content; 0 for anything else.
    pub fn size(&self) -> u64 {
        match &self.kind {
            Kind::File(content) => content.bytes().len() as u64,
            Kind::Link(target) => target.len() as u64,
            _ => 0,
        }
    }

    /// What it counts for with the names in it.
    fn whole_cost(&self) -> u64 {
        self.size() + self.names().map_or(0, |names| names.len() as u64 * ENTRY)
    }

    /// The names of a directory.
    pub fn names(&self) -> Result<&Arc<BTreeMap<String, Ino>>> {
        match &self.kind {
            Kind::Directory(names, _) => Ok(names),
            _ => Err(Errno::NOTDIR),
        }
    }
}

/// A base: what every isolate begins with.
#[derive(Debug)]
pub struct Base {
    nodes: Vec<Node>,
}

impl Default for Base {
    fn default() -> Self {
        Base { nodes: vec![Node::directory(ROOT, false)] }
    }
}

impl Base {
    fn add(&mut self, path: &str, node: impl FnOnce(Ino) -> Node) {
        let mut at = ROOT;
        let mut parts = path.split('/').filter(|part| !part.is_empty()).peekable();
        let mut node = Some(node);
        while let Some(part) = parts.next() {
            let next = self.nodes.len() as Ino;
            let Kind::Directory(names, _) = &mut self.nodes[at as usize].kind else { return };
            if let Some(there) = names.get(part) {
                at = *there;
                continue;
            }
            Arc::make_mut(names).insert(part.to_owned(), next);
            let made = match (parts.peek(), node.take()) {
                (None, Some(node)) => node(at),
                (_, later) => {
                    node = later;
                    Node::directory(at, false)
                }
            };
            self.nodes.push(made);
            at = next;
        }
    }

    /// Adds a file that can be read, and the directories on the way to it.
    pub fn file(&mut self, path: &str, content: Bytes) {
        self.add(path, |_| Node::new(Kind::File(Content::Shared(content)), false));
    }

    /// Adds an empty directory below which an isolate may write.
    pub fn scratch(&mut self, path: &str) {
        self.add(path, |parent| Node::directory(parent, true));
    }

    /// Adds the channel to the host.
    pub fn channel(&mut self, path: &str) {
        self.add(path, |_| Node::new(Kind::Channel, true));
    }

    /// Number of the node at a path.
    pub fn find(&self, path: &str) -> Option<Ino> {
        let mut at = ROOT;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let Kind::Directory(names, _) = &self.nodes[at as usize].kind else { return None };
            at = *names.get(part)?;
        }
        Some(at)
    }
}

/// One isolate's tree.
#[derive(Clone, Debug)]
pub struct Tree {
    base: Arc<Base>,
    own: HashMap<Ino, Node>,
    next: Ino,
    used: u64,
    peak: u64,
    limit: u64,
    clock: u64,
}

/// What of a tree is not in its base.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Changes {
    own: Vec<(Ino, Node)>,
    next: Ino,
    clock: u64,
}

impl Tree {
    /// A tree as its base has it, of which `limit` bytes may be changed.
    pub fn new(base: Arc<Base>, limit: u64) -> Tree {
        let next = base.nodes.len() as Ino;
        Tree { base, own: HashMap::new(), next, used: 0, peak: 0, limit, clock: 1 }
    }

    /// All that is not in the base.
    pub fn changes(&self) -> Changes {
        let mut own: Vec<(Ino, Node)> = self.own.iter().map(|(ino, node)| (*ino, node.clone())).collect();
        own.sort_unstable_by_key(|(ino, _)| *ino);
        Changes { own, next: self.next, clock: self.clock }
    }

    /// The tree with these changes. They may come from a damaged file: what does not fit is refused.
    pub fn with(base: Arc<Base>, limit: u64, changes: Changes) -> Result<Tree, &'static str> {
        let mut tree = Tree::new(base, limit);
        let fixed = tree.next;
        if changes.next < fixed {
            return Err("its files belong to another library");
        }
        for (ino, node) in changes.own {
            let known = (ino < fixed && tree.base.nodes[ino as usize].writable) || (fixed..changes.next).contains(&ino);
            if !known || !node.writable {
                return Err("it changes a file that cannot be changed");
            }
            tree.own.insert(ino, node);
        }
        tree.next = changes.next;
        tree.clock = changes.clock;
        for node in tree.own.values() {
            if let Kind::Directory(names, parent) = &node.kind
                && (tree.node(*parent).is_err() || names.values().any(|ino| tree.node(*ino).is_err()))
            {
                return Err("a directory names a file that is not there");
            }
        }
        tree.used = tree.own.values().map(Node::whole_cost).sum();
        tree.peak = tree.used;
        Ok(tree)
    }

    /// Sets what may be changed, in bytes.
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

    /// The tick of now: what changes from here on has a later one.
    pub fn clock(&self) -> u64 {
        self.clock
    }

    /// A node.
    pub fn node(&self, ino: Ino) -> Result<&Node> {
        match self.own.get(&ino) {
            Some(node) => Ok(node),
            None => self.base.nodes.get(ino as usize).ok_or(Errno::NOENT),
        }
    }

    fn spend(&mut self, before: u64, after: u64) -> Result<()> {
        let used = self.used - before.min(self.used) + after;
        if after > before && used > self.limit {
            return Err(Errno::NOSPC);
        }
        self.used = used;
        self.peak = self.peak.max(used);
        Ok(())
    }

    /// A node to be changed.
    fn change(&mut self, ino: Ino) -> Result<&mut Node> {
        self.clock += 1;
        if !self.own.contains_key(&ino) {
            let node = self.node(ino)?;
            if !node.writable {
                return Err(Errno::ROFS);
            }
            let node = node.clone();
            self.spend(0, node.size())?;
            self.own.insert(ino, node);
        }
        let clock = self.clock;
        let node = self.own.get_mut(&ino).ok_or(Errno::NOENT)?;
        if !node.writable {
            return Err(Errno::ROFS);
        }
        node.changed = clock;
        node.modified = super::now();
        Ok(node)
    }

    /// Changes the names of a directory.
    fn rename_in(&mut self, directory: Ino, change: impl FnOnce(&mut BTreeMap<String, Ino>)) -> Result<()> {
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
        let parent = self.node(directory)?;
        if parent.names()?.contains_key(name) {
            return Err(Errno::EXIST);
        }
        if !parent.writable {
            return Err(Errno::ROFS);
        }
        let kind = match kind {
            Kind::Directory(names, _) => Kind::Directory(names, directory),
            kind => kind,
        };
        let mut node = Node::new(kind, true);
        if matches!(node.kind, Kind::Directory(..)) {
            node.mode = 0o755;
        }
        self.spend(0, ENTRY + node.size())?;
        let ino = self.next;
        self.next = ino.checked_add(1).ok_or(Errno::NOSPC)?;
        self.rename_in(directory, |names| {
            names.insert(name.to_owned(), ino);
        })?;
        (node.made, node.changed, node.modified) = (self.clock, self.clock, super::now());
        self.own.insert(ino, node);
        Ok(ino)
    }

    /// A further name for a file.
    pub fn link(&mut self, ino: Ino, directory: Ino, name: &str) -> Result<()> {
        check_name(name)?;
        if matches!(self.node(ino)?.kind, Kind::Directory(..)) {
            return Err(Errno::PERM);
        }
        if self.node(directory)?.names()?.contains_key(name) {
            return Err(Errno::EXIST);
        }
        if !self.node(directory)?.writable {
            return Err(Errno::ROFS);
        }
        self.spend(0, ENTRY)?;
        self.change(ino)?.links += 1;
        self.rename_in(directory, |names| {
            names.insert(name.to_owned(), ino);
        })
    }

    /// Takes a name away. The node goes when no name and, by `held`, no descriptor leads to it.
    pub fn unlink(&mut self, directory: Ino, name: &str, wanted: Want, held: impl Fn(Ino) -> bool) -> Result<()> {
        let ino = *self.node(directory)?.names()?.get(name).ok_or(Errno::NOENT)?;
        match (&self.node(ino)?.kind, wanted) {
            (Kind::Directory(names, _), Want::Directory) if !names.is_empty() => return Err(Errno::NOTEMPTY),
            (Kind::Directory(..), Want::Directory) => {}
            (Kind::Directory(..), Want::File) => return Err(Errno::ISDIR),
            (_, Want::Directory) => return Err(Errno::NOTDIR),
            (_, Want::File) => {}
        }
        if !self.node(directory)?.writable {
            return Err(Errno::ROFS);
        }
        self.rename_in(directory, |names| {
            names.remove(name);
        })?;
        self.used -= ENTRY.min(self.used);
        let node = self.change(ino)?;
        node.links = node.links.saturating_sub(1);
        self.let_go(ino, held(ino));
        Ok(())
    }

    /// Removes a node without names that nobody holds.
    pub fn let_go(&mut self, ino: Ino, held: bool) {
        if !held
            && self.own.get(&ino).is_some_and(|node| node.links == 0)
            && let Some(node) = self.own.remove(&ino)
        {
            self.used -= node.size().min(self.used);
        }
    }

    /// Moves a name.
    pub fn rename(&mut self, from: (Ino, &str), to: (Ino, &str), held: impl Fn(Ino) -> bool) -> Result<()> {
        check_name(to.1)?;
        let ino = *self.node(from.0)?.names()?.get(from.1).ok_or(Errno::NOENT)?;
        if !self.node(from.0)?.writable || !self.node(to.0)?.writable {
            return Err(Errno::ROFS);
        }
        let is_directory = matches!(self.node(ino)?.kind, Kind::Directory(..));
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
            let wanted = if is_directory { Want::Directory } else { Want::File };
            self.unlink(to.0, to.1, wanted, &held)?;
        }
        self.rename_in(from.0, |names| {
            names.remove(from.1);
        })?;
        self.rename_in(to.0, |names| {
            names.insert(to.1.to_owned(), ino);
        })?;
        let clock = self.clock;
        let node = self.change(ino)?;
        node.made = clock;
        if let Kind::Directory(_, parent) = &mut node.kind {
            *parent = to.0;
        }
        Ok(())
    }

    /// Writes into a file and gives how many bytes. Beyond its end it grows, with zeros in between.
    pub fn write(&mut self, ino: Ino, offset: u64, data: &[u8]) -> Result<()> {
        let end = offset.checked_add(data.len() as u64).ok_or(Errno::FBIG)?;
        if end > self.node(ino)?.size() {
            self.resize(ino, end)?;
        }
        let (offset, end) = (usize::try_from(offset).map_err(|_| Errno::FBIG)?, end as usize);
        match &mut self.change(ino)?.kind {
            Kind::File(content) => {
                content.own()[offset..end].copy_from_slice(data);
                Ok(())
            }
            _ => Err(Errno::INVAL),
        }
    }

    /// Makes a file this long.
    pub fn resize(&mut self, ino: Ino, size: u64) -> Result<()> {
        let before = match &self.node(ino)?.kind {
            Kind::File(content) => content.bytes().len() as u64,
            _ => return Err(Errno::INVAL),
        };
        let length = usize::try_from(size).map_err(|_| Errno::FBIG)?;
        // Made ours first: what it costs then is counted.
        self.change(ino)?;
        self.spend(before, size)?;
        if let Kind::File(content) = &mut self.change(ino)?.kind {
            content.own().resize(length, 0);
        }
        Ok(())
    }

    /// Sets the time of the last change.
    pub fn touch(&mut self, ino: Ino, modified: Option<u64>) -> Result<()> {
        let node = self.change(ino)?;
        if let Some(modified) = modified {
            node.modified = modified;
        }
        Ok(())
    }

    /// Puts a file into place with its permission bits.
    pub fn replace(&mut self, ino: Ino, content: Bytes, mode: u32) -> Result<()> {
        let before = self.node(ino)?.size();
        self.change(ino)?;
        self.spend(before, content.len() as u64)?;
        let node = self.change(ino)?;
        node.kind = Kind::File(Content::Shared(content));
        node.mode = mode;
        Ok(())
    }
}

/// What a name is expected to lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// A directory.
    Directory,
    /// Anything else.
    File,
}

fn check_name(name: &str) -> Result<()> {
    match name.len() {
        0 => Err(Errno::NOENT),
        1..=MAX_NAME if name != "." && name != ".." => Ok(()),
        1..=MAX_NAME => Err(Errno::INVAL),
        _ => Err(Errno::NAMETOOLONG),
    }
}
