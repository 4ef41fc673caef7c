//! The table of open files.

use super::errno::{Errno, Result};
use super::tree::{Base, Ino, ROOT, Tree};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Descriptors that may be open at a time.
const MAX_OPEN: u32 = 256;

/// An open file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Descriptor {
    /// Standard input.
    Input,
    /// Standard output.
    Output,
    /// Standard error.
    Error,
    /// A directory; its listing is fixed when it is read from the start.
    Directory {
        /// The node.
        ino: Ino,
        /// The name it was open under from the start.
        preopen: Option<String>,
        /// What is listed now.
        listing: Option<Arc<Vec<(String, Ino)>>>,
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
#[derive(Clone, Debug, Serialize, Deserialize)]
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

/// What is open, by number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Table {
    open: BTreeMap<u32, Descriptor>,
}

impl Table {
    /// The standard streams and the directories that are open from the start.
    pub fn new(base: &Base, preopens: &[(String, String)]) -> Table {
        let mut open = BTreeMap::from([(0, Descriptor::Input), (1, Descriptor::Output), (2, Descriptor::Error)]);
        for (at, (name, path)) in (3..).zip(preopens) {
            let ino = base.find(path).unwrap_or(ROOT);
            open.insert(at, Descriptor::Directory { ino, preopen: Some(name.clone()), listing: None });
        }
        Table { open }
    }

    /// Whether every node that is open is there.
    pub fn fits(&self, tree: &Tree) -> bool {
        self.open.len() <= MAX_OPEN as usize
            && self.open.values().all(|descriptor| descriptor.ino().is_none_or(|ino| tree.node(ino).is_ok()))
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
