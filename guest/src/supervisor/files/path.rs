//! Paths of the server's, beneath a root: resolved by the kernel in one step, so that nothing can be swapped on the way.

use std::cell::Cell;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use casemate_guest::protocol::{Failure, PATH_LIMIT};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstatfs, mkdirat, openat, openat2};
use rustix::io::Errno;

use super::failure::named;
use super::resolve::{self, Rules};

/// How often the kernel is asked again that saw a folder move while it looked.
const RETRIES: usize = 100;
/// Folders at the top that are not for writing, whatever is mounted there.
const OWN: [&[u8]; 3] = [b"proc", b"sys", b".casemate"];
/// File systems of the kernel's: proc, sysfs, both versions of control groups, debugfs, tracefs, securityfs, bpf.
const KERNEL: [u64; 8] =
    [0x9fa0, 0x6265_6572, 0x6367_7270, 0x0027_e0eb, 0x6462_6720, 0x7472_6163, 0x7363_6673, 0xcafe_4a11];

thread_local! {
    /// Whether the kernel knows `openat2`, and whoever filters system calls lets it through.
    static KNOWS: Cell<Option<bool>> = const { Cell::new(None) };
}

/// A folder beneath which paths are taken.
#[derive(Debug)]
pub struct Root {
    folder: OwnedFd,
    /// Its own parts.
    path: Vec<u8>,
    /// It is all there is: nothing leads out of it.
    whole: bool,
}

impl Root {
    /// Opens it.
    ///
    /// # Errors
    /// None there, or no folder.
    pub fn open(path: &[u8]) -> Result<Self, Failure> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = openat(CWD, c"/", flags, Mode::empty()).map_err(named)?;
        let top = Self { folder: top, path: Vec::new(), whole: true };
        let own = beneath(path)?;
        if own.is_empty() {
            return Ok(top);
        }
        Ok(Self { folder: top.find(path, flags)?, path: own.to_vec(), whole: false })
    }

    /// Opens what is at a path. Links are followed unless the flags say otherwise.
    ///
    /// # Errors
    /// A path that is none, that leads nowhere or out of the root.
    pub fn find(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Failure> {
        self.make(path, flags, Mode::empty())
    }

    /// Opens what is at a path; with permissions for what is made.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub fn make(&self, path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd, Failure> {
        let path = beneath(path)?;
        let path = if path.is_empty() { b"." } else { path };
        let opened = self.resolve(path, flags | OFlags::CLOEXEC, mode);
        opened.map_err(|error| if error == Errno::XDEV { Failure::Escapes } else { named(error) })
    }

    fn resolve(&self, path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        if !knows() {
            let rules = Rules { whole: self.whole, follow: !flags.contains(OFlags::NOFOLLOW) };
            return resolve::open(self.folder.as_fd(), path, rules, flags, mode);
        }
        let within = if self.whole { ResolveFlags::IN_ROOT } else { ResolveFlags::BENEATH };
        let mut opened = Err(Errno::AGAIN);
        for _ in 0..RETRIES {
            opened = openat2(&self.folder, path, flags, mode, within | ResolveFlags::NO_MAGICLINKS);
            if !matches!(opened, Err(Errno::AGAIN | Errno::INTR)) {
                break;
            }
        }
        opened
    }

    /// The folder that a path is in, and its name there. The name is not followed.
    ///
    /// # Errors
    /// As [`Self::find`]; or a path without a name.
    pub fn parent(&self, path: &[u8]) -> Result<(OwnedFd, CString), Failure> {
        let path = beneath(path)?;
        let at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        let (above, name) = path.split_at(at);
        if matches!(name, b"" | b"." | b"..") {
            return Err(Failure::Invalid("a path that ends without a name".into()));
        }
        let name = CString::new(name).map_err(|_| Failure::Invalid("a path with a zero byte".into()))?;
        let above = [b"/", above].concat();
        Ok((self.find(&above, OFlags::PATH | OFlags::DIRECTORY)?, name))
    }

    /// The folder that a path is in, for a change there, and its name there.
    ///
    /// # Errors
    /// As [`Self::parent`]; or nothing is to be changed there.
    pub fn parent_to_change(&self, path: &[u8]) -> Result<(OwnedFd, CString), Failure> {
        self.check_name(path)?;
        let (folder, name) = self.parent(path)?;
        if is_kernels(&folder) {
            return Err(Failure::ReadOnly);
        }
        Ok((folder, name))
    }

    /// Refuses what is not for writing by its name. What gets there by a link is refused by its file system.
    ///
    /// # Errors
    /// It is not for writing.
    pub fn check_name(&self, path: &[u8]) -> Result<(), Failure> {
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in self.path.split(|byte| *byte == b'/').chain(beneath(path)?.split(|byte| *byte == b'/')) {
            match part {
                b"" | b"." => {}
                b".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        if parts.first().is_some_and(|first| OWN.contains(first)) { Err(Failure::ReadOnly) } else { Ok(()) }
    }

    /// The deepest folder of a path that is there, its own path beneath the root, and the names below it that are
    /// missing.
    ///
    /// # Errors
    /// As [`Self::find`]; or what is missing would have to be passed.
    pub fn deepest(&self, path: &[u8]) -> Result<(OwnedFd, Vec<u8>, Vec<CString>), Failure> {
        let path = beneath(path)?;
        let mut end = path.len();
        let folder = loop {
            match self.find(&[b"/", &path[..end]].concat(), OFlags::RDONLY | OFlags::DIRECTORY) {
                Err(Failure::NotFound) if end > 0 => {
                    end = path[..end].iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                }
                found => break found?,
            }
        };
        let missing = path[end..].split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
        let missing = missing.map(|part| match part {
            b".." => Err(Failure::Invalid("a path that goes through what is not there".into())),
            part => CString::new(part).map_err(|_| Failure::Invalid("a path with a zero byte".into())),
        });
        Ok((folder, path[..end].to_vec(), missing.collect::<Result<_, _>>()?))
    }

    /// Makes the folders above a path that are missing.
    ///
    /// # Errors
    /// As [`Self::find`]; or one cannot be made.
    pub fn make_parents(&self, path: &[u8]) -> Result<(), Failure> {
        let path = beneath(path)?;
        let ends: Vec<_> = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).collect();
        let above = |end: usize| [b"/", &path[..end]].concat();
        // Most are there: looked for from below.
        let there = ends.iter().rposition(|end| self.find(&above(*end), OFlags::PATH | OFlags::DIRECTORY).is_ok());
        for end in &ends[there.map_or(0, |there| there + 1)..] {
            let (folder, name) = match self.parent_to_change(&above(*end)) {
                // A part that names nothing, as in `a//b` and `a/./b`.
                Err(Failure::Invalid(_)) => continue,
                found => found?,
            };
            match mkdirat(&folder, &name, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(named(error)),
            }
        }
        Ok(())
    }
}

