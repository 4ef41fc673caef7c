//! How what is staged gets to where it belongs. What is in the way is looked for first; then all is moved, each by the
//! descriptors of both folders, so that nobody who swaps a folder for a link meanwhile can lead it elsewhere.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use casemate_guest::protocol::{Conflict, Failure, Kind};
use rustix::fs::{Access, AtFlags, Mode, OFlags, RenameFlags, accessat, fstat, openat, renameat_with, unlinkat};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use tokio::task::yield_now;

use super::SLICE;
use super::failure::named;
use super::read::read_at;
use super::stage::{Made, Stage};
use super::state;
use super::untar::shown;
use super::walk::{Found, Walk, entering, join};
use super::write::write_all;

/// Entries between pauses.
const PAUSE: u64 = 64;

/// Both sides of a walk through a stage: the folders of the target lie beside those of the stage.
struct Merge {
    walk: Walk,
    /// As many as the walk is deep.
    beside: Vec<Beside>,
    seen: u64,
}

/// A folder that is there already.
struct Beside {
    folder: OwnedFd,
    /// It was asked for, and something can be put there.
    writable: bool,
}

impl Merge {
    fn new(stage: &Stage) -> Result<Self, Failure> {
        let staged = openat(&stage.top, c".", entering(), Mode::empty()).map_err(named)?;
        let folder = fcntl_dupfd_cloexec(&stage.above, 3).map_err(named)?;
        let beside = vec![Beside { folder, writable: false }];
        Ok(Self { walk: Walk::new(staged, usize::MAX, true), beside, seen: 0 })
    }

    /// The next one; its folders are the last ones.
    async fn next(&mut self) -> Result<Option<Found>, Failure> {
        self.seen += 1;
        if self.seen.is_multiple_of(PAUSE) {
            yield_now().await;
        }
        let found = self.walk.next().await?;
        if let Some(found) = &found {
            self.beside.truncate(found.path.split(|byte| *byte == b'/').count());
        }
        Ok(found)
    }

    fn beside(&self) -> Result<&OwnedFd, Failure> {
        // There is one for each level of the walk.
        self.beside.last().map(|into| &into.folder).ok_or(Failure::NotFound)
    }

    /// Goes on into a folder that is on both sides.
    fn enter(&mut self, found: &Found, stage: &Stage) -> Result<(), Failure> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = openat(self.beside()?, &found.name, flags, Mode::empty()).map_err(|error| match error {
            Errno::NOTDIR | Errno::LOOP => self.in_the_way(found, stage),
            error => named(error),
        })?;
        self.beside.push(Beside { folder, writable: false });
        Ok(())
    }

    fn in_the_way(&self, found: &Found, stage: &Stage) -> Failure {
        let there = self.beside().ok().and_then(|into| state::of(into, &found.name).ok());
        InTheWay { found, there: there.map_or(Kind::File, |stat| stat.kind) }.failure(stage)
    }

    fn check_writable(&mut self) -> Result<(), Failure> {
        let Some(into) = self.beside.last_mut().filter(|into| !into.writable) else { return Ok(()) };
        accessat(&into.folder, c".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::empty()).map_err(named)?;
        into.writable = true;
        Ok(())
    }
}

struct InTheWay<'a> {
    found: &'a Found,
    there: Kind,
}

impl InTheWay<'_> {
    fn failure(&self, stage: &Stage) -> Failure {
        let path = [b"/", &*join(&stage.at, &self.found.path)].concat();
        Failure::InTheWay { path, wanted: self.found.stat.kind, there: self.there }
    }
}

/// Looks for what is in the way, before anything is seen.
///
/// # Errors
/// Something is, or nothing may be put there.
pub async fn look(stage: &Stage, conflict: Conflict) -> Result<(), Failure> {
    let mut merge = Merge::new(stage)?;
    let device = device(&stage.above)?;
    while let Some(found) = merge.next().await? {
        let there = match state::of(merge.beside()?, &found.name) {
            Ok(stat) => stat.kind,
            Err(Errno::NOENT) => {
                // It goes there with all that is in it.
                merge.walk.pass();
                merge.check_writable()?;
                continue;
            }
            Err(error) => return Err(named(error)),
        };
        let wanted = found.stat.kind;
        if (wanted, there) == (Kind::Directory, Kind::Directory) {
            merge.enter(&found, stage)?;
            if self::device(merge.beside()?)? != device {
                return Err(Failure::OtherFileSystem);
            }
        } else if [wanted, there].contains(&Kind::Directory) || conflict == Conflict::Fail {
            return Err(InTheWay { found: &found, there }.failure(stage));
        } else if conflict == Conflict::Replace {
            merge.check_writable()?;
        }
    }
    Ok(())
}

fn device(folder: impl AsFd) -> Result<u64, Failure> {
    fstat(folder).map(|stat| stat.st_dev).map_err(named)
}

