//! Files, directories and links as data, and the base that all isolates share.

use super::errno::{Errno, Result};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// Number of a node.
pub type Ino = u32;

/// The root directory.
pub const ROOT: Ino = 0;

/// Bytes that a name in a directory counts for, with its node, so that a million empty files are bounded too.
pub const ENTRY: u64 = 512;

/// Bytes that a file may hold beyond its content without giving them back.
const SLACK: usize = 512;

/// The names in a directory.
pub type Names = Arc<BTreeMap<String, Ino>>;

/// One file, directory or link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Permission bits; kept, not enforced.
    pub mode: u32,
    /// Time of the last access as far as a guest set one, in nanoseconds since 1970. Reading does not change it.
    pub accessed: u64,
    /// Time of the last change of its content, in nanoseconds since 1970.
    pub modified: u64,
    /// Time of the last change of anything about it, in nanoseconds since 1970.
    pub touched: u64,
    /// Names that lead here.
    pub links: u32,
    /// Whether it may be changed.
    pub writable: bool,
    /// Tick of the tree's clock at which its content or times last changed.
    pub changed: u64,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Kind {
    /// Names and their nodes, and the directory above.
    Directory(Names, Ino),
    /// Bytes.
    File(Content),
    /// The path it leads to.
    Link(String),
    /// The channel to the host.
    Channel,
}

/// The bytes of a file.
#[derive(Clone, Debug)]
pub enum Content {
    /// Of a file that was not written to.
    Shared(Bytes),
    /// Copied once somebody else holds them, too.
    Own(Arc<Vec<u8>>),
}

impl Default for Content {
    fn default() -> Self {
        Content::Shared(Bytes::new())
    }
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

// By itself a vector is written byte by byte, which takes ten times as long.
impl Serialize for Content {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.bytes())
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Bytes::deserialize(deserializer).map(Content::Shared)
    }
}

impl Content {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Content::Shared(bytes) => bytes,
            Content::Own(bytes) => bytes,
        }
    }

    /// The bytes, to be changed.
    pub fn own(&mut self) -> &mut [u8] {
        if let Content::Shared(bytes) = self {
            *self = Content::Own(Arc::new(bytes.to_vec()));
        }
        match self {
            Content::Own(bytes) => Arc::make_mut(bytes).as_mut_slice(),
            Content::Shared(_) => unreachable!("it was just made its own"),
        }
    }

    /// Makes it this long, with zeros at the end. What it occupies stays within half as much again: a vector
    /// alone would double, and would keep the room of what was cut off.
    pub fn resize(&mut self, length: usize) {
        let mut own = match std::mem::take(self) {
            Content::Own(bytes) => match Arc::try_unwrap(bytes) {
                Ok(own) => own,
                Err(bytes) => copy(&bytes, length),
            },
            Content::Shared(bytes) => copy(&bytes, length),
        };
        if length > own.capacity() {
            own.reserve_exact((length - own.len()).max(own.len() / 4));
        }
        own.resize(length, 0);
        if own.capacity() > length + length / 2 + SLACK {
            own.shrink_to_fit();
        }
        *self = Content::Own(Arc::new(own));
    }
}

/// The bytes, as far as `length` goes, with room for the rest of it.
fn copy(bytes: &[u8], length: usize) -> Vec<u8> {
    let mut own = Vec::with_capacity(length);
    own.extend_from_slice(&bytes[..length.min(bytes.len())]);
    own
}

impl Node {
    /// A node with one name.
    pub fn new(kind: Kind, writable: bool) -> Node {
        let mode = if matches!(kind, Kind::Directory(..)) { 0o755 } else { 0o644 };
        Node { kind, mode, accessed: 0, modified: 0, touched: 0, links: 1, writable, changed: 0 }
    }

    /// An empty directory.
    pub fn directory(parent: Ino, writable: bool) -> Node {
        Node::new(Kind::Directory(Arc::default(), parent), writable)
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory(..))
    }

    /// Bytes of a file's content or of a link's target; 0 for anything else.
    pub fn size(&self) -> u64 {
        match &self.kind {
            Kind::File(content) => content.bytes().len() as u64,
            Kind::Link(target) => target.len() as u64,
            _ => 0,
        }
    }

    /// What it counts for with the names in it.
    pub fn whole_cost(&self) -> u64 {
        self.size() + self.names().map_or(0, |names| names.len() as u64 * ENTRY)
    }

    /// The names of a directory.
    pub fn names(&self) -> Result<&Names> {
        match &self.kind {
            Kind::Directory(names, _) => Ok(names),
            _ => Err(Errno::NOTDIR),
        }
    }
}

/// A part of a base. Each counts its nodes from a place of its own, so that what one part holds changes no
/// number of another, nor of what an isolate made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What comes with the interpreter.
    Library = 0,
    /// What the operator adds for all isolates. It may change from one start of the server to the next under
    /// states that were frozen before.
    Packages = 1,
    /// What a snapshot adds.
    Snapshot = 2,
}

/// Parts of a base.
const PARTS: usize = 3;

/// Bits of a number that count within a part.
const PART_BITS: u32 = 24;

/// A base: what every isolate begins with. A clone shares the parts that it does not change.
#[derive(Clone, Debug)]
pub struct Base {
    parts: [Arc<Vec<Node>>; PARTS],
    digest: OnceLock<[u8; 16]>,
}