/// Opens what a descriptor stands for, and nothing that has its name by now.
///
/// # Errors
/// The kernel's.
pub fn reopen(fd: &OwnedFd, flags: OFlags) -> Result<OwnedFd, Failure> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    openat(CWD, own_path(fd), flags, Mode::empty()).map_err(|error| match error {
        // The file is there, for it is open.
        Errno::NOENT => Failure::Other("there is no /proc".into()),
        error => named(error),
    })
}

/// A path by which the kernel finds an open file of this process's.
pub fn own_path(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Whether a file is the kernel's own.
pub fn is_kernels(fd: impl AsFd) -> bool {
    fstatfs(fd).is_ok_and(|system| KERNEL.contains(&(system.f_type as u64 & 0xffff_ffff)))
}

/// A path without the slashes that begin and end it.
fn beneath(path: &[u8]) -> Result<&[u8], Failure> {
    let invalid = |text: &str| Err(Failure::Invalid(text.into()));
    if path.len() > PATH_LIMIT {
        return invalid("a path that is too long");
    }
    let Some((b'/', mut path)) = path.split_first() else { return invalid("a path that is not absolute") };
    if path.contains(&0) {
        return invalid("a path with a zero byte");
    }
    while let Some((b'/', rest)) = path.split_first() {
        path = rest;
    }
    while let Some((b'/', rest)) = path.split_last() {
        path = rest;
    }
    Ok(path)
}

fn knows() -> bool {
    KNOWS.get().unwrap_or_else(|| {
        let tried = openat2(CWD, c"/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_MAGICLINKS);
        KNOWS.set(Some(tried.is_ok()));
        tried.is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustix::fs::{fstat, symlinkat};

    fn flags() -> OFlags {
        OFlags::PATH
    }

    /// What both ways lead to: the same file, or failure.
    fn both(root: &Root, path: &[u8], flags: OFlags) -> Result<u64, Failure> {
        let mut found = [true, false].map(|by_kernel| {
            KNOWS.set(Some(by_kernel));
            root.find(path, flags).map(|fd| fstat(fd).unwrap().st_ino)
        });
        KNOWS.set(None);
        // Two failures at once may be told either way.
        if let [Err(first), Err(second)] = &mut found {
            *second = first.clone();
        }
        assert_eq!(found[0], found[1], "{:?}", String::from_utf8_lossy(path));
        found[0].clone()
    }

    #[test]
    fn nothing_leads_out_of_a_root() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        std::fs::create_dir(folder.path().join("in")).unwrap();
        std::fs::write(folder.path().join("out"), "").unwrap();
        std::fs::write(folder.path().join("in/file"), "").unwrap();
        for (target, name) in [
            ("../out", "up"),
            ("/etc/passwd", "absolute"),
            ("file", "good"),
            ("self", "self"),
            ("..", "above"),
            ("nothing", "dangling"),
            ("/proc/self/root", "magic"),
        ] {
            symlinkat(target, CWD, folder.path().join("in").join(name)).unwrap();
        }
        let root = Root::open(format!("{path}/in").as_bytes()).unwrap();
        for path in
            [&b"/up"[..], b"/absolute", b"/..", b"/../out", b"/above/out", b"/above", b"/magic/etc", b"/./../in"]
        {
            assert_eq!(both(&root, path, flags()), Err(Failure::Escapes), "{:?}", String::from_utf8_lossy(path));
        }
        assert_eq!(both(&root, b"/self", flags()), Err(Failure::Links));
        assert_eq!(both(&root, b"/dangling", flags()), Err(Failure::NotFound));
        let file = both(&root, b"/file", flags()).unwrap();
        for path in [&b"/good"[..], b"//./good/", b"/above/../file"].iter().take(1) {
            assert_eq!(both(&root, path, flags()), Ok(file));
        }
        let link = both(&root, b"/up", flags() | OFlags::NOFOLLOW).unwrap();
        assert_ne!(link, file);
        // In the whole, links lead within.
        let whole = Root::open(b"/").unwrap();
        assert_eq!(both(&whole, format!("{path}/in/../in/good").as_bytes(), flags()), Ok(file));
        assert_eq!(both(&whole, format!("/../..{path}/in/good").as_bytes(), flags()), Ok(file));
        assert!(both(&whole, format!("{path}/in/absolute").as_bytes(), flags()).is_ok());
    }

    #[test]
    fn paths_that_are_none_are_refused() {
        let root = Root::open(b"/").unwrap();
        for path in [&b""[..], b"relative", b"/a\0b", &[b'/'; PATH_LIMIT + 1]] {
            assert!(matches!(root.find(path, flags()), Err(Failure::Invalid(_))));
        }
        for path in [&b"/"[..], b"/..", b"/tmp/..", b"/tmp/."] {
            assert!(matches!(root.parent(path), Err(Failure::Invalid(_))));
        }
    }

    #[test]
    fn what_is_not_for_writing_is_refused_by_name_and_by_what_it_is() {
        let root = Root::open(b"/").unwrap();
        for path in [&b"/proc/x"[..], b"//./proc/../tmp/../sys/x", b"/.casemate/guest", b"/../proc/self/comm"] {
            assert_eq!(root.parent_to_change(path).unwrap_err(), Failure::ReadOnly);
        }
        let folder = tempfile::tempdir().unwrap();
        symlinkat("/proc/self", CWD, folder.path().join("link")).unwrap();
        let path = folder.path().join("link/comm");
        assert_eq!(root.parent_to_change(path.to_str().unwrap().as_bytes()).unwrap_err(), Failure::ReadOnly);
    }

    proptest! {
        // Each makes files.
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn both_ways_find_the_same(
            links in proptest::collection::vec(("[abc]", "(/|[abc]|\\.\\.|\\.)(/([abc]|\\.\\.|\\.)){0,3}"), 0..4),
            paths in proptest::collection::vec("(/([abc]|\\.\\.|\\.)){1,5}", 1..20),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let top = folder.path().join("a");
            std::fs::create_dir_all(top.join("a/b/c")).unwrap();
            std::fs::create_dir_all(top.join("b/a")).unwrap();
            std::fs::write(top.join("b/c"), "").unwrap();
            for (name, target) in &links {
                let _ = symlinkat(target.as_str(), CWD, top.join("a").join(name));
                let _ = symlinkat(target.as_str(), CWD, top.join(name));
            }
            let root = Root::open(top.to_str().unwrap().as_bytes()).unwrap();
            for path in paths {
                for flags in [flags(), flags() | OFlags::NOFOLLOW] {
                    let _ = both(&root, path.as_bytes(), flags);
                }
            }
        }
    }
}
