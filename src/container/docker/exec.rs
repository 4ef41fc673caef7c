//! Processes in a sandbox by Docker's own means, for images in which no supervisor runs.
//!
//! What a process writes is hostile. Docker sends it in frames, each with its stream and its length, but what comes from
//! a terminal comes as it is; a client that guesses which of the two it sees takes a process's first bytes for a frame of
//! four gigabytes. Here the one who asked for a terminal knows that there are no frames; and of a frame no more is kept
//! than what was read at once.

use super::Docker;
use super::errors;
use crate::container::backend::{BackendError, BackendResult, ExecRequest};
use crate::domain::event::OutputStream;
use bollard::errors::Error;
use bollard::models::ExecConfig;
use bollard::query_parameters::ResizeExecOptionsBuilder;
use bytes::{Buf, Bytes, BytesMut};
use futures_core::Stream;
use http::{Request, Response, StatusCode};
use http_body::Body;
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, WriteHalf};

/// Bytes that are read, and given on, at once.
const PIECE: usize = 32 << 10;
/// Bytes of a refusal that are read.
const REFUSAL: usize = 16 << 10;
/// Bytes before each frame: its stream, three that say nothing, its length in four.
const HEADER: usize = 8;

/// A process that runs.
pub struct ExecStream {
    /// Its id at Docker.
    pub id: String,
    /// Its input. Shutting it down ends the input; a process with a terminal is told by a character.
    pub input: ExecInput,
    /// Its output. Ends when all who hold it in the sandbox have closed it. With a terminal all of it is standard output.
    pub output: ExecOutput,
}

impl Docker {
    /// Runs a process in a sandbox that runs. `NotFound` when there is no such sandbox, `Conflict` when it does not run or
    /// is frozen, `Refused` when Docker does not start such a program. A program that is not there mostly shows by its
    /// exit code, 126 or 127, and by a message in its output.
    pub async fn exec(&self, sandbox: &str, request: &ExecRequest) -> BackendResult<ExecStream> {
        let with_terminal = request.terminal.is_some();
        let config = ExecConfig {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(with_terminal),
            // Older daemons do not know it.
            console_size: request.terminal.map(|(columns, rows)| vec![rows.into(), columns.into()]),
            cmd: Some(request.command.clone()),
            env: Some(request.environment.clone()),
            user: Some(request.user.clone()),
            working_dir: Some(request.working_directory.clone()),
            privileged: Some(false),
            ..ExecConfig::default()
        };
        let made = self
            .client
            .ask(|api| {
                let config = config.clone();
                async move { api.create_exec(sandbox, config).await }
            })
            .await?;
        let stream = self.attach(&made.id, with_terminal).await.map_err(|error| errors::backend(&error))?;
        if let Some((columns, rows)) = request.terminal
            && let Err(error) = self.exec_resize(&made.id, columns, rows).await
        {
            // It runs, which matters more than how wide it is.
            tracing::debug!(exec = %made.id, "the terminal of a process keeps its first size: {error}");
        }
        let (read, write) = tokio::io::split(TokioIo::new(stream));
        let frames = (!with_terminal).then(Frames::new);
        Ok(ExecStream { id: made.id, input: ExecInput(write), output: ExecOutput::new(Box::new(read), frames) })
    }

    /// Exit code of a process; none while it runs. `NotFound` a while after its end, and when its sandbox is gone.
    pub async fn exec_exit(&self, id: &str) -> BackendResult<Option<i32>> {
        let seen = self.client.ask(|api| async move { api.inspect_exec(id).await }).await?;
        let code = seen.exit_code.and_then(|code| i32::try_from(code).ok());
        Ok(if seen.running == Some(true) { None } else { code })
    }

    /// Gives the terminal of a process another size. Nothing for one that is over.
    pub async fn exec_resize(&self, id: &str, columns: u16, rows: u16) -> BackendResult<()> {
        let size = ResizeExecOptionsBuilder::default().w(columns.into()).h(rows.into()).build();
        let result = self
            .client
            .call(|api| {
                let size = size.clone();
                async move { api.resize_exec(id, size).await }
            })
            .await;
        let Err(error) = result else { return Ok(()) };
        // Docker says in many ways that there is nothing to resize any more.
        match self.exec_exit(id).await? {
            Some(_) => Ok(()),
            None => Err(errors::backend(&error)),
        }
    }

