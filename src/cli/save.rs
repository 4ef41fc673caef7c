//! Saves what a run left into a directory, and never outside of it: the names come from the run.

use super::failure::Failure;
use crate::domain::input::relative_path;
use crate::proto::v1::OutputFileChunk;
use rustix::fs::{self, AtFlags, Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// A directory to save into.
pub struct Saver {
    path: PathBuf,
    directory: OwnedFd,
    /// The file that is being written.
    open: Option<Part>,
    /// Things that were displayed and saved.
    displayed: u32,
}

/// A file of which the end has not come. It bears another name until then, and is removed if it never comes.
struct Part {
    path: String,
    directory: OwnedFd,
    name: String,
    aside: String,
    file: File,
    written: u64,
    digest: Sha256,
}

impl Drop for Part {
    fn drop(&mut self) {
        // Gone already if it was given its own name.
        let _ = fs::unlinkat(&self.directory, &self.aside, AtFlags::empty());
    }
}

/// What became of a piece of a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Saved {
    /// More pieces follow.
    Partly,
    /// The file is complete, at this path.
    Whole(PathBuf),
    /// The file is not saved, for this reason.
    Not(String),
}

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Saver {
    /// Saves into this directory, which is made if it is not there.
    pub fn new(path: PathBuf) -> Result<Saver, Failure> {
        let failed =
            |error: std::io::Error| Failure::local(format!("--output-dir {} cannot be used", path.display()), error);
        std::fs::create_dir_all(&path).map_err(failed)?;
        // The directory itself may be reached by a link: whoever named it chose that.
        let directory = fs::open(&path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        Ok(Saver { directory: directory.map_err(|error| failed(error.into()))?, path, open: None, displayed: 0 })
    }

    /// Takes the next piece of a file.
    pub fn take(&mut self, chunk: &OutputFileChunk) -> Result<Saved, Failure> {
        if self.open.as_ref().is_none_or(|part| part.path != chunk.path) {
            self.open = None;
            if chunk.offset > 0 {
                // Its first piece was refused, or came before this reader did.
                return Ok(match &chunk.file {
                    Some(_) => Saved::Not("its beginning was not read".into()),
                    None => Saved::Partly,
                });
            }
            match self.begin(&chunk.path) {
                Ok(part) => self.open = Some(part),
                Err(problem) => return Ok(Saved::Not(problem)),
            }
        }
        let Some(part) = &mut self.open else { return Ok(Saved::Partly) };
        if chunk.offset != part.written {
            self.open = None;
            return Ok(Saved::Not("a piece of it is missing".into()));
        }
        let name = self.path.join(&chunk.path);
        part.digest.update(&chunk.data);
        part.written += chunk.data.len() as u64;
        let written = part.file.write_all(&chunk.data);
        written.map_err(|error| Failure::local(format!("{} cannot be written", name.display()), error))?;
        let Some(about) = &chunk.file else { return Ok(Saved::Partly) };
        let Some(mut part) = self.open.take() else { return Ok(Saved::Partly) };
        let digest = hex::encode(part.digest.finalize_reset());
        if !about.digest.is_empty() && digest != about.digest {
            return Ok(Saved::Not("its content does not match its digest".into()));
        }
        part.finish(about.mode)
            .map_err(|error| Failure::local(format!("{} cannot be written", name.display()), error))?;
        Ok(Saved::Whole(name))
    }

    /// Saves something that was displayed, under a name of its own.
    pub fn display(&mut self, extension: &str, data: &[u8]) -> Result<PathBuf, Failure> {
        loop {
            self.displayed += 1;
            let name = format!("display-{}.{extension}", self.displayed);
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let path = self.path.join(&name);
            let failed = |error| Failure::local(format!("{} cannot be written", path.display()), error);
            match fs::openat(&self.directory, &name, flags, Mode::from_raw_mode(0o644)) {
                Ok(file) => File::from(file).write_all(data).map_err(failed)?,
                // What an earlier run left stays.
                Err(Errno::EXIST) => continue,
                Err(error) => return Err(failed(error.into())),
            }
            return Ok(path);
        }
    }

    /// A file below the directory. No link is followed on the way, and none is written through.
    fn begin(&self, path: &str) -> Result<Part, String> {
        let relative = relative_path(path)?;
        let (parents, name) = relative.rsplit_once('/').unwrap_or(("", &relative));
        let told = |error: Errno| match error {
            Errno::LOOP | Errno::NOTDIR => "there is a link or a file where a directory is needed".to_owned(),
            error => error.to_string(),
        };
        let mut directory = fs::openat(&self.directory, ".", DIRECTORY, Mode::empty()).map_err(told)?;
        for parent in parents.split('/').filter(|parent| !parent.is_empty()) {
            match fs::mkdirat(&directory, parent, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(told(error)),
            }
            directory = fs::openat(&directory, parent, DIRECTORY, Mode::empty()).map_err(told)?;
        }
        let aside = format!(".casemate-{}.part", uuid::Uuid::now_v7().simple());
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(&directory, &aside, flags, Mode::from_raw_mode(0o600)).map_err(told)?;
        Ok(Part {
            path: path.to_owned(),
            directory,
            name: name.to_owned(),
            aside,
            file: file.into(),
            written: 0,
            digest: Sha256::new(),
        })
    }
}

impl Part {
    fn finish(&mut self, mode: u32) -> std::io::Result<()> {
        // Its owner can read it; others get no right to change it, whatever the run set.
        fs::fchmod(&self.file, Mode::from_raw_mode((mode | 0o600) & 0o755))?;
        fs::renameat(&self.directory, &self.aside, &self.directory, &self.name)?;
        Ok(())
    }
}

/// The ending of a file with content of this MIME type.
pub fn extension(mime_type: &str) -> &'static str {
    match mime_type {
        "image/png" => "png",
        "image/jpeg" => "jpg",
        "image/gif" => "gif",
        "image/webp" => "webp",
        "image/svg+xml" => "svg",
        "application/pdf" => "pdf",
        "application/json" => "json",
        "text/html" => "html",
        "text/markdown" => "md",
        "text/latex" => "tex",
        "text/plain" => "txt",
        _ => "bin",
    }
}

