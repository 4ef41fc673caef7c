//! The table of open files.

use super::errno::{Errno, Result};
use super::node::{Base, Ino, Kind, ROOT};
use super::tree::Tree;
use super::{MAX_ANSWER, MAX_FRAME};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Descriptors that may be open at a time.
const MAX_OPEN: u32 = 256;

/// Channels to the host that may be open at a time: each can hold a large message.
const MAX_CHANNELS: usize = 4;

/// An open file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Descriptor {
    /// Standard input.
    Input,
    /// Standard output.
    Output,
    /// Standard error.
    Error,
    /// A directory.
    Directory {
        /// The node.
        ino: Ino,
        /// The name it was open under from the start.
        preopen: Option<String>,
        /// Where its reader stands.
        reader: Reader,
    },
    /// A file.
    File(OpenFile),
    /// The channel to the host: what was written of a request, and what is left of its answer.
    Channel {
        /// Bytes written.
        request: Vec<u8>,
        /// Bytes to be read.
        answer: Bytes,
    },
}

/// A file that is open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenFile {
    /// The node.
    pub ino: Ino,
    /// Where the next byte is read or written.
    pub position: u64,
    /// `fdflags`, of which append counts.
    pub flags: u16,
    /// Whether it was opened for reading.
    pub read: bool,
    /// Whether it was opened for writing.
    pub write: bool,
}

/// Where the reader of a directory stands: names by the cookies after which it may go on. By name rather than
/// by number, so that what is made or removed meanwhile makes it miss or repeat nothing else; and only two, so
/// that an open directory takes no memory worth counting.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reader {
    /// Where the last part of the listing began.
    pub began: (u64, String),
    /// Where it ended.
    pub ended: (u64, String),
}

/// What is open, by number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    open: BTreeMap<u32, Descriptor>,
}

impl Table {
    /// The standard streams and the directories that are open from the start.
    pub fn new(base: &Base, preopens: &[(String, String)]) -> Table {
        let mut open = BTreeMap::from([(0, Descriptor::Input), (1, Descriptor::Output), (2, Descriptor::Error)]);
        for (at, (name, path)) in (3..).zip(preopens) {
            let ino = base.find(path).unwrap_or(ROOT);
            open.insert(at, Descriptor::Directory { ino, preopen: Some(name.clone()), reader: Reader::default() });
        }
        Table { open }
    }

    /// Whether everything that is open is there and is what it is taken for.
    pub fn fits(&self, tree: &Tree) -> bool {
        let fits = |descriptor: &Descriptor| match descriptor {
            Descriptor::Input | Descriptor::Output | Descriptor::Error => true,
            Descriptor::Directory { ino, .. } => tree.node(*ino).is_ok_and(|node| node.is_directory()),
            Descriptor::File(file) => tree.node(file.ino).is_ok_and(|node| {
                matches!(node.kind, Kind::File(_))
                    && (node.writable || !file.write)
                    && i64::try_from(file.position).is_ok()
            }),
            Descriptor::Channel { request, answer } => request.len() <= MAX_FRAME + 4 && answer.len() <= MAX_ANSWER + 4,
        };
        self.open.keys().all(|fd| *fd < MAX_OPEN) && self.channels() <= MAX_CHANNELS && self.open.values().all(fits)
    }

    fn channels(&self) -> usize {
        self.open.values().filter(|descriptor| matches!(descriptor, Descriptor::Channel { .. })).count()
    }

    /// Makes sure that one more can be opened, before that has any effect.
    pub fn check_room(&self, channel: bool) -> Result<()> {
        if self.open.len() >= MAX_OPEN as usize {
            Err(Errno::MFILE)
        } else if channel && self.channels() >= MAX_CHANNELS {
            Err(Errno::BUSY)
        } else {
            Ok(())
        }
    }

    /// An open file.
    pub fn get(&mut self, fd: u32) -> Result<&mut Descriptor> {
        self.open.get_mut(&fd).ok_or(Errno::BADF)
    }

    /// Opens under the lowest free number.
    pub fn add(&mut self, descriptor: Descriptor) -> Result<u32> {
        let fd = (0..MAX_OPEN).find(|fd| !self.open.contains_key(fd)).ok_or(Errno::MFILE)?;
        self.open.insert(fd, descriptor);
        Ok(fd)
    }

    /// Closes; gives what was open.
    pub fn close(&mut self, fd: u32) -> Result<Descriptor> {
        self.open.remove(&fd).ok_or(Errno::BADF)
    }

    /// Moves a descriptor over another one; gives what was closed by that.
    pub fn renumber(&mut self, from: u32, to: u32) -> Result<Option<Descriptor>> {
        if !self.open.contains_key(&to) {
            return Err(Errno::BADF);
        }
        let moved = self.close(from)?;
        Ok(self.open.insert(to, moved).filter(|_| from != to))
    }

    /// Whether a descriptor leads to the node.
    pub fn holds(&self, ino: Ino) -> bool {
        self.open.values().any(|descriptor| descriptor.ino() == Some(ino))
    }
}

impl Descriptor {
    /// The node it leads to, if it is one that can go away.
    pub fn ino(&self) -> Option<Ino> {
        match self {
            Descriptor::File(file) => Some(file.ino),
            Descriptor::Directory { ino, .. } => Some(*ino),
            _ => None,
        }
    }

    /// The file.
    pub fn file(&mut self) -> Result<&mut OpenFile> {
        match self {
            Descriptor::File(file) => Ok(file),
            Descriptor::Directory { .. } => Err(Errno::ISDIR),
            _ => Err(Errno::SPIPE),
        }
    }
}