/// Puts all where it belongs. If not all can be, what could is taken back, unless it took the place of something.
///
/// # Errors
/// What [`look`] looks for came meanwhile; [`Failure::Partly`] if some of it is there now.
pub async fn reveal(stage: &mut Stage, conflict: Conflict) -> Result<(), Failure> {
    let mut log = match conflict {
        Conflict::Replace => None,
        Conflict::Skip | Conflict::Fail => Some(Log { file: stage.nameless()?, written: 0, pending: Vec::new() }),
    };
    let mut moved = false;
    let Err(failure) = put(stage, conflict, &mut log, &mut moved).await else { return Ok(()) };
    let nothing_is_there = match log {
        Some(log) if moved => take_back(stage, &log).await.unwrap_or(false),
        _ => !moved,
    };
    if nothing_is_there {
        return Err(failure);
    }
    Err(Failure::Partly { why: words(failure) })
}

async fn put(stage: &mut Stage, conflict: Conflict, log: &mut Option<Log>, moved: &mut bool) -> Result<(), Failure> {
    let mut merge = Merge::new(stage)?;
    while let Some(found) = merge.next().await? {
        let directory = found.stat.kind == Kind::Directory;
        let flags = match conflict {
            Conflict::Replace if !directory => RenameFlags::empty(),
            _ => RenameFlags::NOREPLACE,
        };
        let (Some(from), into) = (merge.walk.folder(), merge.beside()?) else { break };
        match renameat_with(from, &found.name, into, &found.name, flags) {
            Ok(()) => {
                *moved = true;
                merge.walk.pass();
                if let Some(log) = log {
                    log.push(&found.path)?;
                }
            }
            Err(Errno::EXIST) if directory => {
                merge.enter(&found, stage)?;
                stage.made.directories = stage.made.directories.saturating_sub(1);
            }
            Err(Errno::EXIST) if conflict == Conflict::Skip => leave(&mut stage.made, from, &found),
            Err(Errno::EXIST | Errno::ISDIR) => return Err(merge.in_the_way(&found, stage)),
            Err(error) => return Err(named(error)),
        }
    }
    Ok(())
}

/// Leaves one away.
fn leave(made: &mut Made, from: &OwnedFd, found: &Found) {
    made.skipped += 1;
    // While it has another name, that one is the file.
    if found.stat.kind == Kind::Link || found.stat.links > 1 {
        made.links = made.links.saturating_sub(1);
    } else {
        made.files = made.files.saturating_sub(1);
        made.bytes = made.bytes.saturating_sub(found.stat.size);
    }
    let _ = unlinkat(from, &found.name, AtFlags::empty());
}

/// What was moved, each with a zero behind it. There may be very many, so it is not in memory.
struct Log {
    file: OwnedFd,
    written: u64,
    pending: Vec<u8>,
}

impl Log {
    fn push(&mut self, path: &[u8]) -> Result<(), Failure> {
        self.pending.extend_from_slice(path);
        self.pending.push(0);
        if self.pending.len() >= SLICE {
            write_all(&self.file, &self.pending, self.written)?;
            self.written += self.pending.len() as u64;
            self.pending.clear();
        }
        Ok(())
    }
}

/// Moves all back into the stage; whether nothing is left.
async fn take_back(stage: &Stage, log: &Log) -> Result<bool, Failure> {
    let (mut all, mut rest, mut at) = (true, Vec::new(), 0);
    loop {
        let last = at >= log.written;
        if last {
            rest.extend_from_slice(&log.pending);
        } else {
            let length = usize::try_from(log.written - at).unwrap_or(SLICE).min(SLICE);
            let bytes = read_at(&log.file, at, length)?;
            if bytes.is_empty() {
                return Ok(false);
            }
            at += bytes.len() as u64;
            rest.extend_from_slice(&bytes);
        }
        while let Some(end) = rest.iter().position(|byte| *byte == 0) {
            all &= move_back(stage, &rest[..end]).is_ok();
            rest.drain(..=end);
        }
        if last {
            return Ok(all);
        }
        yield_now().await;
    }
}

fn move_back(stage: &Stage, path: &[u8]) -> Result<(), Errno> {
    let (above, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&path[..0], path),
    };
    let (from, to) = (descend(&stage.above, above)?, descend(&stage.top, above)?);
    let name = CString::new(name).map_err(|_| Errno::INVAL)?;
    // What was not moved is still in the stage, and then what is there is somebody else's.
    match renameat_with(from, &name, to, &name, RenameFlags::NOREPLACE) {
        // Removed meanwhile: as good.
        Err(Errno::NOENT) => Ok(()),
        moved => moved,
    }
}

/// Opens a folder within another, through no link.
fn descend(folder: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let mut folder = fcntl_dupfd_cloexec(folder, 3)?;
    for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        folder = openat(&folder, part, OFlags::PATH | entering(), Mode::empty())?;
    }
    Ok(folder)
}

fn words(failure: Failure) -> String {
    match failure {
        Failure::InTheWay { path, .. } => format!("something else came to {} meanwhile", shown(&path)),
        Failure::NotFound => "something was removed meanwhile".into(),
        Failure::NotPermitted => "the container's user may not change something that is there".into(),
        Failure::ReadOnly => "something below is not for writing".into(),
        Failure::OtherFileSystem => "something below is on another file system".into(),
        Failure::NoSpace => "there is no room".into(),
        Failure::Other(text) | Failure::Invalid(text) | Failure::TooMany(text) => text,
        other => format!("{other:?}"),
    }
}
