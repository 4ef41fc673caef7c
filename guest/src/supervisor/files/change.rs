//! What is done to files without their bytes: looked at, made, renamed, removed.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use casemate_guest::protocol::{Answer, Failure, Kind};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, chmodat, fstat, mkdirat, openat, renameat_with, unlinkat};
use rustix::io::Errno;
use tokio::task::yield_now;

use super::ENTRIES;
use super::failure::named;
use super::path::Root;
use super::state;
use super::walk::{each_name, entering};

/// How often a folder is looked through that seems empty and is not.
const PASSES: usize = 16;

/// What is known of a file.
///
/// # Errors
/// Nothing is there.
pub fn stat(root: &[u8], path: &[u8], follow: bool) -> Result<Answer, Failure> {
    let nofollow = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
    let found = Root::open(root)?.find(path, OFlags::PATH | nofollow)?;
    state::of_open(&found).map(Answer::Stat).map_err(named)
}

/// Makes a folder.
///
/// # Errors
/// Something is there, or it may not be made.
pub fn make_directory(root: &[u8], path: &[u8], mode: Option<u32>, parents: bool) -> Result<Answer, Failure> {
    let root = Root::open(root)?;
    root.check_name(path)?;
    if parents {
        root.make_parents(path)?;
    }
    let (folder, name) = root.parent_to_change(path)?;
    // Not more than is asked for, not even for a moment.
    let first = Mode::from_raw_mode(mode.unwrap_or(0o777) & 0o777);
    match mkdirat(&folder, &name, first) {
        Err(Errno::EXIST) if parents => {
            let there = state::of_open(root.find(path, OFlags::PATH)?).map_err(named)?;
            return if there.kind == Kind::Directory { Ok(Answer::Done) } else { Err(Failure::Exists) };
        }
        made => made.map_err(named)?,
    }
    if let Some(mode) = mode {
        // What the kernel took away from it.
        let made = openat(&folder, &name, entering(), Mode::empty());
        let mode = Mode::from_raw_mode(mode & 0o7777);
        match made {
            Ok(made) => rustix::fs::fchmod(made, mode).map_err(named)?,
            // One that not even its owner may read.
            Err(_) => chmodat(&folder, &name, mode, AtFlags::empty()).map_err(named)?,
        }
    }
    Ok(Answer::Done)
}

/// Renames.
///
/// # Errors
/// Nothing is there, something is in the way, or they are on two file systems.
pub fn rename(root: &[u8], from: &[u8], to: &[u8], replace: bool) -> Result<Answer, Failure> {
    let root = Root::open(root)?;
    let (from, from_name) = root.parent_to_change(from)?;
    let (to, to_name) = root.parent_to_change(to)?;
    let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
    renameat_with(&from, &from_name, &to, &to_name, flags).map_err(named)?;
    Ok(Answer::Done)
}

/// Removes a file, or a folder.
///
/// # Errors
/// Nothing is there, or it may not be removed.
pub async fn remove(root: &[u8], path: &[u8], recursive: bool, allow_missing: bool) -> Result<Answer, Failure> {
    let opened = Root::open(root).and_then(|root| root.parent_to_change(path));
    let removed = match opened {
        Ok((folder, name)) => remove_from(&folder, &name, recursive).await,
        Err(failure) => Err(failure),
    };
    match removed {
        Ok(entries) => Ok(Answer::Removed { entries }),
        Err(Failure::NotFound) if allow_missing => Ok(Answer::Removed { entries: 0 }),
        Err(failure) => Err(failure),
    }
}

async fn remove_from(folder: &OwnedFd, name: &CStr, recursive: bool) -> Result<u64, Failure> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) => return Ok(1),
        // Which of them it is depends on the file system.
        Err(Errno::ISDIR | Errno::PERM) if state::of(folder, name).is_ok_and(|stat| stat.kind == Kind::Directory) => {}
        Err(error) => return Err(named(error)),
    }
    if !recursive {
        unlinkat(folder, name, AtFlags::REMOVEDIR).map_err(named)?;
        return Ok(1);
    }
    remove_tree(folder, name).await
}

/// A folder on the way down: its number, to find it again on the way up, and its name in the one above.
struct Above {
    id: (u64, u64),
    name: CString,
    passes: usize,
}

/// Removes a folder with all that is in it; how much that was. One folder is open at a time, so that it may be as deep
/// as it likes; on the way up it is checked that it is the same one, for folders can be moved meanwhile.
///
/// # Errors
/// The kernel's; or another file system is below it.
pub async fn remove_tree(top: &OwnedFd, name: &CStr) -> Result<u64, Failure> {
    let mut removed = 0;
    let mut current = openat(top, name, entering(), Mode::empty()).map_err(named)?;
    let device = id(&current)?.0;
    if id(top)?.0 != device {
        return Err(Failure::OtherFileSystem);
    }
    let mut above: Vec<Above> = vec![Above { id: id(top)?, name: name.to_owned(), passes: 0 }];
    while let Some(here) = above.last_mut() {
        let (count, below) = empty(&current, &mut removed).await?;
        here.passes = if count > 0 || below.is_some() { 0 } else { here.passes + 1 };
        if here.passes > PASSES {
            return Err(Failure::NotEmpty);
        }
        if let Some((below, name)) = below {
            if id(&below)?.0 != device {
                return Err(Failure::OtherFileSystem);
            }
            above.push(Above { id: id(&current)?, name, passes: 0 });
            current = below;
            continue;
        }
        let (name, expected, last) = (here.name.clone(), here.id, above.len() == 1);
        // The first one's may not be readable.
        let up = if last { None } else { Some(openat(&current, c"..", entering(), Mode::empty()).map_err(named)?) };
        if let Some(up) = &up
            && id(up)? != expected
        {
            return Err(Failure::Other("a folder was moved while it was removed".into()));
        }
        match unlinkat(up.as_ref().unwrap_or(top), &name, AtFlags::REMOVEDIR) {
            Ok(()) => removed += 1,
            Err(Errno::NOENT) => {}
            // There were more than are read at once, or it was filled meanwhile.
            Err(Errno::NOTEMPTY | Errno::EXIST) => continue,
            Err(error) => return Err(named(error)),
        }
        above.pop();
        if let Some(up) = up {
            current = up;
        }
    }
    Ok(removed)
}

/// Removes some of what is in a folder, up to the first folder in it, which is returned. How much it was, too.
async fn empty(folder: &OwnedFd, removed: &mut u64) -> Result<(u64, Option<(OwnedFd, CString)>), Failure> {
    let before = *removed;
    let mut names: Vec<CString> = Vec::new();
    // Names are gathered first: a folder that shrinks while it is read may skip some.
    each_name(folder, |name| {
        names.extend(CString::new(name));
        names.len() < ENTRIES
    })
    .await?;
    for name in names {
        let error = match unlinkat(folder, &name, AtFlags::empty()) {
            Ok(()) => {
                *removed += 1;
                continue;
            }
            Err(Errno::NOENT) => continue,
            Err(error) => error,
        };
        if !matches!(error, Errno::ISDIR | Errno::PERM) {
            return Err(named(error));
        }
        match openat(folder, &name, entering(), Mode::empty()) {
            Ok(found) => return Ok((*removed - before, Some((found, name)))),
            Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(named(error)),
            Err(error) => return Err(named(error)),
        }
    }
    yield_now().await;
    Ok((*removed - before, None))
}

fn id(folder: impl AsFd) -> Result<(u64, u64), Failure> {
    let stat = fstat(folder).map_err(named)?;
    Ok((stat.st_dev, stat.st_ino))
}
