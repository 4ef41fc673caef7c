//! Follows an execution to its end: prints what it writes as it comes, and takes the stream up again
//! where it broke off.

use super::client::Client;
use super::failure::{Failure, UNAVAILABLE};
use super::left::{self, Left};
use super::output;
use super::present;
use super::retry::{Broken, Patience, judge};
use crate::proto::v1::execution_event::Event;
use crate::proto::v1::{
    ExecutionEvent, ExecutionStage, ExecutionState, ExitReason, FinishedEvent, GetExecutionRequest, ProgressEvent,
    WatchExecutionRequest,
};
use std::io::Write;
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Status};

/// What to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// The guest's output to standard output, everything else to standard error.
    Output,
    /// Each event as a line of JSON.
    Events,
}

/// One reader of one execution.
pub struct Follower {
    client: Client,
    style: Style,
    left: Left,
    /// Known from the call, or from the first event.
    id: String,
    /// Sequence of the newest event that was seen, by this reader or before it.
    seen: u64,
    /// Whether this reader has seen an event itself.
    printed: bool,
    /// Whether a compiler is at work.
    compiling: bool,
    patience: Patience,
}

impl Follower {
    /// A reader that has seen everything up to and including the sequence `seen`.
    pub fn new(client: Client, style: Style, left: Left, id: impl Into<String>, seen: u64) -> Self {
        Follower {
            client,
            style,
            left,
            id: id.into(),
            seen,
            printed: false,
            compiling: false,
            patience: Patience::new(),
        }
    }

    /// The id of the execution; empty until it is known.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Watches from the next unseen event to the end, through dropped connections.
    pub async fn watch(&mut self) -> Result<FinishedEvent, Failure> {
        loop {
            let problem = match self.watch_once().await {
                Ok(end) => return Ok(end),
                Err(Broken::Output(failure)) => return Err(failure),
                Err(Broken::Answer(status)) => return self.explain(&status).await,
                Err(Broken::Connection(status)) => status,
            };
            if self.patience.is_over() {
                let todo = format!(
                    "the execution may go on: `casemate executions watch {} --from {}`",
                    self.id,
                    self.seen + 1
                );
                let what = format!("the connection was lost after event {}", self.seen);
                return Err(Failure::new(UNAVAILABLE, what, problem.message(), todo));
            }
            self.patience.wait().await;
        }
    }

    /// What the server's refusal to go on means for a reader that has seen events already: a server that
    /// was killed forgets what it had not written to disk yet.
    async fn explain(&self, status: &Status) -> Result<FinishedEvent, Failure> {
        if self.printed && status.code() == Code::OutOfRange {
            let request = GetExecutionRequest { execution_id: self.id.clone() };
            let answer = self.client.executions().get_execution(request).await;
            // If it cannot be had, the first answer tells more than this one.
            let execution = answer.ok().and_then(|answer| answer.into_inner().execution).unwrap_or_default();
            if execution.result.is_some() {
                return Ok(FinishedEvent { state: execution.state, result: execution.result });
            }
        }
        let failure = self.client.failure(format!("execution {} cannot be watched", self.id), status);
        Err(match status.code() {
            Code::NotFound if self.printed => failure.because(
                "the server was killed before its record was on disk; a run with --request-id is recorded before it begins",
            ),
            _ => failure,
        })
    }

    async fn watch_once(&mut self) -> Result<FinishedEvent, Broken> {
        let request = WatchExecutionRequest {
            execution_id: self.id.clone(),
            from_sequence: self.seen + 1,
            keepalive_interval: None,
        };
        let stream = self.client.executions().watch_execution(request).await.map_err(judge)?.into_inner();
        self.read(stream.map(|message| message.map(|message| message.event))).await
    }

    /// Reads a stream that this execution's own call opened; if it breaks off, watches the rest.
    pub async fn read_then_watch(
        &mut self,
        stream: impl Stream<Item = Result<Option<ExecutionEvent>, Status>>,
    ) -> Result<FinishedEvent, Failure> {
        match self.read(stream).await {
            Ok(end) => Ok(end),
            Err(Broken::Output(failure)) => Err(failure),
            Err(Broken::Connection(_)) if !self.id.is_empty() => self.watch().await,
            Err(Broken::Connection(status)) => Err(self
                .client
                .failure("the connection was lost before the execution told its id", &status)
                .because("it may be running: `casemate executions list` shows it")),
            Err(Broken::Answer(status)) => Err(self.client.failure("the run could not be followed", &status)),
        }
    }

    async fn read(
        &mut self,
        stream: impl Stream<Item = Result<Option<ExecutionEvent>, Status>>,
    ) -> Result<FinishedEvent, Broken> {
        tokio::pin!(stream);
        while let Some(message) = stream.next().await {
            let Some(event) = message.map_err(judge)? else { continue };
            if let Some(end) = self.take(event).map_err(Broken::Output)? {
                return Ok(end);
            }
        }
        Err(Broken::Connection(Status::unavailable("the stream ended before the execution did")))
    }

