//! From a path to a file, beneath a folder, where the kernel cannot be asked to stay there: part by part.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, openat, readlinkat, statat};
use rustix::io::Errno;

/// Links that are followed at most, as in Linux.
const LINKS: usize = 40;
/// Folders below each other that are held open at most.
const DEPTH: usize = 256;

/// How a path is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Absolute links, and `..` at the top, mean the folder itself instead of leading out of it.
    pub whole: bool,
    /// The last part is followed if it is a link.
    pub follow: bool,
}

/// Opens what a path leads to.
///
/// # Errors
/// The kernel's; `XDEV` for a path that leads out.
pub fn open(root: BorrowedFd<'_>, path: &[u8], rules: Rules, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let (folder, name) = walk(root, path, rules)?;
    // Each part was looked at before it is used, so what is opened is asked to be no link: one that was put there
    // meanwhile is not followed.
    let opened = openat(&folder, &name, flags | OFlags::NOFOLLOW, mode)?;
    if rules.follow && flags.contains(OFlags::PATH) && kind(&opened)? == FileType::Symlink {
        return Err(Errno::LOOP);
    }
    Ok(opened)
}

fn kind(fd: impl AsFd) -> Result<FileType, Errno> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode))
}

/// The folder in which a path ends, and the name there; `.` if it ends in the folder itself.
fn walk(root: BorrowedFd<'_>, path: &[u8], rules: Rules) -> Result<(OwnedFd, CString), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut above = vec![openat(root, c".", flags | OFlags::DIRECTORY, Mode::empty())?];
    let mut parts: Vec<Vec<u8>> = Vec::new();
    push(&mut parts, path);
    let mut links = 0;
    while let Some(part) = parts.pop() {
        let top = above.last().ok_or(Errno::XDEV)?;
        if part == b"." {
            continue;
        }
        if part == b".." {
            match (above.len(), rules.whole) {
                (1, false) => return Err(Errno::XDEV),
                (1, true) => {}
                _ => drop(above.pop()),
            }
            continue;
        }
        let name = CString::new(part).map_err(|_| Errno::INVAL)?;
        let last = parts.is_empty();
        let found = match statat(top, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) if last => return Ok((above.pop().ok_or(Errno::XDEV)?, name)),
            found => FileType::from_raw_mode(found?.st_mode),
        };
        if found == FileType::Symlink && (!last || rules.follow) {
            links += 1;
            let target = readlinkat(top, &name, Vec::new())?.into_bytes();
            if links > LINKS {
                return Err(Errno::LOOP);
            }
            if target.first() == Some(&b'/') {
                if !rules.whole {
                    return Err(Errno::XDEV);
                }
                above.truncate(1);
            }
            push(&mut parts, &target);
            continue;
        }
        if last {
            return Ok((above.pop().ok_or(Errno::XDEV)?, name));
        }
        if above.len() >= DEPTH {
            return Err(Errno::NAMETOOLONG);
        }
        above.push(openat(top, &name, flags | OFlags::DIRECTORY, Mode::empty())?);
    }
    Ok((above.pop().ok_or(Errno::XDEV)?, c".".to_owned()))
}

/// Puts the parts of a path on a stack, the first one on top. A slash at the end is as good as a part: what is before it
/// has to be a folder.
fn push(parts: &mut Vec<Vec<u8>>, path: &[u8]) {
    if path.ends_with(b"/") {
        parts.push(b".".to_vec());
    }
    let new = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
    let new: Vec<_> = new.map(<[u8]>::to_vec).collect();
    parts.extend(new.into_iter().rev());
}
