//! Changes of files, as the kernel tells them.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use casemate_guest::protocol::{Answer, Change, Event, Failure, FromGuest, Kind};
use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::task::yield_now;

use super::failure::named;
use super::path::{Root, own_path};
use super::state;
use super::walk::{Walk, entering, join};
use super::watched::Watched;
use crate::supervisor::channel::Channel;
use crate::supervisor::channel::list::Batch;
use crate::supervisor::pipes;

/// Bytes of events that are read at once.
const BUFFER: usize = 8 << 10;

/// Tells of changes until the channel is dropped.
///
/// # Errors
/// Nothing is there, or it is gone; or there are more folders than can be watched.
pub async fn watch(channel: &Channel, root: &[u8], path: &[u8], recursive: bool) -> Result<Answer, Failure> {
    let top = Root::open(root)?.find(path, OFlags::PATH)?;
    let stat = state::of_open(&top).map_err(named)?;
    let directory = stat.kind == Kind::Directory;
    let inotify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(|error| match error {
        Errno::MFILE => Failure::TooMany("watches of this user".into()),
        error => named(error),
    })?;
    let inotify = pipes::watch(inotify).map_err(|error| Failure::Other(error.to_string()))?;
    let recursive = recursive && directory;
    let (root, path, inode) = (root.to_vec(), path.to_vec(), stat.inode);
    let mut watch = Watch { root, path, inode, inotify, watched: Watched::default(), recursive, last: None };
    // Watched first, looked through then: so whatever comes meanwhile is in one of both.
    let first = watch.add(&top, b"")?;
    // What is open is not gone for the kernel, whoever removes it.
    drop(top);
    watch.scan(b"", None).await?;
    channel.began(None);
    let mut batch = Batch::new(channel, FromGuest::Events { channel: channel.number });
    loop {
        let ready = watch.inotify.readable().await.map(|mut guard| guard.clear_ready());
        ready.map_err(|error| Failure::Other(error.to_string()))?;
        while let Some(raw) = watch.read()? {
            for raw in raw {
                watch.take(raw, first, &mut batch).await?;
            }
            yield_now().await;
        }
        batch.send().await;
        watch.last = None;
    }
}

struct Watch {
    root: Vec<u8>,
    path: Vec<u8>,
    /// The number of what is watched, to know it again.
    inode: u64,
    inotify: AsyncFd<OwnedFd>,
    watched: Watched,
    recursive: bool,
    /// The event before, to tell equal ones once.
    last: Option<Event>,
}

/// An event as it is read.
struct Raw {
    watch: i32,
    flags: ReadFlags,
    cookie: u32,
    name: Vec<u8>,
}

impl Watch {
    /// Watches a file or a folder that is open.
    fn add(&self, fd: &OwnedFd, path: &[u8]) -> Result<i32, Failure> {
        // By the descriptor: a path could lead elsewhere by now.
        let flags = WatchFlags::CREATE
            | WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        let watch = add_watch(&self.inotify, own_path(fd), flags).map_err(|error| match error {
            Errno::NOSPC => Failure::TooMany("watches of this user".into()),
            error => named(error),
        })?;
        self.watched.insert(watch, path)?;
        Ok(watch)
    }

    /// Watches all folders below one that is watched. Tells of what is there, if it came after the watch.
    async fn scan(&self, path: &[u8], mut tell: Option<&mut Batch<'_>>) -> Result<(), Failure> {
        if !self.recursive {
            return Ok(());
        }
        let folder = match self.open(path) {
            Ok(folder) => folder,
            Err(failure) => return passing(failure),
        };
        let mut walk = Walk::new(folder, super::walk::DEPTH, false);
        while let Some(found) = walk.next().await? {
            let path = join(path, &found.path);
            let directory = found.stat.kind == Kind::Directory;
            if let (true, Some(folder)) = (directory, walk.folder()) {
                match openat(folder, &found.name, entering(), Mode::empty()) {
                    Ok(folder) => drop(self.add(&folder, &path)?),
                    Err(error) => passing(named(error))?,
                }
            }
            if let Some(batch) = &mut tell {
                batch.add(&Event { path, change: Change::Created, directory }).await;
            }
            yield_now().await;
        }
        Ok(())
    }