    fn take(&mut self, event: ExecutionEvent) -> Result<Option<FinishedEvent>, Failure> {
        self.patience.refresh();
        let keepalive = matches!(event.event, Some(Event::Keepalive(_)));
        if !keepalive && event.sequence <= self.seen {
            // A stream that was taken up again may repeat what was seen.
            return Ok(None);
        }
        if self.style == Style::Events {
            output::line(&present::event::json(&event).to_string())?;
        }
        if !keepalive {
            (self.seen, self.printed) = (event.sequence, true);
        }
        let show = self.style == Style::Output;
        match event.event {
            Some(Event::Started(started)) if self.id.is_empty() => self.id = started.execution_id,
            // What a compiler says is no output of the program.
            Some(Event::Stdout(chunk)) if show && self.compiling => aside(&chunk.data),
            Some(Event::Stdout(chunk)) if show => output::bytes(&chunk.data)?,
            Some(Event::Stderr(chunk)) if show => aside(&chunk.data),
            Some(Event::Log(log)) if show => {
                aside(format!("[{}] {}\n", present::level_word(log.level()), output::plain(&log.message)).as_bytes());
            }
            Some(Event::Progress(progress)) if show => aside(progress_line(&progress).as_bytes()),
            Some(Event::Truncated(gap)) if show => {
                let text = format!("casemate: events {} to {} were dropped\n", gap.first_sequence, event.sequence);
                aside(text.as_bytes());
            }
            Some(Event::Child(child)) if show => aside(left::child(&child).as_bytes()),
            // Saved in both styles.
            Some(Event::RichOutput(output)) => {
                let told = self.left.rich(&output)?;
                if show {
                    aside(told.as_bytes());
                }
            }
            Some(Event::FileChunk(chunk)) => {
                let told = self.left.file(&chunk)?;
                if show {
                    aside(told.as_bytes());
                }
            }
            Some(Event::Stage(stage)) => self.compiling = stage.stage() == ExecutionStage::Compile,
            Some(Event::Finished(end)) => return Ok(Some(end)),
            _ => {}
        }
        Ok(None)
    }
}

/// Writes to standard error. Should nobody read that, the guest's output still matters.
pub fn aside(text: &[u8]) {
    let _ = std::io::stderr().lock().write_all(text);
}

fn progress_line(progress: &ProgressEvent) -> String {
    let message = output::plain(&progress.message);
    if progress.total > 0.0 {
        format!("[{}/{}] {message}\n", progress.current, progress.total)
    } else {
        format!("[{}] {message}\n", progress.current)
    }
}

/// Says on standard error how a run ended, unless it ended well, and gives the exit code that tells
/// the same.
pub fn conclude(style: Style, id: &str, end: &FinishedEvent) -> u8 {
    let result = end.result.clone().unwrap_or_default();
    if style == Style::Output {
        for file in result.files.iter().filter(|file| !file.problem.is_empty()) {
            aside(format!("[file {}; {}]\n", output::plain(&file.path), output::plain(&file.problem)).as_bytes());
        }
    }
    if style == Style::Output && end.state() != ExecutionState::Succeeded {
        let state = present::execution::state_word(end.state());
        let mut text = format!("casemate: execution {id} {state}: {}\n", present::execution::ending(&result));
        if !result.message.is_empty() {
            text.push_str(&format!("  why: {}\n", output::plain(&result.message)));
        }
        if let Some(interruption) = &result.session_interruption {
            text.push_str(&format!(
                "  the session lost its live state and goes on from turn {}\n",
                interruption.resumed_turn
            ));
        }
        for frame in result.trap.iter().flat_map(|trap| &trap.backtrace) {
            text.push_str(&format!("       at {}\n", output::plain(frame)));
        }
        for violation in &result.output_violations {
            text.push_str(&format!(
                "       {}: {}\n",
                output::plain(&violation.pointer),
                output::plain(&violation.description)
            ));
        }
        aside(text.as_bytes());
    }
    match result.exit_reason() {
        ExitReason::Exited => u8::try_from(result.exit_code & 0xff).unwrap_or(1),
        ExitReason::TimedOut => 124,
        ExitReason::Cancelled => 130,
        ExitReason::Trapped | ExitReason::StackOverflow | ExitReason::OutOfFuel => 134,
        ExitReason::OutOfMemory => 137,
        ExitReason::Signaled => 128 + signal_number(&result.signal),
        ExitReason::OutputInvalid => 65,
        ExitReason::ServerShutdown
        | ExitReason::ServerLost
        | ExitReason::Internal
        | ExitReason::ContainerStopped
        | ExitReason::NotStarted
        | ExitReason::Unspecified => 70,
    }
}

/// The number of a signal that ended a process; of one without a name, SIGKILL's.
fn signal_number(name: &str) -> u8 {
    // In the order of their numbers, as Linux has them on the machines that containers run on.
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
        "WINCH", "IO", "PWR", "SYS",
    ];
    const REAL_TIME: u8 = 34;
    const KILL: u8 = 9;
    let name = name.strip_prefix("SIG").unwrap_or(name);
    if let Some(after) = name.strip_prefix("RTMIN+") {
        return after.parse().ok().filter(|after| *after <= 30).map_or(KILL, |after: u8| REAL_TIME + after);
    }
    let known = NAMES.iter().position(|known| *known == name).and_then(|at| u8::try_from(at + 1).ok());
    known.unwrap_or(KILL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_its_number() {
        let cases = [("SIGINT", 2), ("SIGTERM", 15), ("SIGSYS", 31), ("SIGRTMIN+1", 35), ("signal 33", 9), ("", 9)];
        for (name, number) in cases {
            assert_eq!(signal_number(name), number, "{name}");
        }
    }
}
