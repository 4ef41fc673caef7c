//! The calls that need not wait.

use super::descriptors::Descriptor;
use super::errno::{Errno, Result};
use super::memory::{Guest, with};
use super::node::{Ino, Kind};
use super::open::{open, read_file, readdir, write_file};
use super::path::{MAX_PATH, find};
use super::tree::Want;
use super::{View, Wasi};
use std::sync::Arc;
use wasmtime::{Caller, Linker};
use wasmtime_wasi::I32Exit;

pub(super) const MODULE: &str = "wasi_snapshot_preview1";

pub(super) const APPEND: u16 = 1;
pub(super) const RIGHT_READ: u64 = 1 << 1;
pub(super) const RIGHT_WRITE: u64 = 1 << 6;
const RIGHT_SEEK: u64 = 1 << 2;
const RIGHT_TELL: u64 = 1 << 5;
pub(super) const FOLLOW: u32 = 1;
const SET_ACCESSED: u32 = 1;
const SET_ACCESSED_NOW: u32 = 2;
const SET_MODIFIED: u32 = 4;
const SET_MODIFIED_NOW: u32 = 8;

/// Types of files, as guests see them.
const CHARACTER: u8 = 2;
const IS_DIRECTORY: u8 = 3;
const REGULAR: u8 = 4;
const LINK: u8 = 7;

/// Random bytes of one call at most.
const MAX_RANDOM: u32 = 1 << 20;

/// Adds each call as a function over the guest's memory and its world.
macro_rules! calls {
    ($linker:ident: $($name:ident($($arg:ident: $ty:ty),*) $body:expr;)*) => {
        $($linker.func_wrap(MODULE, stringify!($name), |mut caller: Caller<'_, T>, $($arg: $ty),*| -> i32 {
            with(&mut caller, |memory, wasi| ($body)(memory, wasi, $($arg),*))
        })?;)*
    };
}

pub(super) type G<'a, 'b> = &'a mut Guest<'b>;

