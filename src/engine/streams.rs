//! A guest's standard streams, straight from and to whoever owns the execution: no copy, no buffer, no task.

use crate::domain::event::OutputStream as Stream;
use crate::domain::io::{InputRead, InputSource, OutputSink};
use bytes::Bytes;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

/// Bytes a guest gets from one read, and may hand over in one write, at most: the host allocates that much
/// at its word.
const CHUNK: usize = 64 << 10;

/// How long a guest waits for readers that keep up, at a time. Those that then have not taken what is about
/// to be dropped are told so, and are not waited for again before they have read a good deal more: a reader
/// that stands still costs a guest this much once, a slow one a few percent. Long enough for a reader that
/// only has to wait for its turn on a busy machine.
const PATIENCE: Duration = Duration::from_millis(20);

/// Standard input.
#[derive(Clone)]
pub(super) struct Input(pub Arc<dyn InputSource>);

/// Standard output or standard error. The sink takes everything at once and keeps its own bounds; writing
/// waits for [`PATIENCE`] at most.
#[derive(Clone)]
pub(crate) struct Output(pub Arc<dyn OutputSink>, pub Stream);

impl IsTerminal for Input {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Input {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        poll_fn(|cx| self.0.poll_ready(cx)).await;
    }
}

#[async_trait]
impl InputStream for Input {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        match self.0.read(size.min(CHUNK)) {
            InputRead::Data(data) => Ok(data),
            InputRead::Eof => Err(StreamError::Closed),
            InputRead::Pending => Ok(Bytes::new()),
        }
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        loop {
            let data = self.read(size)?;
            if size == 0 || !data.is_empty() {
                return Ok(data);
            }
            self.ready().await;
        }
    }
}

impl AsyncRead for Input {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.0.read(buffer.remaining().min(CHUNK)) {
                InputRead::Data(data) => {
                    buffer.put_slice(&data);
                    return Poll::Ready(Ok(()));
                }
                InputRead::Eof => return Poll::Ready(Ok(())),
                InputRead::Pending => std::task::ready!(self.0.poll_ready(cx)),
            }
        }
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {
        let sink = &self.0;
        if poll_fn(|cx| Poll::Ready(sink.poll_room(cx).is_pending())).await
            && tokio::time::timeout(PATIENCE, poll_fn(|cx| sink.poll_room(cx))).await.is_err()
        {
            sink.go_on();
        }
    }
}

#[async_trait]
impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if !bytes.is_empty() {
            self.0.write(self.1, bytes);
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(CHUNK)
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.ready().await;
        self.write(bytes)
    }
}

impl AsyncWrite for Output {
    fn poll_write(mut self: Pin<&mut Self>, _cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let chunk = &data[..data.len().min(CHUNK)];
        // The stream's own `write` never fails.
        let _ = OutputStream::write(&mut *self, Bytes::copy_from_slice(chunk));
        Poll::Ready(Ok(chunk.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
