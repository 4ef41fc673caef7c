//! Files of a workspace: put there before a run, and told of after it.

use super::Ground;
use crate::container::files::{FileWrite, WriteMode};
use crate::domain::file::{FileInfo, FileKind};
use crate::domain::input::InputFile;
use crate::domain::io::OutputSink;
use crate::domain::output::{FileChunk, MAX_FILE_CHUNK, OutputFile};
use crate::domain::pattern::PathPattern;
use crate::error::{Error, Result};
use crate::execution::Live;
use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Entries of a workspace that are looked at; what changes beyond is not told of.
const SEEN: usize = 10_000;
/// Levels that are looked at.
const DEPTH: u32 = 32;
/// Where runs put what is their own, below the workspace.
pub(super) const OWN: &str = ".casemate";

/// Whether a path, relative to the workspace, is where runs put what is their own.
pub(super) fn is_own(path: &str) -> bool {
    path.strip_prefix(OWN).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Refuses files that somebody wants to be there.
pub(super) fn check(files: &[InputFile]) -> Result<()> {
    match files.iter().position(|file| is_own(&file.path)) {
        None => Ok(()),
        Some(at) => {
            let text = format!("is below {OWN}, which runs use for themselves");
            Err(Error::invalid(format!("call.files[{at}].path"), text))
        }
    }
}

/// The files of a workspace at one moment, by path.
#[derive(Debug, Default)]
pub(super) struct Seen {
    files: BTreeMap<String, FileInfo>,
    /// There are more.
    more: bool,
}

impl Ground {
    /// Writes a file, by a path of the container or one below the workspace.
    pub(super) async fn write(
        &self,
        path: &str,
        mode: WriteMode,
        permissions: Option<u32>,
        data: Bytes,
    ) -> Result<FileInfo> {
        let size = Some(data.len() as u64);
        let write = FileWrite { path: path.to_owned(), mode, permissions, parents: true, size, digest: None };
        let mut writer = self.containers.write_file(&self.id, &self.viewer, write).await?;
        if !data.is_empty() {
            writer.write(data).await?;
        }
        Ok(writer.finish().await?.file)
    }

    /// A file, by such a path, and a piece of its content.
    pub(super) async fn read(&self, path: &str, offset: u64, length: u64) -> Result<(FileInfo, Bytes)> {
        let reading = self.containers.read_file(&self.id, &self.viewer, path, offset, Some(length));
        let (info, mut reader) = reading.await?;
        let mut all = BytesMut::new();
        while let Some(data) = reader.next().await? {
            all.extend_from_slice(&data);
        }
        Ok((info, all.freeze()))
    }

    /// Puts a file in place, whole.
    pub(super) async fn put(&self, path: &str, data: Bytes, mode: u32) -> Result<()> {
        let path = format!("{}/{path}", self.place.directory());
        self.write(&path, WriteMode::Replace, Some(mode), data).await.map(drop)
    }

    /// Puts the files of a call in place.
    pub(super) async fn put_all(&self, files: &[InputFile]) -> Result<()> {
        for file in files {
            self.put(&file.path, file.data.clone(), file.mode).await?;
        }
        Ok(())
    }

    /// Removes a file or a directory with all that is in it.
    pub(super) async fn clear(&self, path: &str) -> Result<()> {
        let path = format!("{}/{path}", self.place.directory());
        self.containers.remove_path(&self.id, &self.viewer, &path, (true, true)).await.map(drop)
    }

    /// A file, at most so many bytes of it. None if it is not there.
    pub(super) async fn take(&self, path: &str, most: u64) -> Result<Option<Bytes>> {
        let path = format!("{}/{path}", self.place.directory());
        match self.read(&path, 0, most).await {
            Ok((_, data)) => Ok(Some(data)),
            Err(Error::File { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What is in the workspace now.
    pub(super) async fn look(&self) -> Result<Seen> {
        let (directory, mut seen, mut after) = (self.place.directory(), Seen::default(), None);
        let above = format!("{directory}/");
        loop {
            let listed = self.containers.list_directory(&self.id, &self.viewer, directory, DEPTH, after, SEEN).await?;
            for entry in listed.entries {
                let Ok(path) = std::str::from_utf8(&entry.path) else { continue };
                let Some(path) = path.strip_prefix(&above) else { continue };
                if !is_own(path) && entry.kind != FileKind::Directory {
                    seen.files.insert(path.to_owned(), entry);
                }
            }
            after = listed.next;
            if after.is_none() {
                return Ok(seen);
            }
            if seen.files.len() >= SEEN {
                seen.more = true;
                return Ok(seen);
            }
        }
    }

    /// Tells of what changed since, and gives back what is wanted of it. How many files are not told of comes with it.
    pub(super) async fn give_back(
        &self,
        before: &Seen,
        live: &Live,
        wanted: &[PathPattern],
    ) -> Result<(Vec<OutputFile>, u64)> {
        let after = self.look().await?;
        let mut files = changes(before, &after);
        let most = crate::domain::output::MAX_LISTED_FILES;
        let unlisted = files.len().saturating_sub(most) as u64;
        files.truncate(most);
        let mut left = live.origin().limits.scratch_bytes;
        for file in &mut files {
            if file.link_target.is_empty() && wanted.iter().any(|pattern| pattern.matches(&file.path)) {
                self.keep(file, &mut left, live).await;
            }
        }
        Ok((files, unlisted))
    }

    /// Gives the content of a file to the execution, if there is room for it.
    async fn keep(&self, file: &mut OutputFile, left: &mut u64, live: &Live) {
        if file.size_bytes > *left {
            let text =
                format!("its {} bytes are more than what is left of limits.scratch_bytes, {left}", file.size_bytes);
            file.problem = text;
            return;
        }
        let content = match self.take(&file.path, file.size_bytes).await {
            Ok(Some(content)) => content,
            Ok(None) => {
                file.problem = "it cannot be read, or is gone".into();
                return;
            }
            Err(error) => {
                file.problem = error.to_string();
                return;
            }
        };
        // It may have changed since it was listed; what is here counts.
        file.size_bytes = content.len() as u64;
        *left -= file.size_bytes;
        (file.kept, file.digest) = (true, hex::encode(Sha256::digest(&content)));
        let (mut offset, mut rest) = (0, content);
        loop {
            let data = rest.split_to(rest.len().min(MAX_FILE_CHUNK));
            let (last, length) = (rest.is_empty(), data.len() as u64);
            live.file(FileChunk { path: file.path.clone(), offset, data, file: last.then(|| file.clone()) });
            offset += length;
            if last {
                return;
            }
        }
    }
}

/// What is new or other than before.
fn changes(before: &Seen, after: &Seen) -> Vec<OutputFile> {
    let same = |old: &FileInfo, new: &FileInfo| {
        (old.kind, old.size, old.mode, old.modified, &old.target)
            == (new.kind, new.size, new.mode, new.modified, &new.target)
    };
    // Where not all was seen before, what is not known may have been there.
    let of_note = |path: &&String| !before.more || before.files.contains_key(*path);
    let changed = after.files.iter().filter(|(path, new)| before.files.get(*path).is_none_or(|old| !same(old, new)));
    changed
        .filter(|(path, _)| of_note(path))
        .map(|(path, new)| OutputFile {
            path: path.clone(),
            size_bytes: new.size,
            mode: new.mode,
            created: !before.files.contains_key(path),
            link_target: String::from_utf8_lossy(&new.target).into_owned(),
            ..OutputFile::default()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    fn seen(files: &[(&str, u64, u64)]) -> Seen {
        let file = |(path, size, modified): &(&str, u64, u64)| {
            let info = FileInfo {
                path: path.as_bytes().to_vec(),
                kind: FileKind::File,
                size: *size,
                allocated: *size,
                mode: 0o644,
                user: 1,
                group: 1,
                modified: Timestamp(*modified),
                target: Vec::new(),
            };
            ((*path).to_owned(), info)
        };
        Seen { files: files.iter().map(file).collect(), more: false }
    }

    #[test]
    fn what_is_new_or_other_is_told() {
        let before = seen(&[("same", 1, 1), ("grown", 1, 1), ("touched", 1, 1), ("gone", 1, 1)]);
        let after = seen(&[("same", 1, 1), ("grown", 2, 1), ("touched", 1, 2), ("new", 0, 3)]);
        let told: Vec<(String, bool)> =
            changes(&before, &after).into_iter().map(|file| (file.path, file.created)).collect();
        assert_eq!(told, [("grown".into(), false), ("new".into(), true), ("touched".into(), false)]);
        let partly = Seen { more: true, ..before };
        assert!(changes(&partly, &after).iter().all(|file| !file.created));
    }
}
