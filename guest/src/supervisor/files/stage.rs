//! A folder in which an archive is unpacked before anybody is to see it.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use casemate_guest::protocol::Failure;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_OMIT, fchmod, futimens, linkat, mkdirat,
    openat, renameat_with, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::change::remove_tree;
use super::failure::named;
use super::path::Root;
use super::resolve::{self, Rules};
use super::tar::{Head, Kind};
use super::untar::shown;
use super::walk::{DEPTH, Walk, each_name, entering, join};
use super::write::{half_name, permissions, write_all};

/// The folder, and where it is: within the target, which may be another file system, or beside one that is not there.
pub struct Stage {
    /// The folder that it is in.
    above: OwnedFd,
    name: CString,
    folder: OwnedFd,
    /// The name that it gets, where the target is not there.
    becomes: Option<CString>,
    /// The folder that was used last: most entries are in the same one as that before.
    last: Option<(Vec<u8>, OwnedFd)>,
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
    /// The target is no folder, or nothing may be made there.
    pub fn new(root: &Root, path: &[u8]) -> Result<Self, Failure> {
        root.check_name(path)?;
        let (above, becomes) = match root.find(path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(folder) if super::path::is_kernels(&folder) => return Err(Failure::ReadOnly),
            Ok(folder) => (folder, None),
            Err(Failure::NotFound) => {
                let (folder, name) = root.parent_to_change(path)?;
                (folder, Some(name))
            }
            Err(failure) => return Err(failure),
        };
        let name = half_name();
        mkdirat(&above, &name, Mode::from_raw_mode(0o700)).map_err(named)?;
        let folder = openat(&above, &name, entering(), Mode::empty()).map_err(named)?;
        Ok(Self { above, name, folder, becomes, last: None })
    }

    /// A file without a name, on the same file system.
    ///
    /// # Errors
    /// The kernel's.
    pub fn nameless(&self) -> Result<OwnedFd, Failure> {
        let name = half_name();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.folder, &name, flags, Mode::from_raw_mode(0o600)).map_err(named)?;
        unlinkat(&self.folder, &name, AtFlags::empty()).map_err(named)?;
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
        let parts = parts(&head.path)?;
        let Some((name, above)) = parts.split_last() else {
            // The folder itself: there already.
            return if head.kind == Kind::Directory { Ok(None) } else { Err(refused(head, "has no name")) };
        };
        let own = string(name)?;
        let folder = self.enter(&above.join(&b'/'), true)?;
        let made = match head.kind {
            Kind::Directory => {
                // Its owner may go on in it, whatever it says: what is in it comes next.
                match mkdirat(folder, &own, permissions(head.mode & 0o777 | 0o700)) {
                    Err(Errno::EXIST) if is(folder, &own, FileType::Directory) => Ok(()),
                    made => made,
                }
            }
            Kind::File => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match openat(folder, &own, flags, Mode::from_raw_mode(0o600)) {
                    Ok(file) => {
                        return Ok(Some(Open { file, at: 0, mode: head.mode & 0o777, modified: head.modified }));
                    }
                    Err(error) => Err(error),
                }
            }
            Kind::Link => {
                if !stays(above.len(), &head.target) {
                    return Err(refused(head, "leads out of the archive"));
                }
                symlinkat(&*head.target, folder, &own)
            }
            Kind::HardLink => return self.link(head, &own).map(|()| None),
        };
        match made {
            Ok(()) => Ok(None),
            Err(Errno::EXIST) => Err(refused(head, "is there twice")),
            Err(error) => Err(named(error)),
        }
    }

    fn link(&mut self, head: &Head, name: &CStr) -> Result<(), Failure> {
        let target = parts(&head.target)?;
        let Some((target_name, above)) = target.split_last() else { return Err(refused(head, "links to no file")) };
        let target_name = string(target_name)?;
        let from = rustix::io::fcntl_dupfd_cloexec(self.enter(&above.join(&b'/'), false)?, 3).map_err(named)?;
        if !is(&from, &target_name, FileType::RegularFile) {
            return Err(refused(head, "links to no file of the archive"));
        }
        let parts = parts(&head.path)?;
        let above = parts.split_last().map(|(_, above)| above.join(&b'/')).unwrap_or_default();
        let to = self.enter(&above, true)?;
        match linkat(&from, &target_name, to, name, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(refused(head, "is there twice")),
            Err(error) => Err(named(error)),
        }
    }

    /// Opens a folder within, through no link.
    fn enter(&mut self, path: &[u8], make: bool) -> Result<&OwnedFd, Failure> {
        if path.is_empty() {
            return Ok(&self.folder);
        }
        if self.last.as_ref().is_none_or(|(last, _)| last != path) {
            let mut folder = rustix::io::fcntl_dupfd_cloexec(&self.folder, 3).map_err(named)?;
            for part in path.split(|byte| *byte == b'/') {
                if make {
                    match mkdirat(&folder, part, Mode::from_raw_mode(0o755)) {
                        Ok(()) | Err(Errno::EXIST) => {}
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

    /// Puts what is in it where it belongs. Nothing is there before; if not all can be, what could is taken back.
    ///
    /// # Errors
    /// Something is there.
    pub async fn reveal(self) -> Result<(), (Self, Failure)> {
        if let Some(name) = &self.becomes {
            let moved = fchmod(&self.folder, Mode::from_raw_mode(0o755))
                .and_then(|()| renameat_with(&self.above, &self.name, &self.above, name, RenameFlags::NOREPLACE));
            return moved.map_err(|error| (self, named(error)));
        }
        let mut names: Vec<CString> = Vec::new();
        let read = each_name(&self.folder, |name| {
            names.extend(CString::new(name));
            true
        });
        if let Err(failure) = read.await {
            return Err((self, failure));
        }
        // No waiting from here on: nobody is to see a part of it for long.
        for (at, name) in names.iter().enumerate() {
            let moved = renameat_with(&self.folder, name, &self.above, name, RenameFlags::NOREPLACE);
            if let Err(error) = moved {
                for name in &names[..at] {
                    let _ = renameat_with(&self.above, name, &self.folder, name, RenameFlags::NOREPLACE);
                }
                return Err((self, named(error)));
            }
        }
        self.discard().await;
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
