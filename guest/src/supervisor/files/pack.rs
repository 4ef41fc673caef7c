//! Tar archives of files, as a stream.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use casemate_guest::protocol::{Answer, Failure, Kind, Limits, OMITTED, OMITTED_BYTES, Path, Stat};
use rustix::fs::{Access, AtFlags, Mode, OFlags, accessat, openat};
use rustix::io::Errno;
use tokio::task::yield_now;

use super::SLICE;
use super::failure::named;
use super::path::{Root, is_kernels, reopen};
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
/// Something is not there, became shorter meanwhile, or is more than the limits.
pub async fn pack(channel: &Channel, root: &[u8], paths: &[Path], limits: Limits) -> Result<Answer, Failure> {
    let root = Root::open(root)?;
    let omitted = Omitted { paths: Vec::new(), bytes: 0 };
    let mut archive = Archive { channel, buffer: Vec::new(), limits, entries: 0, bytes: 0, omitted };
    for path in paths {
        let name = name(path);
        if name.split(|byte| *byte == b'/').any(|part| part == b"..") {
            return Err(Failure::Invalid("a path that cannot be a name in an archive".into()));
        }
        let nofollow = if name.is_empty() { OFlags::empty() } else { OFlags::NOFOLLOW };
        let found = root.find(path, OFlags::PATH | nofollow)?;
        let mut stat = state::of_open(&found).map_err(named)?;
        if stat.kind == Kind::Link {
            let folder = root.parent(path)?;
            stat = state::of(&folder.0, &folder.1).map_err(named)?;
        }
        let goes_on = archive.add(&name, &stat, &found).await?;
        if goes_on && stat.kind == Kind::Directory {
            let folder = reopen(&found, OFlags::RDONLY | OFlags::DIRECTORY)?;
            archive.add_below(&name, folder).await?;
        }
    }
    archive.buffer.extend_from_slice(&ZEROS);
    archive.send().await;
    Ok(Answer::Packed { entries: archive.entries, bytes: archive.bytes, omitted: archive.omitted.paths })
}

/// The name in the archive: the path without what means nothing in it.
fn name(path: &[u8]) -> Vec<u8> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    parts.collect::<Vec<_>>().join(&b'/')
}

struct Archive<'a> {
    channel: &'a Channel,
    buffer: Vec<u8>,
    limits: Limits,
    entries: u64,
    bytes: u64,
    omitted: Omitted,
}

/// What was left out, as far as it is told.
struct Omitted {
    paths: Vec<Path>,
    bytes: usize,
}

impl Omitted {
    fn add(&mut self, name: &[u8]) {
        if self.paths.len() < OMITTED && self.bytes + name.len() <= OMITTED_BYTES {
            self.bytes += name.len();
            self.paths.push(name.to_vec());
        }
    }
}

impl Archive<'_> {
    async fn add_below(&mut self, name: &[u8], folder: OwnedFd) -> Result<(), Failure> {
        let mut walk = Walk::new(folder, DEPTH, true);
        while let Some(found) = walk.next().await? {
            let opened = walk.folder().map(|folder| open(folder, &found.name));
            match opened {
                Some(Ok(file)) => {
                    if !self.add(&join(name, &found.path), &found.stat, &file).await? {
                        walk.pass();
                    }
                }
                // Gone since it was found.
                Some(Err(Errno::NOENT)) | None => {}
                Some(Err(error)) => return Err(named(error)),
            }
        }
        Ok(())
    }

    /// Adds one that is open as a path. Whether it is in the archive now.
    async fn add(&mut self, name: &[u8], stat: &Stat, found: &OwnedFd) -> Result<bool, Failure> {
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
        yield_now().await;
        match stat.kind {
            Kind::File if !is_kernels(found) => {
                let (file, stat) = match open_regular(found) {
                    Err(Failure::NotPermitted) => return Ok(self.omit(name)),
                    opened => opened?,
                };
                head.size = stat.size;
                self.bytes = self.bytes.saturating_add(stat.size);
                if self.bytes > self.limits.bytes {
                    return Err(Failure::MoreBytes);
                }
                self.begin(&head).await?;
                self.add_bytes(&file, stat.size).await?;
            }
            Kind::Directory if !is_kernels(found) && may_enter(found)? => {
                head.kind = tar::Kind::Directory;
                head.path.push(b'/');
                // The root itself has no name.
                if !name.is_empty() {
                    self.begin(&head).await?;
                }
            }
            Kind::Link => {
                head.kind = tar::Kind::Link;
                self.begin(&head).await?;
            }
            _ => return Ok(self.omit(name)),
        }
        Ok(true)
    }

    /// Leaves one out, with all below it.
    fn omit(&mut self, name: &[u8]) -> bool {
        self.omitted.add(name);
        false
    }

    async fn begin(&mut self, head: &Head) -> Result<(), Failure> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(Failure::MoreEntries);
        }
        self.buffer.extend_from_slice(&head.encode());
        if self.buffer.len() >= SLICE {
            self.send().await;
        }
        Ok(())
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

/// Whether all that is in a folder can be found.
fn may_enter(folder: &OwnedFd) -> Result<bool, Failure> {
    match accessat(folder, c".", Access::READ_OK | Access::EXEC_OK, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::ACCESS | Errno::PERM) => Ok(false),
        Err(error) => Err(named(error)),
    }
}
