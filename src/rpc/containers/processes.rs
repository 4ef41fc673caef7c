//! Processes: started, and spoken with on one stream.

use super::Containers;
use crate::container::Viewer;
use crate::domain::execution::{Exit, Subject};
use crate::error::{Error, Result};
use crate::execution::{Ended, Live};
use crate::proto::v1;
use crate::rpc::convert::{container as convert_container, execution as to};
use crate::rpc::silence;
use crate::rpc::status::status;
use crate::rpc::stream::EventStream;
use crate::tool::check_labels;
use futures_core::Stream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};
use v1::exec_request::Message as Asked;
use v1::exec_response::Message as Told;

const MAX_STDIN_WRITE: usize = 1 << 20;
/// Answers to input that wait for a slow reader: beyond, no more input is taken.
const ANSWERS: usize = 16;

impl Containers {
    pub(super) async fn serve_start_process(
        &self,
        viewer: Viewer,
        request: v1::StartProcessRequest,
    ) -> Result<v1::StartProcessResponse> {
        let live = self.start(request, &viewer).await?;
        Ok(v1::StartProcessResponse { execution: Some(to::execution(&live.execution())) })
    }

    async fn start(&self, request: v1::StartProcessRequest, viewer: &Viewer) -> Result<Arc<Live>> {
        check_labels("labels", &request.labels)?;
        let (container, new) = convert_container::process(request, viewer.name.clone())?;
        self.all()?.start_process(&container, new, viewer).await
    }

    pub(super) async fn serve_exec(
        &self,
        viewer: Viewer,
        mut messages: Streaming<v1::ExecRequest>,
    ) -> std::result::Result<Exec, Status> {
        let first = messages.message().await?.and_then(|first| first.message);
        let (live, from, silence, started, cancel) = match first {
            Some(Asked::Start(start)) => {
                let silence = silence("keepalive_interval", start.keepalive_interval.as_ref()).map_err(status)?;
                let mut process = start.process.unwrap_or_default();
                if let Some(spec) = &mut process.process {
                    spec.keep_stdin_open = true;
                }
                let live = self.start(process, &viewer).await.map_err(status)?;
                (live, 0, silence, true, start.cancel_on_disconnect)
            }
            Some(Asked::Attach(attach)) => {
                let silence = silence("keepalive_interval", attach.keepalive_interval.as_ref()).map_err(status)?;
                let live = self.attach(&attach, &viewer).await.map_err(status)?;
                (live, attach.from_sequence, silence, false, false)
            }
            _ => {
                let text = "the first message is `start` or `attach`, and only the first";
                return Err(status(Error::invalid("message", text)));
            }
        };
        let (tell, answers) = mpsc::channel(ANSWERS);
        let input = Input { service: self.clone(), live: live.clone(), tell, offset: None };
        let task = tokio::spawn(input.run(messages, started));
        let wrap = |event| v1::ExecResponse { message: Some(Told::Event(event)) };
        let first = v1::ExecResponse { message: Some(Told::Execution(to::execution(&live.execution()))) };
        let events = EventStream::new(live.clone(), from, silence, wrap);
        Ok(Exec { first: Some(first), events, answers, input: task.abort_handle(), live, cancel, over: false })
    }

    async fn attach(&self, attach: &v1::ExecAttach, viewer: &Viewer) -> Result<Arc<Live>> {
        let id = convert_container::execution_id("attach.execution_id", &attach.execution_id)?;
        let live = self.registry.find(id).await?;
        let Subject::Process { container, .. } = &live.origin().subject else {
            return Err(Error::NotSupported { id, needs: "process" });
        };
        // Whoever may not see the container may not see what runs in it.
        if self.all()?.get(container, viewer).is_err() && !viewer.administers && live.origin().principal != viewer.name
        {
            return Err(Error::ExecutionNotFound { id });
        }
        let standing = live.journal().standing();
        if standing.ended.is_some() && attach.from_sequence > standing.last_sequence {
            return Err(Error::SequenceOutOfRange { id, from: attach.from_sequence, last: standing.last_sequence });
        }
        Ok(live)
    }
}

/// What a process says, and how its input is taken.
pub struct Exec {
    first: Option<v1::ExecResponse>,
    events: EventStream<v1::ExecResponse>,
    answers: mpsc::Receiver<std::result::Result<v1::ExecStdinAccepted, Status>>,
    input: tokio::task::AbortHandle,
    live: Arc<Live>,
    cancel: bool,
    over: bool,
}

