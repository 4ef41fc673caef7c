//! Files on their way in: whole, or not at all.

use super::{Place, ROOT};
use crate::container::link::Conversation;
use crate::container::manager::{Containers, Viewer};
use crate::domain::file::{FileFault, FileInfo, FileKind};
use crate::error::{Error, Result};
use bytes::Bytes;
use casemate_guest::protocol::{How, Request};
use sha2::{Digest, Sha256};

/// Links that are followed at most, as the kernel has it.
const LINKS: usize = 40;

/// A file somebody writes.
#[derive(Clone, Debug, Default)]
pub struct FileWrite {
    /// Its path.
    pub path: String,
    /// What becomes of one that is there.
    pub mode: WriteMode,
    /// Permissions of a new one.
    pub permissions: Option<u32>,
    /// Whether to make missing directories.
    pub parents: bool,
    /// Bytes that are to come.
    pub size: Option<u64>,
    /// SHA-256 of them.
    pub digest: Option<[u8; 32]>,
}

/// What becomes of a file that is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteMode {
    /// It is replaced in one step, once all is written.
    #[default]
    Replace,
    /// It is left, and the write fails.
    Create,
    /// The bytes go behind it.
    Append,
    /// The bytes go there; it must be there.
    At(u64),
}

/// A file that is being written. Dropped, nothing of it is seen, but for what was appended or written in place.
pub struct FileWriter {
    place: Place,
    conversation: Conversation,
    hash: Sha256,
    bytes: u64,
    expected: Option<[u8; 32]>,
}

/// What was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// The file as it is now.
    pub file: FileInfo,
    /// Bytes of this call.
    pub bytes: u64,
    /// SHA-256 of them.
    pub digest: [u8; 32],
}

impl Containers {
    /// Begins to write a file.
    pub async fn write_file(&self, container: &str, viewer: &Viewer, write: FileWrite) -> Result<FileWriter> {
        if write.path.is_empty() {
            return Err(Error::invalid("header.path", "is required"));
        }
        let mut place = self.place(container, viewer, "header.path", &write.path).await?;
        let (how, there) = match write.mode {
            // What a link leads to is replaced, not the link.
            WriteMode::Replace => (How::Replace, place.follow().await?),
            WriteMode::Create => (How::CreateOnly, false),
            WriteMode::Append => (How::Append, place.is_there().await?),
            WriteMode::At(offset) if place.is_there().await? => (How::At(offset), true),
            WriteMode::At(_) => return Err(place.faulty(FileFault::NotFound)),
        };
        // The permissions of one that is there stay, unless others are asked for with all of its content.
        let mode = match (write.mode, there) {
            (WriteMode::Replace, true) => write.permissions,
            (_, true) => None,
            (_, false) => write.permissions.or(Some(0o644)),
        };
        let (root, path) = (ROOT.into(), place.path.clone());
        let request = Request::Write { root, path, mode, how, parents: write.parents, size: write.size, sync: false };
        let conversation = place.ask(request).await?;
        Ok(FileWriter { place, conversation, hash: Sha256::new(), bytes: 0, expected: write.digest })
    }
}

impl Place {
    async fn is_there(&self) -> Result<bool> {
        match self.stat(true).await {
            Ok(_) => Ok(true),
            Err(Error::File { fault: FileFault::NotFound, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Goes on to where links lead. Answers whether something is there. Whoever swaps a link meanwhile gains nothing: a
    /// link in the last place is not followed when the file is written.
    async fn follow(&mut self) -> Result<bool> {
        for _ in 0..LINKS {
            match self.stat(false).await {
                Ok(found) if found.kind == FileKind::Link => {
                    let above = self.path.rsplitn(2, |byte| *byte == b'/').nth(1).unwrap_or_default();
                    self.path = match found.target.starts_with(b"/") {
                        true => found.target,
                        false => [above, b"/", &found.target].concat(),
                    };
                }
                Ok(_) => return Ok(true),
                Err(Error::File { fault: FileFault::NotFound, .. }) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Err(self.faulty(FileFault::Links))
    }
}

impl FileWriter {
    /// Writes on. What stands in the way is told at the end.
    pub async fn write(&mut self, data: Bytes) -> Result<()> {
        self.hash.update(&data);
        self.bytes += data.len() as u64;
        if self.conversation.speaker().send(data).await {
            Ok(())
        } else {
            Err(self.place.outcome(&mut self.conversation).await.err().unwrap_or_else(|| self.place.gone()))
        }
    }

    /// That was all: the file is there, whole.
    pub async fn finish(mut self) -> Result<Written> {
        let digest: [u8; 32] = std::mem::take(&mut self.hash).finalize().into();
        if self.expected.is_some_and(|expected| expected != digest) {
            let text = format!("the bytes have the digest {}, and another was announced (digest)", hex::encode(digest));
            // What it left is gone before the caller hears of it.
            self.conversation.give_up().await;
            return Err(self.place.faulty(FileFault::Mismatch(text)));
        }
        self.conversation.speaker().finish();
        self.place.outcome(&mut self.conversation).await?;
        self.place.entry.active();
        let file = self.place.stat(true).await?;
        Ok(Written { file, bytes: self.bytes, digest })
    }
}