/// Where a path is shown to people.
pub fn shown(path: &Path) -> String {
    super::output::plain(&path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::OutputFile;

    fn piece(path: &str, offset: u64, data: &'static str, whole: Option<&str>) -> OutputFileChunk {
        let file = whole.map(|content| OutputFile {
            path: path.into(),
            mode: 0o777,
            digest: hex::encode(Sha256::digest(content)),
            ..OutputFile::default()
        });
        OutputFileChunk { path: path.into(), offset, data: data.into(), file }
    }

    #[test]
    fn pieces_become_a_file_once_all_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("new/out");
        let mut saver = Saver::new(target.clone()).unwrap();
        assert_eq!(saver.take(&piece("a/b.txt", 0, "one ", None)).unwrap(), Saved::Partly);
        assert!(!target.join("a/b.txt").exists());
        let done = saver.take(&piece("a/b.txt", 4, "two", Some("one two"))).unwrap();
        assert_eq!(done, Saved::Whole(target.join("a/b.txt")));
        assert_eq!(std::fs::read_to_string(target.join("a/b.txt")).unwrap(), "one two");
        saver.take(&piece("a/b.txt", 0, "new", Some("new"))).unwrap();
        assert_eq!(std::fs::read_to_string(target.join("a/b.txt")).unwrap(), "new");
        assert!(matches!(saver.take(&piece("c", 0, "x", Some("y"))).unwrap(), Saved::Not(_)));
        saver.take(&piece("d", 0, "x", None)).unwrap();
        assert!(matches!(saver.take(&piece("d", 2, "x", Some("x"))).unwrap(), Saved::Not(_)));
        saver.take(&piece("e", 0, "cut off", None)).unwrap();
        drop(saver);
        let left: Vec<_> = std::fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["a"], "nothing half-written stays");
    }

    #[test]
    fn nothing_is_written_outside() {
        let folder = tempfile::tempdir().unwrap();
        let (target, outside) = (folder.path().join("out"), folder.path().join("outside"));
        std::fs::create_dir(&outside).unwrap();
        let mut saver = Saver::new(target.clone()).unwrap();
        std::os::unix::fs::symlink(&outside, target.join("link")).unwrap();
        std::os::unix::fs::symlink(outside.join("file"), target.join("file")).unwrap();
        for path in ["../outside/x", "/tmp/x", "a/../../outside/x", "link/x", ""] {
            let saved = saver.take(&piece(path, 0, "x", Some("x"))).unwrap();
            assert!(matches!(saved, Saved::Not(_)), "{path}: {saved:?}");
        }
        // A link in the file's own place is replaced, not followed.
        saver.take(&piece("file", 0, "x", Some("x"))).unwrap();
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        assert!(target.join("file").symlink_metadata().unwrap().is_file());
    }

    #[test]
    fn what_is_displayed_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("display-1.png"), "old").unwrap();
        let mut saver = Saver::new(folder.path().to_owned()).unwrap();
        assert_eq!(saver.display("png", b"new").unwrap(), folder.path().join("display-2.png"));
        assert_eq!(std::fs::read(folder.path().join("display-1.png")).unwrap(), b"old");
    }
}