impl Default for Base {
    fn default() -> Self {
        let library = vec![Node::directory(ROOT, false)];
        Base { parts: [library.into(), Arc::default(), Arc::default()], digest: OnceLock::new() }
    }
}

impl Part {
    /// Number of its first node, which is its own root.
    fn root(self) -> Ino {
        (self as Ino) << PART_BITS
    }
}

impl Base {
    fn add(&mut self, part: Part, path: &str, node: impl FnOnce(Ino) -> Node) {
        self.digest.take();
        let mut at = part.root();
        let mut names = path.split('/').filter(|name| !name.is_empty()).peekable();
        let mut node = Some(node);
        let nodes = Arc::make_mut(&mut self.parts[part as usize]);
        while let Some(name) = names.next() {
            let next = part.root() + nodes.len() as Ino;
            let index = (at - part.root()) as usize;
            let Some(Kind::Directory(there, _)) = nodes.get_mut(index).map(|node| &mut node.kind) else { return };
            if let Some(there) = there.get(name) {
                at = *there;
                continue;
            }
            Arc::make_mut(there).insert(name.to_owned(), next);
            let made = match (names.peek(), node.take()) {
                (None, Some(node)) => node(at),
                (_, later) => {
                    node = later;
                    let modified = nodes[0].modified;
                    Node { modified, ..Node::directory(at, false) }
                }
            };
            nodes.push(made);
            at = next;
        }
    }

    /// Adds a file that can be read, and the directories on the way to it. What is there already stays.
    pub fn file(&mut self, path: &str, content: Bytes) {
        self.add(Part::Library, path, |_| Node::new(Kind::File(Content::Shared(content)), false));
    }

    /// Adds an empty directory below which an isolate may write.
    pub fn scratch(&mut self, path: &str) {
        self.add(Part::Library, path, |parent| Node::directory(parent, true));
    }

    /// Adds the channel to the host.
    pub fn channel(&mut self, path: &str) {
        self.add(Part::Library, path, |_| Node::new(Kind::Channel, true));
    }

    /// Adds an empty directory that another part of the base will fill.
    pub fn mount(&mut self, path: &str, part: Part) {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        self.add(Part::Library, directory, |parent| Node::directory(parent, false));
        let Some(directory) = self.find(directory) else { return };
        let library = Arc::make_mut(&mut self.parts[Part::Library as usize]);
        if let Some(Kind::Directory(names, _)) = library.get_mut(directory as usize).map(|node| &mut node.kind) {
            Arc::make_mut(names).insert(name.to_owned(), part.root());
            self.parts[part as usize] = vec![Node::directory(directory, false)].into();
        }
    }

    /// Fills the directory of a part with files, by their paths in it. `modified` is the time of the last change
    /// of all of it, in nanoseconds since 1970: whoever remembers an empty directory sees by it that there is
    /// something now.
    pub fn fill(&mut self, part: Part, files: impl IntoIterator<Item = (String, Bytes)>, modified: u64) {
        if let Some(root) = Arc::make_mut(&mut self.parts[part as usize]).first_mut() {
            root.modified = modified;
        }
        for (path, content) in files {
            self.add(part, &path, |_| Node { modified, ..Node::new(Kind::File(Content::Shared(content)), false) });
        }
    }

    /// A node, by its number.
    pub fn node(&self, ino: Ino) -> Option<&Node> {
        let part = self.parts.get((ino >> PART_BITS) as usize)?;
        part.get((ino & ((1 << PART_BITS) - 1)) as usize)
    }

    /// The number that no node of a base has, nor any above it: those of an isolate begin here.
    pub fn first_free(&self) -> Ino {
        (PARTS as Ino) << PART_BITS
    }

    /// Number of the node at a path.
    pub fn find(&self, path: &str) -> Option<Ino> {
        let mut at = ROOT;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            at = *self.node(at)?.names().ok()?.get(part)?;
        }
        Some(at)
    }

    /// Tells one base from another by their names, numbers and sizes: what was frozen over one refers to its
    /// nodes by number. The operator's packages do not count: they may change, and nothing of them is frozen but
    /// descriptors of files that are open.
    pub fn digest(&self) -> [u8; 16] {
        *self.digest.get_or_init(|| {
            let mut hasher = Sha256::new();
            for part in [Part::Library, Part::Snapshot] {
                let nodes = &self.parts[part as usize];
                hasher.update((nodes.len() as u64).to_le_bytes());
                nodes.iter().for_each(|node| digest_node(&mut hasher, node));
            }
            let mut digest = [0; 16];
            digest.copy_from_slice(&hasher.finalize()[..16]);
            digest
        })
    }
}

fn digest_node(hasher: &mut Sha256, node: &Node) {
    let kind = match &node.kind {
        Kind::Directory(..) => 0,
        Kind::File(_) => 1,
        Kind::Link(_) => 2,
        Kind::Channel => 3_u8,
    };
    hasher.update([kind, u8::from(node.writable)]);
    hasher.update(node.size().to_le_bytes());
    let names = node.names().map(|names| names.iter()).into_iter().flatten();
    for (name, ino) in names {
        hasher.update((name.len() as u32).to_le_bytes());
        hasher.update(name);
        hasher.update(ino.to_le_bytes());
    }
}