pub(super) fn add<T: View>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    calls! { linker:
        args_sizes_get(count: u32, size: u32) |m: G, w: &mut Wasi, c, s| sizes(m, &w.arguments, c, s);
        args_get(list: u32, text: u32) |m: G, w: &mut Wasi, l, t| strings(m, &w.arguments, l, t);
        environ_sizes_get(count: u32, size: u32) |m: G, w: &mut Wasi, c, s| sizes(m, &w.environment, c, s);
        environ_get(list: u32, text: u32) |m: G, w: &mut Wasi, l, t| strings(m, &w.environment, l, t);
        clock_res_get(clock: u32, at: u32) |m: G, _: &mut Wasi, clock, at| match clock {
            0..=3 => m.put_u64(at, 1),
            _ => Err(Errno::INVAL),
        };
        clock_time_get(clock: u32, _precision: u64, at: u32) |m: G, w: &mut Wasi, clock, _, at| {
            m.put_u64(at, w.time(clock)?)
        };
        fd_advise(fd: u32, _offset: u64, _length: u64, _advice: i32) |_: G, w: &mut Wasi, fd, _, _, _| {
            w.descriptor(fd)?.file().map(drop)
        };
        fd_allocate(fd: u32, offset: u64, length: u64) |_: G, w: &mut Wasi, fd, offset: u64, length: u64| {
            let end = offset.checked_add(length).ok_or(Errno::FBIG)?;
            if length == 0 { return Err(Errno::INVAL) }
            let ino = w.writable_node(fd)?;
            if w.tree.node(ino)?.size() < end { w.tree.resize(ino, end) } else { Ok(()) }
        };
        fd_close(fd: u32) |_: G, w: &mut Wasi, fd| { let closed = w.table.close(fd)?; w.closed(closed); Ok(()) };
        fd_datasync(fd: u32) |_: G, w: &mut Wasi, fd| w.descriptor(fd).map(drop);
        fd_sync(fd: u32) |_: G, w: &mut Wasi, fd| w.descriptor(fd).map(drop);
        fd_fdstat_get(fd: u32, at: u32) fdstat;
        fd_fdstat_set_flags(fd: u32, flags: u32) |_: G, w: &mut Wasi, fd, flags| {
            match w.descriptor(fd)? {
                Descriptor::File(file) => file.flags = file_flags(flags)?,
                // Whether they block is nothing they can choose.
                Descriptor::Input | Descriptor::Output | Descriptor::Error | Descriptor::Channel { .. } => {}
                Descriptor::Directory { .. } => return Err(Errno::ISDIR),
            }
            Ok(())
        };
        fd_fdstat_set_rights(fd: u32, _base: u64, _inheriting: u64) |_: G, w: &mut Wasi, fd, _, _| {
            w.descriptor(fd).map(drop)
        };
        fd_filestat_get(fd: u32, at: u32) |m: G, w: &mut Wasi, fd, at| match w.descriptor(fd)?.ino() {
            Some(ino) => filestat(m, w, ino, at),
            None => {
                let mut stat = [0; 64];
                stat[16] = CHARACTER;
                stat[24] = 1;
                m.put(at, &stat)
            }
        };
        fd_filestat_set_size(fd: u32, size: u64) |_: G, w: &mut Wasi, fd, size| {
            let ino = w.writable_node(fd)?;
            w.tree.resize(ino, size)
        };
        fd_filestat_set_times(fd: u32, accessed: u64, modified: u64, flags: u32) |_: G, w: &mut Wasi, fd, accessed, modified, flags| {
            let ino = w.descriptor(fd)?.ino().ok_or(Errno::INVAL)?;
            w.set_times(ino, (accessed, modified), flags)
        };
        fd_pread(fd: u32, pieces: u32, count: u32, offset: u64, at: u32) |m: G, w: &mut Wasi, fd, pieces, count, offset, at| {
            let file = w.descriptor(fd)?.file()?.clone();
            let read = read_file(m, w, &file, (pieces, count), offset)?;
            m.put_u32(at, read)
        };
        fd_pwrite(fd: u32, pieces: u32, count: u32, offset: u64, at: u32) |m: G, w: &mut Wasi, fd, pieces, count, offset, at| {
            let ino = w.writable_node(fd)?;
            let written = write_file(m, w, ino, (pieces, count), offset)?;
            m.put_u32(at, written)
        };
        fd_prestat_get(fd: u32, at: u32) |m: G, w: &mut Wasi, fd, at| {
            let length = w.preopen(fd)?.len() as u32;
            m.put_u32(at, 0)?;
            m.put_u32(at.checked_add(4).ok_or(Errno::FAULT)?, length)
        };
        fd_prestat_dir_name(fd: u32, at: u32, length: u32) |m: G, w: &mut Wasi, fd, at, length| {
            let name = w.preopen(fd)?;
            if name.len() > length as usize { return Err(Errno::NAMETOOLONG) }
            m.put(at, name.as_bytes())
        };
        fd_readdir(fd: u32, at: u32, length: u32, cookie: u64, used: u32) readdir;
        fd_renumber(from: u32, to: u32) |_: G, w: &mut Wasi, from, to| {
            if let Some(closed) = w.table.renumber(from, to)? { w.closed(closed) }
            Ok(())
        };
        fd_seek(fd: u32, offset: i64, whence: u32, at: u32) |m: G, w: &mut Wasi, fd, offset, whence, at| {
            let file = w.descriptor(fd)?.file()?.clone();
            let from = match whence {
                0 => 0,
                1 => file.position,
                2 => w.tree.node(file.ino)?.size(),
                _ => return Err(Errno::INVAL),
            };
            let position = from.checked_add_signed(offset).filter(|at| i64::try_from(*at).is_ok()).ok_or(Errno::INVAL)?;
            w.descriptor(fd)?.file()?.position = position;
            m.put_u64(at, position)
        };
        fd_tell(fd: u32, at: u32) |m: G, w: &mut Wasi, fd, at| {
            let position = w.descriptor(fd)?.file()?.position;
            m.put_u64(at, position)
        };
        path_create_directory(fd: u32, path: u32, length: u32) |m: G, w: &mut Wasi, fd, path, length| {
            let place = w.find(fd, &m.text(path, length)?, false)?;
            if place.node.is_some() { return Err(Errno::EXIST) }
            w.tree.make(place.directory, &place.name, Kind::Directory(Arc::default(), place.directory)).map(drop)
        };
        path_filestat_get(fd: u32, flags: u32, path: u32, length: u32, at: u32) |m: G, w: &mut Wasi, fd, flags, path, length, at| {
            let ino = w.find(fd, &m.text(path, length)?, flags & FOLLOW != 0)?.found(&w.tree)?;
            filestat(m, w, ino, at)
        };
        path_filestat_set_times(fd: u32, flags: u32, path: u32, length: u32, accessed: u64, modified: u64, set: u32)
            |m: G, w: &mut Wasi, fd, flags, path, length, accessed, modified, set| {
                let ino = w.find(fd, &m.text(path, length)?, flags & FOLLOW != 0)?.found(&w.tree)?;
                w.set_times(ino, (accessed, modified), set)
            };
        path_link(from: u32, flags: u32, path: u32, length: u32, to: u32, new: u32, new_length: u32)
            |m: G, w: &mut Wasi, from, flags, path, length, to, new, new_length| {
                let ino = w.find(from, &m.text(path, length)?, flags & FOLLOW != 0)?.found(&w.tree)?;
                let place = w.find(to, &m.text(new, new_length)?, false)?;
                w.tree.link(ino, place.directory, &place.name)
            };
        path_open(fd: u32, lookup: u32, path: u32, length: u32, flags: u32, rights: u64, _inheriting: u64, options: u32, at: u32) open;
        path_readlink(fd: u32, path: u32, length: u32, at: u32, room: u32, used: u32) |m: G, w: &mut Wasi, fd, path, length, at, room: u32, used| {
            let ino = w.find(fd, &m.text(path, length)?, false)?.found(&w.tree)?;
            let Kind::Link(target) = &w.tree.node(ino)?.kind else { return Err(Errno::INVAL) };
            let given = &target.as_bytes()[..target.len().min(room as usize)];
            m.put(at, given)?;
            m.put_u32(used, given.len() as u32)
        };
        path_remove_directory(fd: u32, path: u32, length: u32) |m: G, w: &mut Wasi, fd, path, length| {
            w.remove(fd, &m.text(path, length)?, Want::Directory)
        };
        path_unlink_file(fd: u32, path: u32, length: u32) |m: G, w: &mut Wasi, fd, path, length| {
            w.remove(fd, &m.text(path, length)?, Want::File)
        };
        path_rename(fd: u32, path: u32, length: u32, to: u32, new: u32, new_length: u32)
            |m: G, w: &mut Wasi, fd, path, length, to, new, new_length| {
                let old = w.find(fd, &m.text(path, length)?, false)?;
                old.found(&w.tree)?;
                let place = w.find(to, &m.text(new, new_length)?, false)?;
                if old.name.is_empty() || place.name.is_empty() { return Err(Errno::INVAL) }
                if place.must_be_directory && !w.tree.node(old.found(&w.tree)?)?.is_directory() { return Err(Errno::NOTDIR) }
                let Wasi { tree, table, .. } = w;
                tree.rename((old.directory, &old.name), (place.directory, &place.name), |ino| table.holds(ino))
            };
        path_symlink(target: u32, target_length: u32, fd: u32, path: u32, length: u32)
            |m: G, w: &mut Wasi, target, target_length, fd, path, length| {
                let target = m.text(target, target_length)?;
                if target.is_empty() { return Err(Errno::NOENT) }
                if target.len() > MAX_PATH { return Err(Errno::NAMETOOLONG) }
                let place = w.find(fd, &m.text(path, length)?, false)?;
                if place.node.is_some() { return Err(Errno::EXIST) }
                w.tree.make(place.directory, &place.name, Kind::Link(target)).map(drop)
            };
        random_get(at: u32, length: u32) |m: G, _: &mut Wasi, at, length| {
            if length > MAX_RANDOM { return Err(Errno::INVAL) }
            let range = m.range(at, length)?;
            getrandom::fill(&mut m.0[range]).map_err(|_| Errno::IO)
        };
        sock_accept(_fd: u32, _flags: u32, _at: u32) |_: G, _: &mut Wasi, _, _, _| Err(Errno::NOTSOCK);
        sock_recv(_fd: u32, _pieces: u32, _count: u32, _flags: u32, _at: u32, _out: u32) |_: G, _: &mut Wasi, _, _, _, _, _, _| Err(Errno::NOTSOCK);
        sock_send(_fd: u32, _pieces: u32, _count: u32, _flags: u32, _at: u32) |_: G, _: &mut Wasi, _, _, _, _, _| Err(Errno::NOTSOCK);
        sock_shutdown(_fd: u32, _how: u32) |_: G, _: &mut Wasi, _, _| Err(Errno::NOTSOCK);
        proc_raise(_signal: u32) |_: G, _: &mut Wasi, _| Err(Errno::NOTSUP);
    }
    linker.func_wrap(MODULE, "proc_exit", |code: i32| -> wasmtime::Result<()> { Err(I32Exit(code).into()) })?;
    Ok(())
}

