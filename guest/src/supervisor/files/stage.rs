//! A folder in which an archive is unpacked before anybody is to see it.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use casemate_guest::protocol::Failure;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, fchmod, futimens, linkat, mkdirat, openat,
    statat, symlinkat, unlinkat,
};
use rustix::io::{Errno, fcntl_dupfd_cloexec};

use super::change::remove_tree;
use super::failure::named;
use super::path::Root;
use super::resolve::{self, Rules};
use super::tar::{Head, Kind};
use super::untar::shown;
use super::walk::{DEPTH, Walk, entering, join};
use super::write::{half_name, permissions, write_all};

/// The folder. It lies in the target, or in the deepest folder above it that is there, and has in it what is to be
/// there: the folders that are missing down to the target, and in these the archive.
pub struct Stage {
    /// The folder that it is in.
    pub above: OwnedFd,
    /// Where that is, beneath the root.
    pub at: Vec<u8>,
    name: CString,
    /// The stage itself.
    pub top: OwnedFd,
    /// What becomes the target: the stage itself, or a folder in it.
    folder: OwnedFd,
    /// Leading parts that are taken off each name.
    strip: usize,
    /// What was made so far.
    pub made: Made,
    /// Whether there are links, which have to be looked at again at the end.
    links: bool,
    /// The folder that was used last: most entries are in the same one as that before.
    last: Option<(Vec<u8>, OwnedFd)>,
}

/// What was unpacked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Made {
    /// Regular files.
    pub files: u64,
    /// Folders.
    pub directories: u64,
    /// Links, and further names of files.
    pub links: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Entries that were left away.
    pub skipped: u64,
}

/// A file that is being unpacked.
pub struct Open {
    file: OwnedFd,
    at: u64,
    mode: u32,
    modified: i64,
}

impl Stage {
    /// Makes it.
    ///
    /// # Errors
    /// The target is no folder, or is not there and is not to be made, or nothing may be made there.
    pub async fn new(root: &Root, path: &[u8], parents: bool, strip: u32) -> Result<Self, Failure> {
        root.check_name(path)?;
        let (above, at, missing) = root.deepest(path)?;
        if !missing.is_empty() && !parents {
            return Err(Failure::NotFound);
        }
        if super::path::is_kernels(&above) {
            return Err(Failure::ReadOnly);
        }
        let name = half_name();
        mkdirat(&above, &name, Mode::from_raw_mode(0o700)).map_err(named)?;
        let top = openat(&above, &name, entering(), Mode::empty()).map_err(named)?;
        let folder = fcntl_dupfd_cloexec(&top, 3).map_err(named)?;
        let (strip, made) = (strip as usize, Made { directories: missing.len() as u64, ..Made::default() });
        let mut stage = Self { above, at, name, top, folder, strip, made, links: false, last: None };
        for part in missing {
            let entered = mkdirat(&stage.folder, &part, Mode::from_raw_mode(0o755))
                .and_then(|()| openat(&stage.folder, &part, entering(), Mode::empty()));
            match entered {
                Ok(folder) => stage.folder = folder,
                Err(error) => {
                    stage.discard().await;
                    return Err(named(error));
                }
            }
        }
        Ok(stage)
    }

