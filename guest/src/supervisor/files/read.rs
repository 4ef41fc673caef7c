//! Reading files.

use std::os::fd::OwnedFd;

use bytes::Bytes;
use casemate_guest::protocol::{Answer, Failure, Kind, Stat};
use rustix::fs::{Advice, OFlags, fadvise};
use rustix::io::Errno;
use tokio::task::yield_now;

use super::SLICE;
use super::failure::named;
use super::path::{Root, is_kernels, reopen};
use super::state;
use crate::supervisor::channel::Channel;

/// Reads a file.
///
/// # Errors
/// Nothing to read there, or it became shorter.
pub async fn read(
    channel: &Channel,
    root: &[u8],
    path: &[u8],
    offset: u64,
    length: Option<u64>,
) -> Result<Answer, Failure> {
    let (file, stat) = {
        let found = Root::open(root)?.find(path, OFlags::PATH)?;
        open_regular(&found)?
    };
    let most = length.unwrap_or(u64::MAX);
    // What the kernel makes up has no size, or a wrong one.
    let sized = !is_kernels(&file);
    let left = if sized { stat.size.saturating_sub(offset).min(most) } else { most };
    let _ = fadvise(&file, offset, None, Advice::Sequential);
    channel.began(Some(stat));
    let mut sent = 0;
    while sent < left {
        let room = channel.room().await.min(SLICE);
        let wanted = usize::try_from(left - sent).unwrap_or(room).min(room);
        let bytes = read_at(&file, offset.saturating_add(sent), wanted)?;
        if bytes.is_empty() {
            return if sized { Err(Failure::Shrank { sent }) } else { Ok(Answer::Done) };
        }
        sent += bytes.len() as u64;
        channel.send(bytes);
        yield_now().await;
    }
    Ok(Answer::Done)
}

/// Opens what a descriptor stands for, if that is a regular file. Nothing else is ever opened: that alone could make
/// the guest wait, or set a device to work.
///
/// # Errors
/// It is none, or may not be read.
pub fn open_regular(found: &OwnedFd) -> Result<(OwnedFd, Stat), Failure> {
    check_regular(found)?;
    let file = reopen(found, OFlags::RDONLY)?;
    let stat = state::of_open(&file).map_err(named)?;
    Ok((file, stat))
}

/// Refuses what is no regular file.
///
/// # Errors
/// It is none.
pub fn check_regular(found: &OwnedFd) -> Result<(), Failure> {
    match state::of_open(found).map_err(named)?.kind {
        Kind::File => Ok(()),
        Kind::Directory => Err(Failure::IsDirectory),
        _ => Err(Failure::NotRegular),
    }
}

/// Reads once.
///
/// # Errors
/// The kernel's.
pub fn read_at(file: &OwnedFd, offset: u64, length: usize) -> Result<Bytes, Failure> {
    let mut bytes = vec![0; length];
    let read = loop {
        match rustix::io::pread(file, &mut bytes[..], offset) {
            Err(Errno::INTR) => {}
            read => break read.map_err(named)?,
        }
    };
    bytes.truncate(read);
    Ok(bytes.into())
}
