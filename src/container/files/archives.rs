//! Archives on their way in: unpacked as a whole, or not at all.

use super::{Place, ROOT};
use crate::container::link::Conversation;
use crate::container::manager::{Containers, Viewer};
use crate::domain::file::FileFault;
use crate::error::{Error, Result};
use bytes::Bytes;
use casemate_guest::protocol::{Answer, Limits, Request};
use sha2::{Digest, Sha256};

pub use casemate_guest::protocol::{Conflict as ArchiveConflict, Format as ArchiveFormat};

/// An archive somebody unpacks.
#[derive(Clone, Debug)]
pub struct ArchiveUpload {
    /// The directory below which it is unpacked; empty for the workspace.
    pub path: String,
    /// What it is; told by its first bytes if none.
    pub format: Option<ArchiveFormat>,
    /// What becomes of files that are there.
    pub conflict: ArchiveConflict,
    /// Whether to make the directory, and missing ones above it.
    pub parents: bool,
    /// Leading elements that are taken off each name.
    pub strip: u32,
    /// What was announced.
    pub announced: Announced,
}

/// What somebody says of the bytes of an archive before they come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Announced {
    /// How many they are.
    pub size: Option<u64>,
    /// SHA-256 of them.
    pub digest: Option<[u8; 32]>,
}

/// The bytes of an archive as they come, held against what was announced.
#[derive(Clone, Default)]
pub struct Arrival {
    hash: Sha256,
    bytes: u64,
    announced: Announced,
}

/// An archive that is being unpacked. Dropped, nothing of it is seen.
pub struct ArchiveWriter {
    place: Place,
    conversation: Conversation,
    arrival: Arrival,
}

/// What was unpacked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unpacked {
    /// Files that are new.
    pub files: u64,
    /// Directories that are new.
    pub directories: u64,
    /// Links that are new.
    pub links: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Entries that were skipped.
    pub skipped: u64,
    /// SHA-256 of the archive.
    pub digest: [u8; 32],
}

impl Arrival {
    /// Waits for these.
    pub fn new(announced: Announced) -> Arrival {
        Arrival { announced, ..Arrival::default() }
    }

    /// Takes the next bytes.
    pub fn take(&mut self, data: &[u8]) -> Result<(), FileFault> {
        self.hash.update(data);
        self.bytes += data.len() as u64;
        match self.announced.size {
            // No need to wait for the end.
            Some(size) if self.bytes > size => Err(self.other_size(size)),
            _ => Ok(()),
        }
    }

    /// That was all: the digest of it.
    pub fn check(&mut self) -> Result<[u8; 32], FileFault> {
        if let Some(size) = self.announced.size.filter(|size| self.bytes != *size) {
            return Err(self.other_size(size));
        }
        let digest: [u8; 32] = std::mem::take(&mut self.hash).finalize().into();
        if self.announced.digest.is_some_and(|announced| announced != digest) {
            let found = hex::encode(digest);
            let text = format!("the archive has the digest {found}, and another was announced (header.digest)");
            return Err(FileFault::Mismatch(text));
        }
        Ok(digest)
    }

    fn other_size(&self, size: u64) -> FileFault {
        FileFault::Mismatch(format!("{} bytes came, and {size} were announced (header.size_bytes)", self.bytes))
    }
}

impl Containers {
    /// Begins to unpack an archive.
    pub async fn upload_archive(
        &self,
        container: &str,
        viewer: &Viewer,
        upload: ArchiveUpload,
    ) -> Result<ArchiveWriter> {
        let place = self.place(container, viewer, "header.path", &upload.path).await?;
        self.unpack_at(place, upload).await
    }

    /// Begins to unpack an archive there.
    pub(in crate::container) async fn unpack_at(
        &self,
        mut place: Place,
        upload: ArchiveUpload,
    ) -> Result<ArchiveWriter> {
        if place.path.len() > 1 && place.path.ends_with(b"/") {
            place.path.pop();
        }
        let request = Request::Unpack {
            root: ROOT.into(),
            path: place.path.clone(),
            parents: upload.parents,
            format: upload.format,
            conflict: upload.conflict,
            strip: upload.strip,
            limits: Limits { entries: self.config.archive_entries, bytes: self.config.archive_bytes },
        };
        let conversation = place.ask(request).await?;
        Ok(ArchiveWriter { place, conversation, arrival: Arrival::new(upload.announced) })
    }
}

impl ArchiveWriter {
    /// Sends on. What stands in the way is told at the end.
    pub async fn write(&mut self, data: Bytes) -> Result<()> {
        if let Err(fault) = self.arrival.take(&data) {
            self.conversation.give_up().await;
            return Err(self.place.faulty(fault));
        }
        if self.conversation.speaker().send(data).await {
            Ok(())
        } else {
            Err(self.place.outcome(&mut self.conversation).await.err().unwrap_or_else(|| self.place.gone()))
        }
    }

    /// That was all: what is in it is there.
    pub async fn finish(mut self) -> Result<Unpacked> {
        let digest = match self.arrival.check() {
            Ok(digest) => digest,
            Err(fault) => {
                // What it left is gone before the caller hears of it.
                self.conversation.give_up().await;
                return Err(self.place.faulty(fault));
            }
        };
        self.conversation.speaker().finish();
        let answer = self.place.outcome(&mut self.conversation).await?;
        self.place.entry.active();
        let Answer::Unpacked { files, directories, links, bytes, skipped } = answer else {
            return Err(Error::Internal(format!("a supervisor unpacked an archive with {answer:?}")));
        };
        Ok(Unpacked { files, directories, links, bytes, skipped, digest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_held_against_what_was_announced() {
        let digest = Some(Sha256::digest(b"abc").into());
        let arrive = |announced, parts: &[&[u8]]| {
            let mut arrival = Arrival::new(announced);
            parts.iter().try_for_each(|part| arrival.take(part))?;
            arrival.check()
        };
        assert_eq!(arrive(Announced { size: Some(3), digest }, &[b"a", b"bc"]).ok(), digest);
        assert!(arrive(Announced { size: Some(2), digest: None }, &[b"abc"]).is_err());
        assert!(arrive(Announced { size: Some(4), digest: None }, &[b"abc"]).is_err());
        assert!(arrive(Announced { size: None, digest }, &[b"abd"]).is_err());
        arrive(Announced::default(), &[]).unwrap();
    }
}