    /// A file without a name, on the same file system.
    ///
    /// # Errors
    /// The kernel's.
    pub fn nameless(&self) -> Result<OwnedFd, Failure> {
        let name = half_name();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.top, &name, flags, Mode::from_raw_mode(0o600)).map_err(named)?;
        unlinkat(&self.top, &name, AtFlags::empty()).map_err(named)?;
        Ok(file)
    }

    /// Removes it with all that is in it.
    pub async fn discard(self) {
        let _ = remove_tree(&self.above, &self.name).await;
    }

    /// Unpacks an entry; the file if it is one, for its bytes.
    ///
    /// # Errors
    /// The entry is not to be trusted, or cannot be made.
    pub fn add(&mut self, head: &Head) -> Result<Option<Open>, Failure> {
        let whole = parts(&head.path)?;
        let Some((name, above)) = self.stripped(&whole).split_last() else {
            // The folder itself is there already.
            return match (head.kind, whole.is_empty()) {
                (Kind::Directory, true) => Ok(None),
                (_, true) => Err(refused(head, "has no name")),
                (_, false) => {
                    self.made.skipped += 1;
                    Ok(None)
                }
            };
        };
        let own = string(name)?;
        let folder = self.enter(&above.join(&b'/'), true)?;
        let made = match head.kind {
            Kind::Directory => return self.directory(head, &above.join(&b'/'), &own),
            Kind::File => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                openat(folder, &own, flags, Mode::from_raw_mode(0o600)).map(Some)
            }
            Kind::Link if !stays(above.len(), &head.target) => return Err(refused(head, "leads out of the archive")),
            Kind::Link => symlinkat(&*head.target, folder, &own).map(|()| None),
            Kind::HardLink => self.link(head, &above.join(&b'/'), &own)?.map(|()| None),
        };
        let file = made.map_err(|error| match error {
            Errno::EXIST => refused(head, "is there twice"),
            error => named(error),
        })?;
        if head.kind == Kind::File {
            self.made.files += 1;
            self.made.bytes = self.made.bytes.saturating_add(head.size);
        } else {
            self.made.links += 1;
            self.links |= head.kind == Kind::Link;
        }
        Ok(file.map(|file| Open { file, at: 0, mode: head.mode & 0o777, modified: head.modified }))
    }

    fn stripped<'a, 'b>(&self, parts: &'b [&'a [u8]]) -> &'b [&'a [u8]] {
        parts.get(self.strip..).unwrap_or_default()
    }

    fn directory(&mut self, head: &Head, above: &[u8], name: &CStr) -> Result<Option<Open>, Failure> {
        // Its owner may go on in it, whatever it says: what is in it comes next.
        let mode = permissions(head.mode & 0o777 | 0o700);
        let folder = self.enter(above, true)?;
        let new = match mkdirat(folder, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => true,
            Err(Errno::EXIST) if is(folder, name, FileType::Directory) => false,
            Err(Errno::EXIST) => return Err(refused(head, "is there twice")),
            Err(error) => return Err(named(error)),
        };
        openat(folder, name, entering(), Mode::empty()).and_then(|made| fchmod(made, mode)).map_err(named)?;
        self.made.directories += u64::from(new);
        Ok(None)
    }

    /// Gives a file of the archive a further name; what the kernel says to that.
    fn link(&mut self, head: &Head, above: &[u8], name: &CStr) -> Result<Result<(), Errno>, Failure> {
        let target = parts(&head.target)?;
        let Some((target_name, target_above)) = self.stripped(&target).split_last() else {
            return Err(refused(head, "links to no file of the archive"));
        };
        let target_name = string(target_name)?;
        let from = self.enter(&target_above.join(&b'/'), false)?;
        let from = fcntl_dupfd_cloexec(from, 3).map_err(named)?;
        if !is(&from, &target_name, FileType::RegularFile) {
            return Err(refused(head, "links to no file of the archive"));
        }
        Ok(linkat(&from, &target_name, self.enter(above, true)?, name, AtFlags::empty()))
    }

    /// Opens a folder within, through no link.
    fn enter(&mut self, path: &[u8], make: bool) -> Result<&OwnedFd, Failure> {
        if path.is_empty() {
            return Ok(&self.folder);
        }
        if self.last.as_ref().is_none_or(|(last, _)| last != path) {
            let mut folder = fcntl_dupfd_cloexec(&self.folder, 3).map_err(named)?;
            for part in path.split(|byte| *byte == b'/') {
                if make {
                    match mkdirat(&folder, part, Mode::from_raw_mode(0o755)) {
                        Ok(()) => self.made.directories += 1,
                        Err(Errno::EXIST) => {}
                        Err(error) => return Err(named(error)),
                    }
                }
                folder = openat(&folder, part, entering(), Mode::empty()).map_err(|error| match error {
                    Errno::NOTDIR | Errno::LOOP => {
                        Failure::Archive(format!("goes through what is no folder: {}", shown(path)))
                    }
                    Errno::NOENT => Failure::Archive(format!("links to what is not there: {}", shown(path))),
                    error => named(error),
                })?;
            }
            self.last = Some((path.to_vec(), folder));
        }
        Ok(self.last.as_ref().map_or(&self.folder, |(_, folder)| folder))
    }

    /// Checks where links lead, now that all is there: one can go through another.
    ///
    /// # Errors
    /// One leads out.
    pub async fn check(&self) -> Result<(), Failure> {
        if !self.links {
            return Ok(());
        }
        let folder = openat(&self.folder, c".", entering(), Mode::empty()).map_err(named)?;
        let mut walk = Walk::new(folder, DEPTH, true);
        while let Some(found) = walk.next().await? {
            if found.stat.kind != casemate_guest::protocol::Kind::Link {
                continue;
            }
            let rules = Rules { whole: false, follow: true };
            let path = OFlags::PATH | OFlags::CLOEXEC;
            let led = resolve::open(std::os::fd::AsFd::as_fd(&self.folder), &found.path, rules, path, Mode::empty());
            if led.is_err_and(|error| error == Errno::XDEV) {
                return Err(Failure::Archive(format!("has a link that leads out of it: {}", shown(&found.path))));
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

impl Open {
    /// Appends bytes.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        write_all(&self.file, bytes, self.at)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Gives it its permissions and its time.
    ///
    /// # Errors
    /// The kernel's.
    pub fn close(self) -> Result<(), Failure> {
        fchmod(&self.file, permissions(self.mode)).map_err(named)?;
        let last_modification = Timespec { tv_sec: self.modified, tv_nsec: 0 };
        let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        // A time that the file system does not know is as good as none.
        let _ = futimens(&self.file, &Timestamps { last_access, last_modification });
        Ok(())
    }
}

fn is(folder: &OwnedFd, name: &CStr, kind: FileType) -> bool {
    statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == kind)
}

fn refused(head: &Head, why: &str) -> Failure {
    Failure::Archive(format!("has an entry that {why}: {}", shown(&head.path)))
}

fn string(name: &[u8]) -> Result<CString, Failure> {
    CString::new(name).map_err(|_| Failure::Archive("has a name with a zero byte".into()))
}

/// The parts of a name in an archive.
fn parts(path: &[u8]) -> Result<Vec<&[u8]>, Failure> {
    let refused = |why: &str| Err(Failure::Archive(format!("has a name that {why}: {}", shown(path))));
    if path.first() == Some(&b'/') {
        return refused("is absolute");
    }
    let parts: Vec<_> = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    if parts.contains(&&b".."[..]) {
        return refused("leads out of it");
    }
    if parts.len() >= DEPTH || parts.iter().any(|part| part.len() > 255) || join(b"", path).len() > 4096 {
        return refused("is too long");
    }
    Ok(parts)
}

/// Whether a link that so many folders are above leads to somewhere within, by its words.
fn stays(mut depth: usize, target: &[u8]) -> bool {
    if matches!(target.first(), None | Some(b'/')) || target.contains(&0) {
        return false;
    }
    for part in target.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")) {
        match (part, depth) {
            (b"..", 0) => return false,
            (b"..", _) => depth -= 1,
            _ => depth += 1,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_within_by_their_words() {
        for (depth, target, expected) in [
            (0, "a", true),
            (0, "..", false),
            (1, "..", true),
            (1, "../../a", false),
            (2, "../../a/../b", true),
            (2, "a/../../../..", false),
            (5, "/a", false),
            (0, "", false),
            (0, ".", true),
        ] {
            assert_eq!(stays(depth, target.as_bytes()), expected, "{depth} {target}");
        }
    }

    #[test]
    fn names_are_taken_apart() {
        assert_eq!(parts(b"./a//b/./c/").unwrap(), [&b"a"[..], b"b", b"c"]);
        assert_eq!(parts(b"./").unwrap(), Vec::<&[u8]>::new());
        for bad in [&b"/a"[..], b"..", b"a/../b", b"a/.."] {
            assert!(parts(bad).is_err());
        }
        assert!(parts(&[b'a'; 256]).is_err());
        assert!(parts(&b"a/".repeat(DEPTH)).is_err());
    }
}
