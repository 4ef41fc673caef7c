//! Writing files.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use casemate_guest::protocol::{Answer, Failure, How, Kind, Stat};
use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, RenameFlags, Uid, fchmod, fchown, fdatasync, fsync, ftruncate, linkat, openat,
    renameat_with, unlinkat,
};
use rustix::io::Errno;
use tokio::task::yield_now;

use super::failure::named;
use super::path::{Root, is_kernels, reopen};
use super::read::check_regular;
use super::state;
use crate::supervisor::channel::Channel;

/// What names of half-written things begin with.
const HALF: &str = ".casemate-";
/// Bytes after which they are brought to the disk, if they are to be there at the end: the guest does nothing else
/// while that takes, so it is done in parts.
const SYNC: u64 = 8 << 20;

/// How a file is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Its permissions.
    pub mode: Option<u32>,
    /// What becomes of one that is there.
    pub how: How,
    /// Whether missing folders are made.
    pub parents: bool,
    /// Bytes that are to come.
    pub size: Option<u64>,
    /// Whether it is brought to the disk.
    pub sync: bool,
}

/// Writes a file.
///
/// # Errors
/// It cannot be written, or other bytes came than were announced.
pub async fn write(channel: &Channel, root: &[u8], path: &[u8], wish: Wish) -> Result<Answer, Failure> {
    let root = Root::open(root)?;
    root.check_name(path)?;
    if wish.parents {
        root.make_parents(path)?;
    }
    let bytes = match wish.how {
        How::Replace | How::CreateOnly => beside(channel, &root, path, wish).await?,
        How::Create | How::Append | How::At(_) => in_place(channel, &root, path, wish).await?,
    };
    Ok(Answer::Written { bytes })
}

async fn in_place(channel: &Channel, root: &Root, path: &[u8], wish: Wish) -> Result<u64, Failure> {
    let append = if wish.how == How::Append { OFlags::APPEND } else { OFlags::empty() };
    let file = match root.find(path, OFlags::PATH) {
        Ok(found) => {
            check_regular(&found)?;
            if is_kernels(&found) {
                return Err(Failure::ReadOnly);
            }
            reopen(&found, OFlags::WRONLY | append)?
        }
        Err(Failure::NotFound) => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK | OFlags::NOCTTY | append;
            let file = root.make(path, flags, Mode::from_raw_mode(0o666))?;
            check_regular(&file)?;
            file
        }
        Err(failure) => return Err(failure),
    };
    if wish.how == How::Create {
        ftruncate(&file, 0).map_err(named)?;
    }
    if let Some(mode) = wish.mode {
        fchmod(&file, permissions(mode)).map_err(named)?;
    }
    let start = if let How::At(offset) = wish.how { offset } else { 0 };
    let bytes = take(channel, &file, start, wish).await?;
    if wish.sync {
        fsync(&file).map_err(named)?;
    }
    Ok(bytes)
}

async fn beside(channel: &Channel, root: &Root, path: &[u8], wish: Wish) -> Result<u64, Failure> {
    let (folder, name) = root.parent_to_change(path)?;
    let there = there(&folder, &name, wish.how)?;
    // Other bytes must not run as somebody else because those before them did.
    let mode = wish.mode.or(there.as_ref().map(|stat| stat.mode & 0o777));
    let half = Half::new(folder, mode.is_some())?;
    let bytes = take(channel, &half.file, 0, wish).await?;
    if let Some(stat) = there {
        // Whoever owned it is to own it still; only root can see to that.
        let _ = fchown(&half.file, Some(Uid::from_raw(stat.user)), Some(Gid::from_raw(stat.group)));
    }
    // Behind the change of the owner, which takes bits away.
    if let Some(mode) = mode {
        fchmod(&half.file, permissions(mode)).map_err(named)?;
    }
    if wish.sync {
        fsync(&half.file).map_err(named)?;
        yield_now().await;
    }
    half.become_whole(&name, wish.how == How::Replace, wish.sync)?;
    Ok(bytes)
}

/// What is known of a file that gives way.
fn there(folder: &OwnedFd, name: &CStr, how: How) -> Result<Option<Stat>, Failure> {
    match state::of(folder, name) {
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(named(error)),
        // Known already: no need to take the bytes first.
        Ok(_) if how == How::CreateOnly => Err(Failure::Exists),
        Ok(stat) => match stat.kind {
            Kind::File => Ok(Some(stat)),
            Kind::Link => Ok(None),
            Kind::Directory => Err(Failure::IsDirectory),
            _ => Err(Failure::NotRegular),
        },
    }
}

/// Writes the channel's bytes; how many they were.
async fn take(channel: &Channel, file: &OwnedFd, start: u64, wish: Wish) -> Result<u64, Failure> {
    let (mut came, mut unsynced) = (0, 0);
    while let Some(bytes) = channel.receive().await {
        let at = start.checked_add(came).ok_or_else(|| Failure::Invalid("an offset that is too large".into()))?;
        came += bytes.len() as u64;
        if wish.size.is_some_and(|size| came > size) {
            return Err(Failure::Size { came });
        }
        write_all(file, &bytes, at)?;
        unsynced += bytes.len() as u64;
        if wish.sync && unsynced >= SYNC {
            unsynced = 0;
            fdatasync(file).map_err(named)?;
        }
        yield_now().await;
    }
    if wish.size.is_some_and(|size| came != size) {
        return Err(Failure::Size { came });
    }
    Ok(came)
}

/// Writes bytes.
///
/// # Errors
/// The kernel's.
pub fn write_all(file: impl AsFd, mut bytes: &[u8], mut at: u64) -> Result<(), Failure> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(&file, bytes, at) {
            Ok(0) => return Err(Failure::NoSpace),
            Ok(written) => {
                bytes = bytes.get(written..).unwrap_or_default();
                at += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(named(error)),
        }
    }
    Ok(())
}

/// Permissions as the kernel takes them.
pub fn permissions(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o7777)
}

/// A name for something half-written.
pub fn half_name() -> CString {
    let mut bytes = [0; 16];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    let name = format!("{HALF}{:032x}", u128::from_ne_bytes(bytes));
    CString::new(name).unwrap_or_default()
}

/// A file that is not there yet, as far as anybody is told. Removed unless it becomes whole.
struct Half {
    folder: OwnedFd,
    name: CString,
    file: OwnedFd,
}

impl Half {
    /// Makes it: for nobody else, if it gets its permissions at the end; or else with those that new files get.
    fn new(folder: OwnedFd, private: bool) -> Result<Self, Failure> {
        let name = half_name();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(if private { 0o600 } else { 0o666 });
        let file = openat(&folder, &name, flags, mode).map_err(named)?;
        Ok(Self { folder, name, file })
    }

    fn become_whole(self, name: &CStr, replace: bool, sync: bool) -> Result<(), Failure> {
        let (folder, own) = (self.folder.as_fd(), self.name.as_c_str());
        let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        match renameat_with(folder, own, folder, name, flags) {
            // Not every file system can do so; each that has links refuses a second of one name.
            Err(Errno::INVAL | Errno::NOSYS) if !replace => {
                linkat(folder, own, folder, name, AtFlags::empty()).map_err(named)?;
            }
            renamed => renamed.map_err(named)?,
        }
        if sync {
            let folder = openat(folder, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
            fsync(folder.map_err(named)?).map_err(named)?;
        }
        Ok(())
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        // Nothing has this name any more if it became whole.
        let _ = unlinkat(&self.folder, &self.name, AtFlags::empty());
    }
}