fn sizes(m: G, strings: &[String], count: u32, size: u32) -> Result<()> {
    let bytes: usize = strings.iter().map(|text| text.len() + 1).sum();
    m.put_u32(count, strings.len() as u32)?;
    m.put_u32(size, u32::try_from(bytes).map_err(|_| Errno::INVAL)?)
}

fn strings(m: G, strings: &[String], mut list: u32, mut text: u32) -> Result<()> {
    for string in strings {
        m.put_u32(list, text)?;
        m.put(text, string.as_bytes())?;
        let end = text.checked_add(string.len() as u32).ok_or(Errno::FAULT)?;
        m.put(end, &[0])?;
        text = end.checked_add(1).ok_or(Errno::FAULT)?;
        list = list.checked_add(4).ok_or(Errno::FAULT)?;
    }
    Ok(())
}

pub(super) fn file_type(kind: &Kind) -> u8 {
    match kind {
        Kind::Directory(..) => IS_DIRECTORY,
        Kind::File(_) => REGULAR,
        Kind::Link(_) => LINK,
        Kind::Channel => CHARACTER,
    }
}

fn fdstat(m: G, w: &mut Wasi, fd: u32, at: u32) -> Result<()> {
    let all = (1_u64 << 30) - 1;
    let (kind, flags, rights) = match w.descriptor(fd)? {
        Descriptor::Input => (CHARACTER, 0, all & !RIGHT_WRITE),
        // A character device without the rights to seek and tell is a terminal to a guest's C library, and
        // programs then colour what they say.
        Descriptor::Output | Descriptor::Error => (CHARACTER, APPEND, RIGHT_WRITE | RIGHT_SEEK | RIGHT_TELL),
        Descriptor::Channel { .. } => (CHARACTER, 0, RIGHT_READ | RIGHT_WRITE | RIGHT_SEEK | RIGHT_TELL),
        Descriptor::Directory { .. } => (IS_DIRECTORY, 0, all),
        Descriptor::File(file) => {
            let read = if file.read { all } else { all & !RIGHT_READ };
            (REGULAR, file.flags, if file.write { read } else { read & !RIGHT_WRITE })
        }
    };
    let mut stat = [0; 24];
    stat[0] = kind;
    stat[2..4].copy_from_slice(&flags.to_le_bytes());
    stat[8..16].copy_from_slice(&rights.to_le_bytes());
    stat[16..24].copy_from_slice(&all.to_le_bytes());
    m.put(at, &stat)
}