    /// What the first process of a sandbox writes, from now on.
    pub(super) async fn attach_output(&self, sandbox: &str) -> BackendResult<ExecOutput> {
        let path = format!("/containers/{sandbox}/attach?stream=1&stdout=1&stderr=1");
        let stream = self.upgrade(path, String::new()).await.map_err(|error| errors::backend(&error))?;
        // Nothing is said on this way: the sandbox has no input.
        let (read, write) = tokio::io::split(TokioIo::new(stream));
        Ok(ExecOutput { _write: Some(write), ..ExecOutput::new(Box::new(read), Some(Frames::new())) })
    }

    /// Starts a process that was made, and takes over the connection that this was asked on.
    async fn attach(&self, id: &str, with_terminal: bool) -> Result<Upgraded, Error> {
        let body = serde_json::json!({ "Detach": false, "Tty": with_terminal }).to_string();
        self.upgrade(format!("/exec/{id}/start"), body).await
    }

    /// Asks for something, and takes over the connection that this was asked on.
    async fn upgrade(&self, path: String, body: String) -> Result<Upgraded, Error> {
        let request = Request::post(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .header(http::header::CONNECTION, "Upgrade")
            .header(http::header::UPGRADE, "tcp")
            .body(bollard::body_full(Bytes::from(body)))?;
        let answer = self.client.send(request).await?;
        match answer.status() {
            StatusCode::SWITCHING_PROTOCOLS => Ok(hyper::upgrade::on(answer).await?),
            status => {
                let message = refusal(answer).await?;
                Err(Error::DockerResponseServerError { status_code: status.as_u16(), message })
            }
        }
    }
}

/// What Docker says in a refusal.
async fn refusal(answer: Response<Incoming>) -> Result<String, Error> {
    let mut body = answer.into_body();
    let mut text = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(data) = frame?.into_data() {
            text.extend_from_slice(&data[..data.len().min(REFUSAL - text.len())]);
        }
        if text.len() == REFUSAL {
            break;
        }
    }
    let json = serde_json::from_slice::<serde_json::Value>(&text).ok();
    let message = json.as_ref().and_then(|json| json["message"].as_str());
    Ok(message.map_or_else(|| String::from_utf8_lossy(&text).into_owned(), str::to_owned))
}

/// Input of a process.
pub struct ExecInput(WriteHalf<TokioIo<Upgraded>>);

impl AsyncWrite for ExecInput {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Output of a process, in pieces of 32 KiB at most. An error ends it.
pub struct ExecOutput {
    read: Box<dyn AsyncRead + Send + Unpin>,
    /// None for a terminal, whose output has no frames.
    frames: Option<Frames>,
    buffer: BytesMut,
    space: Box<[u8]>,
    over: bool,
    /// The other half of a connection that is only read: closing it would end both.
    _write: Option<WriteHalf<TokioIo<Upgraded>>>,
}

impl ExecOutput {
    fn new(read: Box<dyn AsyncRead + Send + Unpin>, frames: Option<Frames>) -> Self {
        ExecOutput { read, frames, buffer: BytesMut::new(), space: vec![0; PIECE].into(), over: false, _write: None }
    }

    /// The next piece of what was read.
    fn piece(&mut self) -> io::Result<Option<(OutputStream, Bytes)>> {
        match &mut self.frames {
            Some(frames) => frames.piece(&mut self.buffer),
            None => Ok((!self.buffer.is_empty()).then(|| (OutputStream::Stdout, self.buffer.split().freeze()))),
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<(OutputStream, Bytes)>>> {
        loop {
            if let Some(piece) = self.piece()? {
                return Poll::Ready(Ok(Some(piece)));
            }
            let mut read = ReadBuf::new(&mut self.space);
            ready!(Pin::new(&mut self.read).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                let whole = self.buffer.is_empty() && self.frames.as_ref().is_none_or(Frames::is_whole);
                return Poll::Ready(if whole { Ok(None) } else { Err(cut_off()) });
            }
            self.buffer.extend_from_slice(read.filled());
        }
    }
}

impl Stream for ExecOutput {
    type Item = BackendResult<(OutputStream, Bytes)>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        let piece = ready!(self.poll_piece(cx));
        self.over = !matches!(piece, Ok(Some(_)));
        Poll::Ready(match piece {
            Ok(piece) => piece.map(Ok),
            Err(error) => Some(Err(BackendError::Unavailable(format!("the output of a process is cut off: {error}")))),
        })
    }
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended in the middle of a frame")
}

/// Takes frames apart as they come.
struct Frames {
    stream: OutputStream,
    /// Bytes of the current frame that are still to come.
    left: usize,
}

impl Frames {
    fn new() -> Self {
        Frames { stream: OutputStream::Stdout, left: 0 }
    }

