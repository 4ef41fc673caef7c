//! `casemate cp` of whole directories: as archives that nobody sees.

use super::copy::Progress;
use super::{Inside, failure};
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::proto::v1::download_archive_response::Part as DownPart;
use crate::proto::v1::upload_archive_request::Part as UpPart;
use crate::proto::v1::{ArchiveFormat, DownloadArchiveRequest, UploadArchiveHeader, UploadArchiveRequest};
use bytes::{Bytes, BytesMut};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Bytes of one message.
const PIECE: usize = 256 << 10;
/// Messages that wait.
const QUEUE: usize = 4;

/// Copies a directory into a container: what is in it is afterwards in `to`.
pub async fn upload(client: &Client, from: &Path, to: &Inside, progress: &mut Progress) -> Result<(), Failure> {
    let header = UploadArchiveHeader {
        container_id: to.container.clone(),
        path: to.path.clone(),
        format: ArchiveFormat::Tar.into(),
        make_parents: true,
        ..Default::default()
    };
    let (send, parts) = mpsc::channel(QUEUE);
    let _ = send.send(UploadArchiveRequest { part: Some(UpPart::Header(header)) }).await;
    let (pack, mut packed) = mpsc::channel(QUEUE);
    let folder = from.to_owned();
    // Reading files blocks.
    let packing = tokio::task::spawn_blocking(move || {
        let mut archive = tar::Builder::new(Pieces { send: pack, piece: BytesMut::new() });
        archive.follow_symlinks(false);
        archive.append_dir_all("", folder)?;
        archive.into_inner()?.flush()
    });
    let mut containers = client.containers();
    let mut sending = std::pin::pin!(containers.upload_archive(ReceiverStream::new(parts)));
    let told = |status| failure(client, format!("{to} cannot be written"), &status);
    let feed = async {
        while let Some(data) = packed.recv().await {
            let length = data.len();
            if send.send(UploadArchiveRequest { part: Some(UpPart::Chunk(data)) }).await.is_err() {
                return;
            }
            progress.add(length);
        }
    };
    tokio::select! {
        sent = &mut sending => return sent.map(drop).map_err(told),
        () = feed => {}
    }
    // A directory that cannot be read leaves the stream without an end: nothing of it is seen.
    let here = |error: &dyn std::fmt::Display| Failure::local(format!("{} cannot be read", from.display()), error);
    packing.await.map_err(|error| here(&error))?.map_err(|error| here(&error))?;
    drop(send);
    sending.await.map(drop).map_err(told)
}

/// Copies a directory out of a container: what is in it is afterwards in `to`, which is made.
pub async fn download(client: &Client, from: &Inside, to: &Path, progress: &mut Progress) -> Result<(), Failure> {
    let path = if from.path.is_empty() { "." } else { &from.path };
    let request = DownloadArchiveRequest {
        container_id: from.container.clone(),
        paths: vec![path.to_owned()],
        base_path: path.to_owned(),
        format: ArchiveFormat::Tar.into(),
        ..Default::default()
    };
    let told = |status: tonic::Status| failure(client, format!("{from} cannot be read"), &status);
    let mut stream = client.containers().download_archive(request).await.map_err(told)?.into_inner();
    let (send, pieces) = mpsc::channel::<io::Result<Bytes>>(QUEUE);
    let folder = to.to_owned();
    // Links in it lead nowhere else: what would be written beyond the directory is refused.
    let unpacking = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&folder)?;
        let mut archive = tar::Archive::new(Taken { pieces, piece: Bytes::new() });
        archive.set_preserve_mtime(true);
        archive.unpack(&folder)
    });
    let mut whole = false;
    loop {
        let message = match stream.message().await {
            Ok(Some(message)) => message,
            Ok(None) => break,
            Err(status) => {
                let _ = send.send(Err(io::ErrorKind::UnexpectedEof.into())).await;
                return Err(told(status));
            }
        };
        match message.part {
            Some(DownPart::Chunk(data)) => {
                progress.add(data.len());
                if send.send(Ok(data)).await.is_err() {
                    break;
                }
            }
            Some(DownPart::Summary(_)) => whole = true,
            _ => {}
        }
    }
    drop(send);
    let here = |error: &dyn std::fmt::Display| Failure::local(format!("{} cannot be written", to.display()), error);
    unpacking.await.map_err(|error| here(&error))?.map_err(|error| here(&error))?;
    match whole {
        true => Ok(()),
        false => Err(told(tonic::Status::unavailable("the stream ended before the archive did"))),
    }
}

/// Where something in a directory goes.
pub fn within(folder: &Path, name: Option<&std::ffi::OsStr>) -> PathBuf {
    name.map_or_else(|| folder.to_owned(), |name| folder.join(name))
}

/// Writes into a channel, from a thread that may block.
struct Pieces {
    send: mpsc::Sender<Bytes>,
    piece: BytesMut,
}

impl Write for Pieces {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(data);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = self.piece.split().freeze();
        match piece.is_empty() {
            true => Ok(()),
            false => self.send.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into()),
        }
    }
}

/// Reads from a channel, in a thread that may block.
struct Taken {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Read for Taken {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let taken = self.piece.split_to(self.piece.len().min(buffer.len()));
        buffer[..taken.len()].copy_from_slice(&taken);
        Ok(taken.len())
    }
}