fn filestat(m: G, w: &Wasi, ino: Ino, at: u32) -> Result<()> {
    let node = w.tree.node(ino)?;
    let mut stat = [0; 64];
    stat[0] = 1;
    stat[8..16].copy_from_slice(&u64::from(ino + 1).to_le_bytes());
    stat[16] = file_type(&node.kind);
    stat[24..32].copy_from_slice(&u64::from(node.links).to_le_bytes());
    stat[32..40].copy_from_slice(&node.size().to_le_bytes());
    stat[40..48].copy_from_slice(&node.accessed.to_le_bytes());
    stat[48..56].copy_from_slice(&node.modified.to_le_bytes());
    stat[56..64].copy_from_slice(&node.touched.to_le_bytes());
    m.put(at, &stat)
}

impl Wasi {
    pub(super) fn time(&self, clock: u32) -> Result<u64> {
        match clock {
            0 => Ok(super::now()),
            1..=3 => Ok(self.elapsed()),
            _ => Err(Errno::INVAL),
        }
    }

    pub(super) fn find(&mut self, fd: u32, path: &str, follow: bool) -> Result<super::path::Place> {
        match self.table.get(fd)? {
            Descriptor::Directory { ino, .. } => find(&self.tree, *ino, path, follow),
            _ => Err(Errno::NOTDIR),
        }
    }

