//! A conversation with a process in a container: input, signals and sizes in, output out, taken up again
//! where it broke off.

use super::feed::Feed;
use super::local::{Happening, Local};
use super::terminal;
use crate::cli::client::Client;
use crate::cli::failure::{Failure, UNAVAILABLE};
use crate::cli::follow::Style;
use crate::cli::retry::{Broken, Patience, judge, said_by_server};
use crate::cli::{containers, present};
use crate::proto::v1::exec_request::Message as Said;
use crate::proto::v1::exec_response::Message as Heard;
use crate::proto::v1::execution::Subject;
use crate::proto::v1::execution_event::Event;
use crate::proto::v1::{
    CancelExecutionRequest, ExecAttach, ExecRequest, ExecSignal, ExecStart, Execution, ExecutionEvent, FinishedEvent,
    GetExecutionRequest, StartProcessRequest,
};
use std::io::IsTerminal;
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

/// Messages that wait for the connection: with the pieces of input in them they are the feed's, not copies.
const QUEUE: usize = 4;
/// How long somebody who leaves waits for what was typed last to arrive.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long an impatient caller waits for the server to be told that the command is to end.
const CANCELLING: Duration = Duration::from_secs(3);

/// How a conversation ended.
pub enum End {
    /// With the process.
    Finished(Box<FinishedEvent>),
    /// The process goes on.
    Detached,
    /// The process may go on; a signal of this number ended the conversation.
    Left(i32),
}

/// A conversation.
pub struct Dialogue {
    client: Client,
    style: Style,
    /// What to start; none to attach.
    start: Option<StartProcessRequest>,
    /// Whether this end may do more than listen.
    speaks: bool,
    local: Local,
    /// Id of the execution; empty until it is known.
    id: String,
    /// Sequence of the newest event that was printed or is not wanted.
    seen: u64,
    /// Whether an event was printed.
    printed: bool,
    patience: Patience,
    /// The server has said on this stream that it reaches the process.
    reached: bool,
    resize_due: bool,
    signal_due: bool,
    interrupts: u32,
    /// What tells the server that the command is to end.
    cancelling: Option<JoinHandle<()>>,
    leaving: Option<Instant>,
    /// Somebody was told that the connection is lost.
    lost: bool,
}

impl Dialogue {
    /// Starts a process. On a terminal, its keys are the process's.
    pub fn start(client: Client, style: Style, start: StartProcessRequest, feed: Feed) -> Result<Self, Failure> {
        let tty = start.process.as_ref().is_some_and(|process| process.terminal.is_some());
        let mut dialogue = Dialogue::new(client, style, Local::new(feed)?);
        if tty {
            dialogue.local.go_raw()?;
        }
        Ok(Dialogue { start: Some(start), speaks: true, ..dialogue })
    }

    /// Attaches to an execution of which everything up to and including the sequence `seen` is known.
    pub fn attach(client: Client, style: Style, id: String, seen: u64, speaks: bool) -> Result<Self, Failure> {
        let feed = if speaks { Feed::joining() } else { Feed::none() };
        Ok(Dialogue { id, seen, speaks, ..Dialogue::new(client, style, Local::new(feed)?) })
    }

    fn new(client: Client, style: Style, local: Local) -> Self {
        Dialogue {
            client,
            style,
            start: None,
            speaks: false,
            local,
            id: String::new(),
            seen: 0,
            printed: false,
            patience: Patience::new(),
            reached: false,
            resize_due: false,
            signal_due: false,
            interrupts: 0,
            cancelling: None,
            leaving: None,
            lost: false,
        }
    }

    /// The id of the execution; empty until it is known.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The first event that was not printed.
    pub fn next_sequence(&self) -> u64 {
        self.seen + 1
    }

    /// Speaks until the process is over, or somebody leaves. The terminal is then as it was before.
    pub async fn hold(&mut self) -> Result<End, Failure> {
        let end = self.hold_raw().await;
        self.local.rest();
        end
    }

