//! `casemate cp`: files into containers and out of them.

use super::{Inside, failure, folder};
use crate::cli::client::Client;
use crate::cli::failure::{Failure, USAGE};
use crate::proto::v1::read_file_response::Part as ReadPart;
use crate::proto::v1::write_file_request::Part as WritePart;
use crate::proto::v1::{FileKind, ReadFileRequest, StatPathRequest, WriteFileHeader, WriteFileRequest};
use clap::Args;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Bytes of one message.
const PIECE: usize = 256 << 10;
/// How often progress is drawn.
const DRAW: Duration = Duration::from_millis(100);

/// What to copy, and where.
#[derive(Debug, Args)]
pub struct CopyArgs {
    /// CONTAINER:PATH, a path here, or - for standard input
    source: String,
    /// CONTAINER:PATH, a path here, or - for standard output
    destination: String,
    /// Make missing directories in the container
    #[arg(short = 'p', long)]
    parents: bool,
}

/// How much of something was copied, for people at a terminal.
pub struct Progress {
    total: Option<u64>,
    done: u64,
    drawn: Option<Instant>,
    visible: bool,
}

impl Progress {
    /// Draws nothing.
    pub fn none() -> Progress {
        Progress { total: None, done: 0, drawn: None, visible: false }
    }

    /// Draws on a terminal, where what is copied does not go there itself.
    pub fn visible() -> Progress {
        Progress { visible: std::io::stderr().is_terminal(), ..Progress::none() }
    }

    pub fn add(&mut self, bytes: usize) {
        self.done += bytes as u64;
        if !self.visible || self.drawn.is_some_and(|drawn| drawn.elapsed() < DRAW) {
            return;
        }
        self.drawn = Some(Instant::now());
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let text = match self.total.filter(|total| *total > 0) {
            Some(total) => {
                format!(
                    "{:.1} of {:.1} MiB, {:.0} %",
                    mib(self.done),
                    mib(total),
                    self.done as f64 / total as f64 * 100.0
                )
            }
            None => format!("{:.1} MiB", mib(self.done)),
        };
        let _ = write!(std::io::stderr(), "\r\x1b[K{text}");
    }