    fn preopen(&mut self, fd: u32) -> Result<String> {
        match self.table.get(fd)? {
            Descriptor::Directory { preopen: Some(name), .. } => Ok(name.clone()),
            _ => Err(Errno::BADF),
        }
    }

    /// The node of a file that is open for writing.
    pub(super) fn writable_node(&mut self, fd: u32) -> Result<Ino> {
        let file = self.table.get(fd)?.file()?;
        if file.write { Ok(file.ino) } else { Err(Errno::NOTCAPABLE) }
    }

    pub(super) fn closed(&mut self, descriptor: Descriptor) {
        if let Some(ino) = descriptor.ino() {
            let held = self.table.holds(ino);
            self.tree.let_go(ino, held);
        }
    }

    fn remove(&mut self, fd: u32, path: &str, wanted: Want) -> Result<()> {
        let place = self.find(fd, path, false)?;
        if place.name.is_empty() {
            return Err(Errno::INVAL);
        }
        if wanted == Want::File && place.must_be_directory {
            place.found(&self.tree)?;
            return Err(Errno::ISDIR);
        }
        let Wasi { tree, table, .. } = self;
        tree.unlink(place.directory, &place.name, wanted, |ino| table.holds(ino))
    }

    fn set_times(&mut self, ino: Ino, (accessed, modified): (u64, u64), flags: u32) -> Result<()> {
        let now = super::now();
        let time = |given: u64, set: u32, set_now: u32| match (flags & set != 0, flags & set_now != 0) {
            (true, true) => Err(Errno::INVAL),
            (true, false) => Ok(Some(given)),
            (false, true) => Ok(Some(now)),
            (false, false) => Ok(None),
        };
        let accessed = time(accessed, SET_ACCESSED, SET_ACCESSED_NOW)?;
        let modified = time(modified, SET_MODIFIED, SET_MODIFIED_NOW)?;
        if accessed.is_none() && modified.is_none() {
            return Ok(());
        }
        self.tree.set_times(ino, accessed, modified)
    }
}

/// The flags of an open file, of which there are five.
pub(super) fn file_flags(flags: u32) -> Result<u16> {
    if flags < 1 << 5 { Ok(flags as u16) } else { Err(Errno::INVAL) }
}