    /// Opens a folder below the first one, through no link.
    fn open(&self, path: &[u8]) -> Result<OwnedFd, Failure> {
        let mut folder = Root::open(&self.root)?.find(&self.path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        if state::of_open(&folder).map_err(named)?.inode != self.inode {
            return Err(Failure::NotFound);
        }
        for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            folder = openat(&folder, part, entering(), Mode::empty()).map_err(named)?;
        }
        Ok(folder)
    }

    /// What is there to read; none if nothing is.
    fn read(&self) -> Result<Option<Vec<Raw>>, Failure> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = Reader::new(self.inotify.get_ref(), &mut buffer);
        let mut found = Vec::new();
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
                Err(error) => return Err(named(error)),
            };
            let name = event.file_name().map(|name| name.to_bytes().to_vec()).unwrap_or_default();
            found.push(Raw { watch: event.wd(), flags: event.events(), cookie: event.cookie(), name });
            if reader.is_buffer_empty() {
                return Ok(Some(found));
            }
        }
    }

    /// Tells of an event, and follows folders that came or went.
    async fn take(&mut self, raw: Raw, first: i32, batch: &mut Batch<'_>) -> Result<(), Failure> {
        if raw.flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            // Folders may have come without a word. Once they are watched, whoever looks anew misses nothing more.
            self.scan(b"", None).await?;
            self.tell(Vec::new(), Change::Overflow, false, batch).await;
            return Ok(());
        }
        let directory = raw.flags.contains(ReadFlags::ISDIR);
        let gone = raw.flags.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::IGNORED);
        if gone {
            if raw.watch == first {
                batch.send().await;
                return Err(Failure::NotFound);
            }
            if raw.flags.contains(ReadFlags::IGNORED) {
                self.watched.remove(raw.watch);
            }
            // The folder above tells of it.
            return Ok(());
        }
        // Of a folder that was moved away: the one above told of it.
        let Some(folder) = self.watched.path(raw.watch) else { return Ok(()) };
        let path = if raw.name.is_empty() { folder } else { join(&folder, &raw.name) };
        // A folder below tells of itself as does the one above: once will do.
        if raw.name.is_empty() && raw.watch != first {
            return Ok(());
        }
        let changes = [
            (ReadFlags::CREATE, Change::Created),
            (ReadFlags::MODIFY, Change::Modified),
            (ReadFlags::CLOSE_WRITE, Change::Written),
            (ReadFlags::ATTRIB, Change::Attributes),
            (ReadFlags::DELETE, Change::Removed),
            (ReadFlags::MOVED_FROM, Change::MovedFrom(raw.cookie)),
            (ReadFlags::MOVED_TO, Change::MovedTo(raw.cookie)),
        ];
        for (_, change) in changes.into_iter().filter(|(flag, _)| raw.flags.contains(*flag)) {
            self.tell(path.clone(), change, directory, batch).await;
        }
        if !directory || !self.recursive {
            return Ok(());
        }
        if raw.flags.contains(ReadFlags::MOVED_FROM) {
            for watch in self.watched.take_below(&path) {
                let _ = remove_watch(&self.inotify, watch);
            }
        }
        if raw.flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
            match self.open(&path) {
                Ok(folder) => drop(self.add(&folder, &path)?),
                Err(failure) => passing(failure)?,
            }
            self.last = None;
            self.scan(&path, Some(batch)).await?;
        }
        Ok(())
    }

    async fn tell(&mut self, path: Vec<u8>, change: Change, directory: bool, batch: &mut Batch<'_>) {
        let event = Event { path, change, directory };
        if self.last.as_ref() != Some(&event) {
            batch.add(&event).await;
            self.last = Some(event);
        }
    }
}

/// Folders that are gone again, or not for this user, are no reason to stop.
fn passing(failure: Failure) -> Result<(), Failure> {
    match failure {
        Failure::NotFound | Failure::NotDirectory | Failure::Links | Failure::NotPermitted => Ok(()),
        failure => Err(failure),
    }
}