impl Stream for Exec {
    type Item = std::result::Result<v1::ExecResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if self.over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(Some(answer)) = self.answers.poll_recv(cx) {
            self.over = answer.is_err();
            let answer = answer.map(|answer| v1::ExecResponse { message: Some(Told::StdinAccepted(answer)) });
            return Poll::Ready(Some(answer));
        }
        let next = std::task::ready!(Pin::new(&mut self.events).poll_next(cx));
        self.over = next.is_none();
        Poll::Ready(next)
    }
}

impl Drop for Exec {
    fn drop(&mut self) {
        self.input.abort();
        if self.cancel && !self.live.execution().state.is_final() {
            let message = "the stream that started it was lost, and asked for that to be its end";
            self.live.end(Ended::new(Exit::Cancelled, message));
        }
    }
}

/// Takes what comes in.
struct Input {
    service: Containers,
    live: Arc<Live>,
    tell: mpsc::Sender<std::result::Result<v1::ExecStdinAccepted, Status>>,
    /// Where the next piece without an offset goes.
    offset: Option<u64>,
}

impl Input {
    async fn run(mut self, mut messages: Streaming<v1::ExecRequest>, started: bool) {
        loop {
            let taken = match messages.message().await {
                Ok(Some(message)) => self.take(message.message).await,
                // A sender that is done: the end of the input, if this stream began it.
                Ok(None) if started => {
                    return drop(self.stdin(v1::ExecStdin { eof: true, ..Default::default() }).await);
                }
                Ok(None) | Err(_) => return,
            };
            if let Err(error) = taken {
                return drop(self.tell.send(Err(status(error))).await);
            }
        }
    }

    async fn take(&mut self, message: Option<Asked>) -> Result<()> {
        match message {
            Some(Asked::Stdin(piece)) => self.stdin(piece).await,
            Some(Asked::Resize(size)) => {
                let fit = |value: u32| u16::try_from(value).ok().filter(|value| *value > 0);
                let (Some(columns), Some(rows)) = (fit(size.columns), fit(size.rows)) else {
                    let text = format!("is {} by {}; expected 1 to 65,535 each", size.columns, size.rows);
                    return Err(Error::invalid("resize", text));
                };
                self.late(self.service.all()?.resize(&self.live, (columns, rows)))
            }
            Some(Asked::Signal(signal)) => self.late(self.service.all()?.signal(&self.live, &signal.signal)),
            Some(Asked::Start(_) | Asked::Attach(_)) => {
                Err(Error::invalid("message", "`start` and `attach` are the first message, and only the first"))
            }
            None => Err(Error::invalid("message", "is empty: a message of a newer contract, or none")),
        }
    }

    /// What comes just after the end is no fault of the sender's.
    fn late(&self, done: Result<()>) -> Result<()> {
        match done {
            Err(Error::ExecutionOver { .. }) => Ok(()),
            done => done,
        }
    }

    async fn stdin(&mut self, piece: v1::ExecStdin) -> Result<()> {
        if piece.data.len() > MAX_STDIN_WRITE {
            let text = format!("is {} bytes; at most {MAX_STDIN_WRITE}", piece.data.len());
            return Err(Error::invalid("stdin.data", text));
        }
        self.live.stdin().ready().await;
        let offset = piece.offset.or(self.offset).unwrap_or_else(|| self.live.stdin().offset());
        let fed = loop {
            match self.live.feed(offset, piece.data.clone(), piece.eof).await {
                // On a stream the sender is held up instead.
                Err(Error::StdinFull { .. }) => self.room().await,
                fed => break fed,
            }
        };
        match fed {
            Ok(accepted) => {
                self.offset = Some(accepted.max(offset + piece.data.len() as u64));
                let answer = v1::ExecStdinAccepted { offset: accepted, closed: piece.eof };
                // A reader that is gone notices by itself.
                let _ = self.tell.send(Ok(answer)).await;
                Ok(())
            }
            Err(Error::StdinClosed { .. } | Error::ExecutionOver { .. }) => {
                let answer = v1::ExecStdinAccepted { offset: self.live.stdin().offset(), closed: true };
                let _ = self.tell.send(Ok(answer)).await;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Waits until the process has taken some of its input.
    async fn room(&self) {
        self.live.stdin().taken_more().await;
    }
}