    /// The next piece of a frame; none when there is not enough yet. What is left over stays in `buffer`, which is less
    /// than the header of a frame then.
    fn piece(&mut self, buffer: &mut BytesMut) -> io::Result<Option<(OutputStream, Bytes)>> {
        // A frame may be empty.
        while self.left == 0 {
            let Some(header) = buffer.first_chunk::<HEADER>() else { return Ok(None) };
            self.stream = match header[0] {
                // What Docker would echo of the input counts as output, as in its own client.
                0 | 1 => OutputStream::Stdout,
                2 => OutputStream::Stderr,
                _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "this is no frame of Docker's")),
            };
            self.left = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
            buffer.advance(HEADER);
        }
        if buffer.is_empty() {
            return Ok(None);
        }
        let piece = buffer.split_to(self.left.min(buffer.len())).freeze();
        self.left -= piece.len();
        Ok(Some((self.stream, piece)))
    }

    fn is_whole(&self) -> bool {
        self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio_stream::StreamExt;

    /// All that a stream gives when its bytes come in these pieces, and whether it ended well.
    async fn given(pieces: Vec<Vec<u8>>, frames: bool) -> (Vec<(OutputStream, Vec<u8>)>, bool) {
        let (mut write, read) = tokio::io::duplex(64);
        let writing = tokio::spawn(async move {
            for piece in pieces {
                tokio::io::AsyncWriteExt::write_all(&mut write, &piece).await.ok();
            }
        });
        let mut output = ExecOutput::new(Box::new(read), frames.then(Frames::new));
        let mut all: Vec<(OutputStream, Vec<u8>)> = Vec::new();
        let mut well = true;
        while let Some(piece) = output.next().await {
            let Ok((stream, data)) = piece else {
                well = false;
                break;
            };
            match all.last_mut() {
                Some((last, text)) if *last == stream => text.extend_from_slice(&data),
                _ => all.push((stream, data.to_vec())),
            }
        }
        drop(output);
        writing.await.unwrap();
        (all, well)
    }

    fn frame(stream: u8, data: &[u8]) -> Vec<u8> {
        let mut frame = vec![stream, 0, 0, 0];
        frame.extend_from_slice(&(data.len() as u32).to_be_bytes());
        frame.extend_from_slice(data);
        frame
    }

    #[tokio::test]
    async fn a_terminal_has_no_frames_whatever_it_says() {
        let forged = b"\x01\x00\x00\x00\xff\xff\xff\xffhello".to_vec();
        let (all, well) = given(vec![forged.clone()], false).await;
        assert_eq!((all, well), (vec![(OutputStream::Stdout, forged)], true));
    }

    #[tokio::test]
    async fn a_frame_that_never_ends_is_given_on_as_it_comes() {
        let begin = b"\x02\x00\x00\x00\xff\xff\xff\xffhello".to_vec();
        let (all, well) = given(vec![begin], true).await;
        assert_eq!((all, well), (vec![(OutputStream::Stderr, b"hello".to_vec())], false));
    }

    #[tokio::test]
    async fn what_is_no_frame_ends_the_output() {
        let (all, well) = given(vec![frame(1, b"a"), b"HTTP/1.1 500".to_vec()], true).await;
        assert_eq!((all, well), (vec![(OutputStream::Stdout, b"a".to_vec())], false));
        let (all, well) = given(vec![frame(1, b"a"), frame(1, b""), vec![1, 0, 0]], true).await;
        assert_eq!((all, well), (vec![(OutputStream::Stdout, b"a".to_vec())], false));
    }

    proptest! {
        #[test]
        fn frames_are_taken_apart_wherever_they_are_cut(
            said in prop::collection::vec((1u8..3, prop::collection::vec(any::<u8>(), 0..200)), 0..20),
            cut in 1usize..100,
        ) {
            let bytes: Vec<u8> = said.iter().flat_map(|(stream, data)| frame(*stream, data)).collect();
            let pieces = bytes.chunks(cut).map(<[u8]>::to_vec).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (all, well) = runtime.block_on(given(pieces, true));
            prop_assert!(well);
            for (number, stream) in [(1, OutputStream::Stdout), (2, OutputStream::Stderr)] {
                let got: Vec<u8> =
                    all.iter().filter(|(found, _)| *found == stream).flat_map(|(_, data)| data.clone()).collect();
                let said: Vec<u8> =
                    said.iter().filter(|(found, _)| *found == number).flat_map(|(_, data)| data.clone()).collect();
                prop_assert_eq!(got, said);
            }
        }
    }
}
