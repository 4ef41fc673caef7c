//! Through a folder in the order of its paths, with memory for a few names only.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use casemate_guest::protocol::{Failure, Kind, Stat};
use rustix::fs::{Mode, OFlags, RawDir, SeekFrom, openat, seek};
use rustix::io::Errno;
use tokio::task::yield_now;

use super::FOLDER_BUFFER;
use super::failure::named;
use super::state;

/// Folders below each other at most: each is held open.
pub const DEPTH: usize = 128;
/// Names of one folder that are kept at most. In a larger one the next are looked for when these are used up.
const NAMES: usize = 4096;

type Name = Box<[u8]>;

/// A walk, and where it is.
#[derive(Debug)]
pub struct Walk {
    levels: Vec<Level>,
    /// The folder that the walk is in, below the first one.
    path: Vec<u8>,
    /// Levels at most.
    depth: usize,
    /// Names of one folder that are kept.
    names: usize,
    /// Folders that may not be looked into are a failure, as is one that is too deep.
    strict: bool,
    /// The folder that was found last, to be entered next.
    enter: Option<Name>,
}

#[derive(Debug)]
struct Level {
    folder: OwnedFd,
    /// Bytes of the path above it.
    above: usize,
    names: VecDeque<Name>,
    /// The last name that was read; those up to it are passed.
    last: Option<Name>,
    /// There may be names behind that.
    more: bool,
}

/// Something on the way.
#[derive(Debug)]
pub struct Found {
    /// Below the first folder.
    pub path: Vec<u8>,
    /// Its name in the folder that the walk is in.
    pub name: CString,
    /// What is known of it.
    pub stat: Stat,
}

impl Walk {
    /// Begins in a folder that is open for reading.
    pub fn new(folder: OwnedFd, depth: usize, strict: bool) -> Self {
        let first = Level { folder, above: 0, names: VecDeque::new(), last: None, more: true };
        Self { levels: vec![first], path: Vec::new(), depth: depth.min(DEPTH), names: NAMES, strict, enter: None }
    }

    /// Keeps no more names than are wanted.
    pub fn keep(&mut self, names: usize) {
        self.names = names.clamp(1, NAMES);
    }