    async fn hold_raw(&mut self) -> Result<End, Failure> {
        loop {
            let problem = match self.converse().await {
                Ok(end) => return Ok(end),
                Err(Broken::Output(failure)) => {
                    if self.start.is_some() {
                        // As the pipe's end would have ended it on this machine.
                        self.cancel("nobody reads its output any more").await;
                    }
                    return Err(failure);
                }
                Err(Broken::Answer(status)) if self.passes(&status) => status,
                Err(Broken::Answer(status)) => return self.explain(&status).await,
                // A server that is just back may not reach its containers yet; any other means what it says.
                Err(Broken::Connection(status)) if self.id.is_empty() && !self.lost && said_by_server(&status) => {
                    return self.explain(&status).await;
                }
                Err(Broken::Connection(status)) => {
                    if !std::mem::replace(&mut self.lost, true) {
                        self.aside("casemate: the connection to the server was lost; trying again\n").await;
                    }
                    status
                }
            };
            if self.patience.is_over() {
                let todo = match self.id.as_str() {
                    "" => "it may run: `casemate executions list` shows it".to_owned(),
                    id => format!("it may go on: `casemate attach --from {} {id}`", self.next_sequence()),
                };
                let what = format!("the connection was lost after event {}", self.seen);
                return Err(Failure::new(UNAVAILABLE, what, problem.message(), todo));
            }
            // A process that cannot be reached can still be left.
            let pause = tokio::time::sleep(self.patience.next_pause());
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    happening = self.local.next() => if let Some(end) = self.heed(happening)? {
                        return Ok(end);
                    },
                }
                if self.leaving.is_some() {
                    return Ok(End::Detached);
                }
            }
        }
    }

    /// Whether an answer is worth waiting for another: a container that was running is about to run again.
    fn passes(&self, status: &Status) -> bool {
        !self.id.is_empty() && self.printed && status.code() == Code::FailedPrecondition
    }

    /// Opens a stream and speaks on it.
    async fn converse(&mut self) -> Result<End, Broken> {
        let (send, requests) = mpsc::channel(QUEUE);
        let starting = self.id.is_empty();
        let first = match &self.start {
            Some(start) if starting => Said::Start(ExecStart { process: Some(start.clone()), ..Default::default() }),
            _ => Said::Attach(ExecAttach {
                execution_id: self.id.clone(),
                from_sequence: self.seen + 1,
                keepalive_interval: None,
            }),
        };
        // A fresh queue has room.
        let _ = send.try_send(ExecRequest { message: Some(first) });
        self.local.feed.again();
        (self.reached, self.resize_due) = (starting, !starting && self.local.is_raw());
        let mut service = self.client.containers();
        let mut stream = {
            let opened = service.exec(ReceiverStream::new(requests));
            tokio::pin!(opened);
            loop {
                tokio::select! {
                    opened = &mut opened => break opened.map_err(judge)?.into_inner(),
                    happening = self.local.next() => if let Some(end) = self.heed(happening).map_err(Broken::Output)? {
                        return Ok(end);
                    },
                }
                if self.leaving.is_some() && !self.id.is_empty() {
                    return Ok(End::Detached);
                }
            }
        };
        loop {
            let patience = self.leaving.map(|since| since + FAREWELL);
            if patience.is_some_and(|end| self.local.feed.is_done() || Instant::now() >= end) && !self.id.is_empty() {
                return Ok(End::Detached);
            }
            tokio::select! {
                message = stream.message() => match message.map_err(judge)?.and_then(|message| message.message) {
                    Some(message) => if let Some(end) = self.hear(message).await.map_err(Broken::Output)? {
                        return Ok(end);
                    },
                    None => {
                        let text = "the stream ended before the process did";
                        return Err(Broken::Connection(Status::unavailable(text)));
                    }
                },
                room = send.reserve(), if self.due() => match room {
                    Ok(room) => room.send(ExecRequest { message: Some(self.say()) }),
                    // The stream has an end, and is about to tell why.
                    Err(_) => tokio::task::yield_now().await,
                },
                happening = self.local.next() => if let Some(end) = self.heed(happening).map_err(Broken::Output)? {
                    return Ok(end);
                },
                () = tokio::time::sleep_until(patience.unwrap_or_else(Instant::now)), if patience.is_some() => {}
            }
        }
    }

    /// Whether there is something to say.
    fn due(&self) -> bool {
        self.local.feed.due() || (self.reached && (self.resize_due || self.signal_due))
    }

    /// What to say next.
    fn say(&mut self) -> Said {
        // Before the server reaches the process, it would refuse these two.
        if self.reached && std::mem::take(&mut self.resize_due) {
            return Said::Resize(terminal::size());
        }
        if self.reached && std::mem::take(&mut self.signal_due) {
            return Said::Signal(ExecSignal { signal: "SIGINT".to_owned() });
        }
        Said::Stdin(self.local.feed.next())
    }

    /// Takes in what happened here.
    fn heed(&mut self, happening: Happening) -> Result<Option<End>, Failure> {
        match happening {
            Happening::Fed => {}
            Happening::Resized => self.resize_due = true,
            Happening::Detached => self.leaving = Some(Instant::now()),
            Happening::Ended(signal) => return Ok(Some(End::Left(signal.as_raw_value()))),
            Happening::Broken(error) => return Err(Failure::local("standard input could not be read", error)),
            Happening::Interrupted => {
                self.interrupts += 1;
                match (self.interrupts, self.speaks && !self.id.is_empty()) {
                    (1, true) => self.signal_due = true,
                    (2, true) => {
                        let cancel = cancel(self.client.clone(), self.id.clone(), "interrupted at the terminal");
                        self.cancelling = Some(tokio::spawn(cancel));
                    }
                    _ => return Ok(Some(End::Left(libc::SIGINT))),
                }
            }
        }
        Ok(None)
    }

    /// Takes in what the server said.
    async fn hear(&mut self, message: Heard) -> Result<Option<End>, Failure> {
        self.patience.refresh();
        match message {
            Heard::Execution(execution) => {
                self.meet(&execution)?;
                if std::mem::take(&mut self.lost) {
                    self.aside(&format!("casemate: attached again to execution {}\n", self.id)).await;
                }
            }
            Heard::StdinAccepted(accepted) => {
                self.reached = true;
                self.local.feed.accepted(accepted.offset, accepted.closed);
            }
            Heard::Event(event) => return Ok(self.print(event).await?.map(|end| End::Finished(Box::new(end)))),
        }
        Ok(None)
    }

    fn meet(&mut self, execution: &Execution) -> Result<(), Failure> {
        self.id.clone_from(&execution.id);
        let tty = matches!(&execution.subject, Some(Subject::Process(process)) if process.tty);
        if tty && self.speaks && !self.local.is_raw() && std::io::stdin().is_terminal() && execution.result.is_none() {
            self.local.go_raw()?;
            self.resize_due = true;
        }
        Ok(())
    }

    async fn print(&mut self, event: ExecutionEvent) -> Result<Option<FinishedEvent>, Failure> {
        let keepalive = matches!(event.event, Some(Event::Keepalive(_)));
        if !keepalive && event.sequence <= self.seen {
            // A stream that was taken up again may repeat what was seen.
            return Ok(None);
        }
        let show = self.style == Style::Output;
        if !show {
            let line = format!("{}\n", present::event::json(&event));
            write(tokio::io::stdout(), line.as_bytes()).await?;
        }
        if !keepalive {
            (self.seen, self.printed) = (event.sequence, true);
        }
        match event.event {
            Some(Event::Stdout(chunk)) if show => write(tokio::io::stdout(), &chunk.data).await?,
            // Should nobody read that, the rest still matters.
            Some(Event::Stderr(chunk)) if show => drop(write(tokio::io::stderr(), &chunk.data).await),
            Some(Event::Truncated(gap)) if show => {
                let text = format!("casemate: events {} to {} were dropped\n", gap.first_sequence, event.sequence);
                self.aside(&text).await;
            }
            Some(Event::Finished(end)) => return Ok(Some(end)),
            _ => {}
        }
        Ok(None)
    }

    /// Says something that is not the process's.
    async fn aside(&self, text: &str) {
        // A raw terminal does not go back to the first column by itself.
        let text = if self.local.is_raw() { format!("\r\n{}", text.replace('\n', "\r\n")) } else { text.to_owned() };
        let _ = write(tokio::io::stderr(), text.as_bytes()).await;
    }

    /// What the server's refusal means for a process that was spoken with.
    async fn explain(&self, status: &Status) -> Result<End, Failure> {
        if status.code() == Code::OutOfRange && !self.id.is_empty() {
            let request = GetExecutionRequest { execution_id: self.id.clone() };
            let answer = self.client.executions().get_execution(request).await;
            // If it cannot be had, the first answer tells more than this one.
            let execution = answer.ok().and_then(|answer| answer.into_inner().execution).unwrap_or_default();
            if execution.result.is_some() && self.seen >= execution.last_sequence {
                let end = FinishedEvent { state: execution.state, result: execution.result };
                return Ok(End::Finished(Box::new(end)));
            }
        }
        let what = match self.id.as_str() {
            "" => "the command did not run".to_owned(),
            id => format!("execution {id} cannot be spoken with"),
        };
        Err(containers::failure(&self.client, what, status))
    }

    /// Waits a moment for what the server was asked: whoever is impatient leaves, but not a command that runs on.
    pub async fn cancelled(&mut self) {
        if let Some(cancelling) = self.cancelling.take() {
            // The server that does not answer by then may not be there.
            let _ = tokio::time::timeout(CANCELLING, cancelling).await;
        }
    }

    async fn cancel(&self, reason: &'static str) {
        if !self.id.is_empty() {
            cancel(self.client.clone(), self.id.clone(), reason).await;
        }
    }
}

async fn cancel(client: Client, execution_id: String, reason: &'static str) {
    let request = CancelExecutionRequest { execution_id, reason: reason.to_owned(), request_id: String::new() };
    // The conversation goes on and tells how it ended; where it does not, there is nobody to tell.
    let _ = client.executions().cancel_execution(request).await;
}

/// Writes without holding up the connection: a reader may take its time.
async fn write(mut to: impl AsyncWrite + Unpin, data: &[u8]) -> Result<(), Failure> {
    let written = async {
        to.write_all(data).await?;
        to.flush().await
    };
    written.await.map_err(|error| Failure::output(&error))
}
