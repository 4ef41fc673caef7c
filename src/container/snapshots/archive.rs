//! The file of a workspace: written aside, flushed, and moved to where it counts; read piece by piece.

use crate::domain::id::SnapshotId;
use crate::domain::snapshot::ContainerSnapshot;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Ends the name of an archive.
const WHOLE: &str = ".tar";
/// Ends the name of one that is not complete yet.
const ASIDE: &str = ".part";
/// Pieces that wait for a slow disk, or for a slow reader.
const PIECES: usize = 8;
/// Bytes that are read at once.
const PIECE: usize = 128 << 10;

fn path(directory: &Path, id: SnapshotId) -> PathBuf {
    directory.join(format!("{id}{WHOLE}"))
}

/// Makes the directory, and removes from it what belongs to no snapshot.
pub(super) fn prepare(directory: &Path, known: &HashSet<SnapshotId>) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let id = entry.file_name().to_str().and_then(|name| name.strip_suffix(WHOLE)?.parse::<SnapshotId>().ok());
        if !id.is_some_and(|id| known.contains(&id)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Removes an archive, if there is one.
pub(super) fn remove(directory: &Path, id: SnapshotId) {
    match fs::remove_file(path(directory, id)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // The next start removes it.
        Err(error) => tracing::warn!(snapshot = %id, %error, "the workspace of a snapshot could not be removed yet"),
    }
}

/// What is wrong with the archive of a snapshot, as far as that shows without reading it.
pub(super) fn fault(directory: &Path, snapshot: &ContainerSnapshot) -> Option<String> {
    let workspace = snapshot.workspace?;
    match fs::metadata(path(directory, snapshot.id)) {
        Ok(found) if found.len() == workspace.archive_bytes => None,
        Ok(found) => Some(format!(
            "the file of its workspace has {} bytes and should have {}",
            found.len(),
            workspace.archive_bytes
        )),
        Err(error) => Some(format!("the file of its workspace cannot be read: {error}")),
    }
}

/// SHA-256 of an archive. Takes as long as it takes to read it.
pub(super) fn digest(directory: &Path, id: SnapshotId) -> io::Result<[u8; 32]> {
    let mut file = File::open(path(directory, id))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; PIECE];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().into()),
            count => hash.update(&buffer[..count]),
        }
    }
}

/// The pieces of an archive, as somebody takes them.
pub(super) fn read(directory: &Path, id: SnapshotId) -> mpsc::Receiver<io::Result<Bytes>> {
    let (send, receive) = mpsc::channel(PIECES);
    let path = path(directory, id);
    tokio::task::spawn_blocking(move || {
        let read = || {
            let mut file = File::open(&path)?;
            loop {
                let mut piece = vec![0; PIECE];
                let count = file.read(&mut piece)?;
                piece.truncate(count);
                if count == 0 || send.blocking_send(Ok(piece.into())).is_err() {
                    return io::Result::Ok(());
                }
            }
        };
        if let Err(error) = read() {
            // Whoever took them may be gone.
            let _ = send.blocking_send(Err(error));
        }
    });
    receive
}

/// An archive that is being written by a thread of its own. Dropped before its end, nothing of it is left.
pub(super) struct Writing {
    /// None for the end.
    send: mpsc::Sender<Option<Bytes>>,
    written: JoinHandle<io::Result<()>>,
}

impl Writing {
    /// Begins.
    pub(super) fn begin(directory: &Path, id: SnapshotId) -> Writing {
        let (send, mut receive) = mpsc::channel(PIECES);
        let (directory, whole) = (directory.to_owned(), path(directory, id));
        let aside = directory.join(format!("{id}{ASIDE}"));
        let written = tokio::task::spawn_blocking(move || {
            let written = write(&aside, &mut receive).and_then(|()| {
                fs::rename(&aside, &whole)?;
                File::open(&directory)?.sync_all()
            });
            if written.is_err() {
                // Whatever is left of it, the next start removes.
                let _ = fs::remove_file(&aside);
                let _ = fs::remove_file(&whole);
            }
            written
        });
        Writing { send, written }
    }

    /// Takes the next bytes, once there is room for them in memory.
    pub(super) async fn write(&mut self, data: Bytes) -> io::Result<()> {
        match self.send.send(Some(data)).await {
            Ok(()) => Ok(()),
            Err(_) => self.ended().await,
        }
    }

    /// That was all. Answers when it is on disk, under its name.
    pub(super) async fn finish(mut self) -> io::Result<()> {
        // An error is told by the thread.
        let _ = self.send.send(None).await;
        self.ended().await
    }

    async fn ended(&mut self) -> io::Result<()> {
        (&mut self.written).await.unwrap_or_else(|panic| Err(io::Error::other(panic)))
    }
}

fn write(aside: &Path, pieces: &mut mpsc::Receiver<Option<Bytes>>) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(aside)?;
    loop {
        match pieces.blocking_recv() {
            Some(Some(data)) => file.write_all(&data)?,
            Some(None) => return file.sync_all(),
            None => return Err(io::ErrorKind::Interrupted.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(directory: &Path, id: SnapshotId) -> Vec<u8> {
        let mut pieces = read(directory, id);
        let mut found = Vec::new();
        while let Some(piece) = pieces.recv().await {
            found.extend_from_slice(&piece.unwrap());
        }
        found
    }

    #[tokio::test]
    async fn a_file_is_there_as_a_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let (id, cut_off) = (SnapshotId::new(), SnapshotId::new());
        let mut writing = Writing::begin(folder.path(), id);
        let data: Vec<u8> = (0..300_000u32).map(|number| number as u8).collect();
        for piece in data.chunks(70_000) {
            writing.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        assert!(!path(folder.path(), id).exists());
        writing.finish().await.unwrap();
        assert_eq!(all(folder.path(), id).await, data);
        let expected: [u8; 32] = Sha256::digest(&data).into();
        assert_eq!(digest(folder.path(), id).unwrap(), expected);

        let mut writing = Writing::begin(folder.path(), cut_off);
        writing.write(Bytes::from_static(b"half")).await.unwrap();
        let Writing { send, written } = writing;
        drop(send);
        assert!(written.await.unwrap().is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

        // What belongs to none is gone with the next start.
        fs::write(folder.path().join("stray"), "x").unwrap();
        prepare(folder.path(), &HashSet::from([id])).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        prepare(folder.path(), &HashSet::new()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