    /// Goes on behind a path, which need not be there any more.
    ///
    /// # Errors
    /// The kernel's; or a path that no walk finds.
    pub fn skip_to(&mut self, path: &[u8]) -> Result<(), Failure> {
        if path.split(|byte| *byte == b'/').any(|part| matches!(part, b"" | b"." | b"..") || part.contains(&0)) {
            return Err(Failure::Invalid("a path that was not told".into()));
        }
        for part in path.split(|byte| *byte == b'/') {
            let Some(level) = self.levels.last_mut() else { return Ok(()) };
            level.last = Some(part.into());
            self.enter = Some(part.into());
            if !self.descend()? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Does not go into the folder that was found last.
    pub fn pass(&mut self) {
        self.enter = None;
    }

    /// The folder in which the last one was found.
    pub fn folder(&self) -> Option<&OwnedFd> {
        self.levels.last().map(|level| &level.folder)
    }

    /// The next one; none at the end.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn next(&mut self) -> Result<Option<Found>, Failure> {
        self.descend()?;
        loop {
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            let Some(name) = level.names.pop_front() else {
                if level.more {
                    level.read(self.names).await?;
                } else {
                    self.path.truncate(level.above);
                    self.levels.pop();
                }
                continue;
            };
            let own = CString::new(&name[..]).map_err(|_| named(Errno::INVAL))?;
            let stat = match state::of(&level.folder, &own) {
                // Gone since its name was read; or another by now, which is as good.
                Err(Errno::NOENT | Errno::INVAL) => continue,
                stat => stat.map_err(named)?,
            };
            let path = join(&self.path, &name);
            if stat.kind == Kind::Directory {
                self.enter = Some(name);
            }
            return Ok(Some(Found { path, name: own, stat }));
        }
    }

    /// Enters the folder that was found last, if there was one; whether it did.
    fn descend(&mut self) -> Result<bool, Failure> {
        let (Some(name), Some(level)) = (self.enter.take(), self.levels.last()) else { return Ok(false) };
        if self.levels.len() >= self.depth {
            let deep = self.strict && self.depth == DEPTH;
            return if deep { Err(Failure::TooMany("folders below each other".into())) } else { Ok(false) };
        }
        let folder = match openat(&level.folder, &name[..], entering(), Mode::empty()) {
            Ok(folder) => folder,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
            Err(Errno::ACCESS | Errno::PERM) if !self.strict => return Ok(false),
            Err(error) => return Err(named(error)),
        };
        let above = self.path.len();
        self.path = join(&self.path, &name);
        self.levels.push(Level { folder, above, names: VecDeque::new(), last: None, more: true });
        Ok(true)
    }
}

impl Level {
    /// Reads the first names behind the last one, at most so many.
    async fn read(&mut self, most: usize) -> Result<(), Failure> {
        let mut first: BTreeSet<Name> = BTreeSet::new();
        self.more = false;
        let (last, more) = (&self.last, &mut self.more);
        each_name(&self.folder, |name| {
            if last.as_ref().is_some_and(|last| name <= &last[..]) {
                return true;
            }
            if first.len() < most {
                first.insert(name.into());
                return true;
            }
            *more = true;
            if first.last().is_some_and(|last| name < &last[..]) {
                first.insert(name.into());
                first.pop_last();
            }
            true
        })
        .await?;
        if let Some(last) = first.last() {
            self.last = Some(last.clone());
        }
        self.names = first.into_iter().collect();
        Ok(())
    }
}

/// Calls for each name in a folder, from its beginning, as long as more are wanted.
///
/// # Errors
/// The kernel's.
pub async fn each_name(folder: impl AsFd, mut call: impl FnMut(&[u8]) -> bool) -> Result<(), Failure> {
    seek(folder.as_fd(), SeekFrom::Start(0)).map_err(named)?;
    let mut buffer = [MaybeUninit::uninit(); FOLDER_BUFFER];
    let mut names = RawDir::new(folder.as_fd(), &mut buffer);
    loop {
        match names.next() {
            None => return Ok(()),
            // Removed while it was read.
            Some(Err(Errno::NOENT)) => return Ok(()),
            Some(name) => {
                let name = name.map_err(named)?;
                let name = name.file_name().to_bytes();
                if !matches!(name, b"." | b"..") && !call(name) {
                    return Ok(());
                }
            }
        }
        if names.is_buffer_empty() {
            yield_now().await;
        }
    }
}

/// How a folder is opened that must not be a link.
pub fn entering() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// A path below a folder.
pub fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustix::fs::CWD;

    fn walk(folder: &std::path::Path, names: usize, after: Option<&[u8]>) -> Vec<Vec<u8>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut walk = Walk::new(openat(CWD, folder, entering(), Mode::empty()).unwrap(), 10, false);
        walk.keep(names);
        if let Some(after) = after {
            walk.skip_to(after).unwrap();
        }
        runtime.block_on(async move {
            let mut found = Vec::new();
            while let Some(next) = walk.next().await.unwrap() {
                found.push(next.path);
            }
            found
        })
    }

    proptest! {
        // Each makes files.
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_path_is_found_once_in_order_from_anywhere(
            paths in proptest::collection::hash_set("[abc.]{1,2}x(/[ab.]{1,2}x){0,3}", 0..40),
            names in 1usize..6,
        ) {
            let folder = tempfile::tempdir().unwrap();
            for path in &paths {
                std::fs::create_dir_all(folder.path().join(path)).unwrap();
            }
            let all = walk(folder.path(), 4096, None);
            let mut expected: Vec<Vec<Vec<u8>>> = Vec::new();
            for path in &paths {
                let parts: Vec<_> = path.split('/').map(|part| part.as_bytes().to_vec()).collect();
                expected.extend((1..=parts.len()).map(|length| parts[..length].to_vec()));
            }
            expected.sort();
            expected.dedup();
            let expected: Vec<_> = expected.into_iter().map(|parts| parts.join(&b'/')).collect();
            prop_assert_eq!(&all, &expected);
            prop_assert_eq!(&walk(folder.path(), names, None), &expected);
            for (at, path) in all.iter().enumerate() {
                prop_assert_eq!(&walk(folder.path(), names, Some(path)), &expected[at + 1..]);
            }
        }
    }
}