    pub fn end(&self) {
        if self.drawn.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// Copies one way.
pub async fn run(client: &Client, args: CopyArgs) -> Result<ExitCode, Failure> {
    let source = args.source.parse::<Inside>();
    let destination = args.destination.parse::<Inside>();
    match (source, destination) {
        (Ok(from), Err(_)) => download(client, &from, &args.destination).await?,
        (Err(_), Ok(to)) => upload(client, &args.source, to, args.parents).await?,
        _ => {
            let todo = "name one as CONTAINER:PATH, and the other as a path here or -";
            let why = format!("found {:?} and {:?}", args.source, args.destination);
            return Err(Failure::new(USAGE, "one side is in a container, the other is not", why, todo));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn download(client: &Client, from: &Inside, to: &str) -> Result<(), Failure> {
    if to == "-" {
        return read(client, from, &mut tokio::io::stdout(), &mut Progress::none()).await;
    }
    let mut path = PathBuf::from(to);
    if is_directory(client, from).await {
        // As cp has it: into a directory that is there, as one that is not.
        if path.is_dir() {
            path = folder::within(&path, Path::new(&from.path).file_name());
        }
        let mut progress = Progress::visible();
        let copied = folder::download(client, from, &path, &mut progress).await;
        progress.end();
        return copied;
    }
    if path.is_dir() {
        let name = Path::new(&from.path).file_name();
        path.push(
            name.ok_or_else(|| Failure::new(USAGE, "the source has no name", from.to_string(), "name the file"))?,
        );
    }
    // Whole, or not at all.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let told = |error: &dyn std::fmt::Display| Failure::local(format!("{} cannot be written", path.display()), error);
    let half = tempfile::NamedTempFile::new_in(folder).map_err(|error| told(&error))?;
    let mut file = tokio::fs::File::from_std(half.reopen().map_err(|error| told(&error))?);
    let mut progress = Progress::visible();
    let mode = read_with(client, from, &mut file, &mut progress).await?;
    file.flush().await.map_err(|error| told(&error))?;
    half.as_file().set_permissions(std::fs::Permissions::from_mode(mode)).map_err(|error| told(&error))?;
    half.persist(&path).map_err(|error| told(&error.error))?;
    Ok(())
}

/// Writes a file's bytes to something.
pub async fn read(
    client: &Client,
    from: &Inside,
    to: &mut (impl AsyncWrite + Unpin),
    progress: &mut Progress,
) -> Result<(), Failure> {
    read_with(client, from, to, progress).await.map(drop)
}

async fn read_with(
    client: &Client,
    from: &Inside,
    to: &mut (impl AsyncWrite + Unpin),
    progress: &mut Progress,
) -> Result<u32, Failure> {
    let told = |status: tonic::Status| failure(client, format!("{from} cannot be read"), &status);
    let request =
        ReadFileRequest { container_id: from.container.clone(), path: from.path.clone(), ..Default::default() };
    let mut stream = client.containers().read_file(request).await.map_err(told)?.into_inner();
    let mut mode = 0o644;
    while let Some(message) = stream.message().await.map_err(told)? {
        match message.part {
            Some(ReadPart::Info(info)) => {
                mode = info.mode & 0o777;
                progress.total = Some(info.size_bytes);
            }
            Some(ReadPart::Chunk(data)) => {
                to.write_all(&data).await.map_err(|error| Failure::output(&error))?;
                progress.add(data.len());
            }
            None => {}
        }
    }
    to.flush().await.map_err(|error| Failure::output(&error))?;
    progress.end();
    Ok(mode)
}

async fn upload(client: &Client, from: &str, mut to: Inside, parents: bool) -> Result<(), Failure> {
    let mut header = WriteFileHeader { make_parents: parents, ..Default::default() };
    let mut progress = Progress::visible();
    let source: Box<dyn AsyncRead + Send + Unpin> = match from {
        "-" => Box::new(tokio::io::stdin()),
        path => {
            let told = |error: &dyn std::fmt::Display| Failure::local(format!("{path} cannot be read"), error);
            let file = tokio::fs::File::open(path).await.map_err(|error| told(&error))?;
            let about = file.metadata().await.map_err(|error| told(&error))?;
            if about.is_dir() {
                let path = Path::new(path);
                if is_directory(client, &to).await {
                    to.path = inside(&to.path, path);
                }
                let copied = folder::upload(client, path, &to, &mut progress).await;
                progress.end();
                return copied;
            }
            header.mode = Some(about.permissions().mode() & 0o777);
            if about.is_file() {
                header.size_bytes = Some(about.len());
                progress.total = Some(about.len());
            }
            Box::new(file)
        }
    };
    if from != "-" && is_directory(client, &to).await {
        to.path = inside(&to.path, Path::new(from));
    }
    (header.container_id, header.path) = (to.container.clone(), to.path.clone());
    let (send, parts) = mpsc::channel(4);
    let _ = send.send(WriteFileRequest { part: Some(WritePart::Header(header)) }).await;
    let mut containers = client.containers();
    let mut writing = std::pin::pin!(containers.write_file(ReceiverStream::new(parts)));
    let fed = tokio::select! {
        written = &mut writing => Ok(Some(written)),
        fed = feed(source, &send, &mut progress) => fed.map(|()| None),
    };
    progress.end();
    let written = match fed {
        // The stream is left without an end, so that nothing half-written is seen.
        Err(error) => return Err(Failure::local(format!("{from} cannot be read"), error)),
        Ok(Some(written)) => written,
        Ok(None) => {
            drop(send);
            writing.await
        }
    };
    written.map(drop).map_err(|status| failure(client, format!("{to} cannot be written"), &status))
}

async fn feed(
    mut source: Box<dyn AsyncRead + Send + Unpin>,
    send: &mpsc::Sender<WriteFileRequest>,
    progress: &mut Progress,
) -> std::io::Result<()> {
    loop {
        let mut piece = bytes::BytesMut::with_capacity(PIECE);
        if source.read_buf(&mut piece).await? == 0 {
            return Ok(());
        }
        let length = piece.len();
        if send.send(WriteFileRequest { part: Some(WritePart::Chunk(piece.freeze())) }).await.is_err() {
            // Whoever took it says why not.
            return Ok(());
        }
        progress.add(length);
    }
}

/// Where something from here is in a directory there.
fn inside(directory: &str, from: &Path) -> String {
    let whole = from.canonicalize().unwrap_or_else(|_| from.to_owned());
    let name = whole.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match directory {
        "" => name,
        directory => format!("{}/{name}", directory.trim_end_matches('/')),
    }
}

async fn is_directory(client: &Client, to: &Inside) -> bool {
    let path = if to.path.is_empty() { "." } else { &to.path };
    let request = StatPathRequest {
        container_id: to.container.clone(),
        path: path.to_owned(),
        follow_links: true,
        ..Default::default()
    };
    let found = client.containers().stat_path(request).await;
    found.is_ok_and(|found| found.into_inner().info.is_some_and(|info| info.kind() == FileKind::Directory))
}
