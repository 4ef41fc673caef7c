//! Tar archives of files, as a stream.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use casemate_guest::protocol::{Answer, Failure, Kind, Path, Stat};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use tokio::task::yield_now;

use super::SLICE;
use super::failure::named;
use super::path::{Root, reopen};
use super::read::{open_regular, read_at};
use super::state;
use super::tar::{self, BLOCK, Head};
use super::walk::{DEPTH, Walk, join};
use crate::supervisor::channel::Channel;

/// Zeros to fill the last block of a file with, and to end an archive with.
const ZEROS: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// Packs files and folders.
///
/// # Errors
/// Something is not there, may not be read, or became shorter meanwhile.
pub async fn pack(channel: &Channel, root: &[u8], paths: &[Path]) -> Result<Answer, Failure> {
    let root = Root::open(root)?;
    let mut archive = Archive { channel, buffer: Vec::new(), entries: 0, skipped: 0 };
    for path in paths {
        let name = name(path);
        if name.split(|byte| *byte == b'/').any(|part| part == b"..") {
            return Err(Failure::Invalid("a path that cannot be a name in an archive".into()));
        }
        let nofollow = if name.is_empty() { OFlags::empty() } else { OFlags::NOFOLLOW };
        let found = root.find(path, OFlags::PATH | nofollow)?;
        let mut stat = state::of_open(&found).map_err(named)?;
        if !name.is_empty() {
            let folder = root.parent(path)?;
            if stat.kind == Kind::Link {
                stat = state::of(&folder.0, &folder.1).map_err(named)?;
            }
            archive.add(&name, &stat, &found).await?;
        }
        if stat.kind == Kind::Directory {
            let folder = reopen(&found, OFlags::RDONLY | OFlags::DIRECTORY)?;
            archive.add_below(&name, folder).await?;
        }
    }
    archive.buffer.extend_from_slice(&ZEROS);
    archive.send().await;
    Ok(Answer::Packed { entries: archive.entries, skipped: archive.skipped })
}

/// The name in the archive: the path without what means nothing in it.
fn name(path: &[u8]) -> Vec<u8> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    parts.collect::<Vec<_>>().join(&b'/')
}

struct Archive<'a> {
    channel: &'a Channel,
    buffer: Vec<u8>,
    entries: u64,
    skipped: u64,
}

impl Archive<'_> {
    async fn add_below(&mut self, name: &[u8], folder: OwnedFd) -> Result<(), Failure> {
        let mut walk = Walk::new(folder, DEPTH, true);
        while let Some(found) = walk.next().await? {
            let opened = walk.folder().map(|folder| open(folder, &found.name));
            match opened {
                Some(Ok(file)) => self.add(&join(name, &found.path), &found.stat, &file).await?,
                // Gone since it was found.
                Some(Err(Errno::NOENT)) | None => {}
                Some(Err(error)) => return Err(named(error)),
            }
        }
        Ok(())
    }

    /// Adds one that is open as a path.
    async fn add(&mut self, name: &[u8], stat: &Stat, found: &OwnedFd) -> Result<(), Failure> {
        let mut head = Head {
            kind: tar::Kind::File,
            path: name.to_vec(),
            target: stat.target.clone().unwrap_or_default(),
            mode: stat.mode,
            user: stat.user.into(),
            group: stat.group.into(),
            size: 0,
            modified: stat.modified.div_euclid(1_000_000_000),
        };
        match stat.kind {
            Kind::File => {
                let (file, stat) = open_regular(found)?;
                head.size = stat.size;
                self.begin(&head).await;
                self.add_bytes(&file, stat.size).await?;
            }
            Kind::Directory => {
                head.kind = tar::Kind::Directory;
                head.path.push(b'/');
                self.begin(&head).await;
            }
            Kind::Link => {
                head.kind = tar::Kind::Link;
                self.begin(&head).await;
            }
            Kind::Fifo | Kind::Socket | Kind::Device => self.skipped += 1,
        }
        yield_now().await;
        Ok(())
    }

    async fn begin(&mut self, head: &Head) {
        self.entries += 1;
        self.buffer.extend_from_slice(&head.encode());
        if self.buffer.len() >= SLICE {
            self.send().await;
        }
    }

    async fn add_bytes(&mut self, file: &OwnedFd, size: u64) -> Result<(), Failure> {
        let mut sent = 0;
        while sent < size {
            let length = usize::try_from(size - sent).unwrap_or(SLICE).min(SLICE);
            let bytes = read_at(file, sent, length)?;
            if bytes.is_empty() {
                return Err(Failure::Shrank { sent });
            }
            sent += bytes.len() as u64;
            self.buffer.extend_from_slice(&bytes);
            if self.buffer.len() >= SLICE {
                self.send().await;
                yield_now().await;
            }
        }
        let padding = (size.next_multiple_of(BLOCK as u64) - size) as usize;
        self.buffer.extend_from_slice(&ZEROS[..padding]);
        Ok(())
    }

    async fn send(&mut self) {
        self.channel.send_all(Bytes::from(std::mem::take(&mut self.buffer))).await;
    }
}

fn open(folder: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    openat(folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}
