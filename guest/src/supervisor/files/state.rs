//! What the server is told about a file.

use std::ffi::CStr;
use std::os::fd::AsFd;

use casemate_guest::protocol::{Kind, Stat};
use rustix::fs::{AtFlags, FileType, readlinkat, statat};
use rustix::io::Errno;

/// What is known of a file in a folder; of the folder itself if the name is empty. Links are not followed.
///
/// # Errors
/// The kernel's.
pub fn of(folder: impl AsFd, name: &CStr) -> Result<Stat, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    let mut stat = told(&statat(folder.as_fd(), name, flags)?);
    if stat.kind == Kind::Link {
        stat.target = Some(readlinkat(folder, name, Vec::new())?.into_bytes());
    }
    Ok(stat)
}

/// What is known of an open file.
///
/// # Errors
/// The kernel's.
pub fn of_open(fd: impl AsFd) -> Result<Stat, Errno> {
    of(fd, c"")
}

fn told(stat: &rustix::fs::Stat) -> Stat {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Link,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        _ => Kind::Device,
    };
    let (seconds, nanoseconds) = (stat.st_mtime, stat.st_mtime_nsec as i64);
    Stat {
        kind,
        mode: stat.st_mode & 0o7777,
        size: u64::try_from(stat.st_size).unwrap_or_default(),
        allocated: u64::try_from(stat.st_blocks).unwrap_or_default() * 512,
        user: stat.st_uid,
        group: stat.st_gid,
        links: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        inode: stat.st_ino,
        modified: seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds),
        target: None,
    }
}
