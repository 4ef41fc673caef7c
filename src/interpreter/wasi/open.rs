//! Opening, reading, writing and listing what is in the tree.

use super::Wasi;
use super::calls::{FOLLOW, G, RIGHT_READ, RIGHT_WRITE, file_flags, file_type};
use super::descriptors::{Descriptor, OpenFile, Reader};
use super::errno::{Errno, Result};
use super::memory::MAX_MOVED;
use super::node::{Content, Ino, Kind};
use std::ops::Bound;

const CREATE: u32 = 1;
const DIRECTORY: u32 = 2;
const EXCLUSIVE: u32 = 4;
const TRUNCATE: u32 = 8;

/// Cookies of the entries `.` and `..`; those of names follow.
const OWN_ENTRIES: u64 = 2;

/// Reads from a file at an offset; gives how many bytes.
pub(super) fn read_file(m: G, w: &Wasi, file: &OpenFile, pieces: (u32, u32), offset: u64) -> Result<u32> {
    if !file.read {
        return Err(Errno::NOTCAPABLE);
    }
    let Kind::File(content) = &w.tree.node(file.ino)?.kind else { return Err(Errno::INVAL) };
    let content = content.bytes();
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
    let mut rest = &content[start..];
    let mut read = 0;
    for piece in m.pieces(pieces.0, pieces.1, MAX_MOVED)? {
        let taken = piece.len().min(rest.len());
        m.0[piece.start..piece.start + taken].copy_from_slice(&rest[..taken]);
        rest = &rest[taken..];
        read += taken as u32;
    }
    Ok(read)
}

/// Writes to a file at an offset; gives how many bytes.
pub(super) fn write_file(m: G, w: &mut Wasi, ino: Ino, pieces: (u32, u32), offset: u64) -> Result<u32> {
    let pieces = m.pieces(pieces.0, pieces.1, MAX_MOVED)?;
    let length: usize = pieces.iter().map(ExactSizeIterator::len).sum();
    if length > 0 {
        w.tree.write(ino, offset, length as u64, |mut place| {
            for piece in pieces {
                let (now, later) = std::mem::take(&mut place).split_at_mut(piece.len());
                now.copy_from_slice(&m.0[piece]);
                place = later;
            }
        })?;
    }
    Ok(length as u32)
}

#[allow(clippy::too_many_arguments)] // as many as the interface has
pub(super) fn open(
    m: G,
    w: &mut Wasi,
    fd: u32,
    lookup: u32,
    path: u32,
    length: u32,
    flags: u32,
    rights: u64,
    _inheriting: u64,
    options: u32,
    at: u32,
) -> Result<()> {
    // What could still fail after a file was made or emptied comes first.
    m.range(at, 4)?;
    let options = file_flags(options)?;
    let follow = lookup & FOLLOW != 0 && flags & EXCLUSIVE == 0;
    let place = w.find(fd, &m.text(path, length)?, follow)?;
    let (read, write) = (rights & RIGHT_READ != 0, rights & RIGHT_WRITE != 0);
    let there = match place.node {
        Some(_) if flags & CREATE != 0 && flags & EXCLUSIVE != 0 => return Err(Errno::EXIST),
        Some(_) => Some(place.found(&w.tree)?),
        None if flags & CREATE == 0 => return Err(Errno::NOENT),
        None if flags & DIRECTORY != 0 => return Err(Errno::INVAL),
        None if place.must_be_directory => return Err(Errno::ISDIR),
        None => None,
    };
    let channel = there.is_some_and(|ino| w.tree.node(ino).is_ok_and(|node| node.kind == Kind::Channel));
    w.table.check_room(channel)?;
    let ino = match there {
        Some(ino) => ino,
        None => w.tree.make(place.directory, &place.name, Kind::File(Content::default()))?,
    };
    let node = w.tree.node(ino)?;
    let descriptor = match &node.kind {
        Kind::Directory(..) if (write || flags & TRUNCATE != 0) && flags & DIRECTORY == 0 => return Err(Errno::ISDIR),
        Kind::Directory(..) => Descriptor::Directory { ino, preopen: None, reader: Reader::default() },
        _ if flags & DIRECTORY != 0 => return Err(Errno::NOTDIR),
        Kind::Link(_) => return Err(Errno::LOOP),
        Kind::Channel => Descriptor::Channel { request: Vec::new(), answer: Default::default() },
        Kind::File(_) => {
            if (write || flags & TRUNCATE != 0) && !node.writable {
                return Err(Errno::ROFS);
            }
            if flags & TRUNCATE != 0 {
                w.tree.resize(ino, 0)?;
            }
            Descriptor::File(OpenFile { ino, position: 0, flags: options, read, write })
        }
    };
    let opened = w.table.add(descriptor)?;
    m.put_u32(at, opened)
}

/// Lists a directory after the entry with a cookie. An entry that does not fit is cut: the guest sees a full
/// buffer and asks again.
pub(super) fn readdir(m: G, w: &mut Wasi, fd: u32, at: u32, length: u32, cookie: u64, used: u32) -> Result<()> {
    let Descriptor::Directory { ino, reader, .. } = w.descriptor(fd)? else { return Err(Errno::NOTDIR) };
    let (ino, reader) = (*ino, reader.clone());
    let Kind::Directory(names, parent) = &w.tree.node(ino)?.kind else { return Err(Errno::NOTDIR) };
    let known = [&reader.began, &reader.ended].into_iter().find(|(known, name)| *known == cookie && !name.is_empty());
    let (after, skipped) = match known {
        Some((_, name)) => (Bound::Excluded(name.as_str()), 0),
        // Only who jumps comes here: it is counted from the beginning.
        None => (Bound::Unbounded, cookie.saturating_sub(OWN_ENTRIES)),
    };
    let own = [(1, ".", ino), (OWN_ENTRIES, "..", *parent)].into_iter().filter(|(at, ..)| *at > cookie);
    let from = cookie.max(OWN_ENTRIES);
    let rest = names
        .range::<str, _>((after, Bound::Unbounded))
        .skip(usize::try_from(skipped).unwrap_or(usize::MAX))
        .zip(from..u64::MAX)
        .map(|((name, ino), before)| (before + 1, name.as_str(), *ino));
    let range = m.range(at, length)?;
    let mut room = &mut m.0[range];
    let mut written = 0;
    let began = known.cloned().unwrap_or_default();
    let mut ended = began.clone();
    for (cookie, name, ino) in own.chain(rest) {
        if room.is_empty() {
            break;
        }
        let kind = w.tree.node(ino).map_or(0, |node| file_type(&node.kind));
        let mut entry = Vec::with_capacity(24 + name.len());
        entry.extend_from_slice(&cookie.to_le_bytes());
        entry.extend_from_slice(&(u64::from(ino) + 1).to_le_bytes());
        entry.extend_from_slice(&(name.len() as u32).to_le_bytes());
        entry.extend_from_slice(&[kind, 0, 0, 0]);
        entry.extend_from_slice(name.as_bytes());
        let taken = entry.len().min(room.len());
        room[..taken].copy_from_slice(&entry[..taken]);
        room = &mut room[taken..];
        written += taken as u32;
        if taken == entry.len() && cookie > OWN_ENTRIES {
            ended = (cookie, name.to_owned());
        }
    }
    m.put_u32(used, written)?;
    if let Descriptor::Directory { reader, .. } = w.descriptor(fd)? {
        *reader = Reader { began, ended };
    }
    Ok(())
}
