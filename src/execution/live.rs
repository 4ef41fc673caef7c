//! One execution in memory: what it came from, its journal, its input, and the way to end it.

use super::ended::Ended;
use super::journal::{Journal, Mark, Standing, Totals};
use super::ledger::Ledger;
use super::stdin::Stdin;
use crate::domain::event::{Event, LogLevel, OutputStream, Progress};
use crate::domain::execution::{Execution, Origin, Outcome, Subject, Usage};
use crate::domain::id::ExecutionId;
use crate::domain::io::{InputRead, InputSource, Meter, OutputSink};
use crate::domain::limits::Limits;
use crate::domain::output::{ChildEvent, FileChunk, MAX_LISTED_FILES, OutputFile, RichOutput, Stage};
use crate::domain::time::Timestamp;
use crate::error::Result;
use bytes::Bytes;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;

/// An execution in memory. The runner writes to it, readers read from it, and it outlives both.
pub struct Live {
    origin: Arc<Origin>,
    fingerprint: Option<[u8; 32]>,
    journal: Journal,
    stdin: Stdin,
    meter: Arc<Meter>,
    /// Which turn of its session it is; 0 until it is known.
    session_turn: AtomicU64,
    /// The turn that the store knows.
    recorded_turn: AtomicU64,
    end: OnceLock<Ended>,
    end_wished: Notify,
    /// Whether the store knows of it.
    recorded: AtomicBool,
    /// Sequence up to which the store has its events.
    flushed: AtomicU64,
    /// Whether the store has it as it ended.
    kept: AtomicBool,
    /// Told when it has.
    kept_told: Notify,
    /// What of it outlives the server, if it does.
    ledger: Option<Arc<Ledger>>,
}

impl Live {
    /// Where what a process says goes to that is nobody's execution: nobody finds it, and nothing keeps it.
    pub fn unseen(subject: Subject, limits: Limits) -> Arc<Live> {
        let origin = Origin {
            id: ExecutionId::new(),
            subject,
            principal: "".into(),
            request_id: None,
            labels: Default::default(),
            limits,
            created: Timestamp::now(),
            session: None,
            parent: None,
            target: "".into(),
        };
        Live::new(origin, None, Stdin::new(Bytes::new(), Bytes::new(), false), None)
    }

    pub(super) fn new(
        origin: Origin,
        fingerprint: Option<[u8; 32]>,
        stdin: Stdin,
        ledger: Option<Arc<Ledger>>,
    ) -> Arc<Live> {
        let (output, files) = (origin.limits.output_bytes, origin.limits.scratch_bytes);
        Arc::new(Live {
            journal: match &ledger {
                Some(ledger) => Journal::noted(output, files, ledger.clone()),
                None => Journal::new(output, files),
            },
            ledger,
            origin: Arc::new(origin),
            fingerprint,
            stdin,
            meter: Arc::default(),
            session_turn: AtomicU64::new(0),
            recorded_turn: AtomicU64::new(0),
            end: OnceLock::new(),
            end_wished: Notify::new(),
            recorded: AtomicBool::new(false),
            flushed: AtomicU64::new(0),
            kept: AtomicBool::new(false),
            kept_told: Notify::new(),
        })
    }

    /// An execution that went on while there was no server: as far as the store had its events, and then by the marks
    /// of its ledger.
    pub(super) fn resumed(
        origin: Arc<Origin>,
        fingerprint: Option<[u8; 32]>,
        ledger: Arc<Ledger>,
        events: Vec<Event>,
        marks: Vec<Mark>,
    ) -> Arc<Live> {
        let flushed = events.last().map_or(0, |event| event.sequence);
        let (output, files) = (origin.limits.output_bytes, origin.limits.scratch_bytes);
        Arc::new(Live {
            journal: Journal::resumed(output, files, ledger.clone(), events, marks),
            origin,
            fingerprint,
            stdin: Stdin::resumed(),
            meter: Arc::default(),
            session_turn: AtomicU64::new(0),
            recorded_turn: AtomicU64::new(0),
            end: OnceLock::new(),
            end_wished: Notify::new(),
            recorded: AtomicBool::new(false),
            flushed: AtomicU64::new(flushed),
            kept: AtomicBool::new(false),
            kept_told: Notify::new(),
            ledger: Some(ledger),
        })
    }

    /// An execution that the store remembers, with its events.
    pub(super) fn from_store(execution: Execution, events: Vec<crate::domain::event::Event>) -> Arc<Live> {
        let standing = Standing {
            state: execution.state,
            started: execution.started,
            ended: execution.ended.zip(execution.outcome),
            last_sequence: execution.last_sequence,
        };
        let stdin = Stdin::over(execution.stdin_offset);
        Arc::new(Live {
            journal: Journal::frozen(events, standing),
            origin: execution.origin,
            fingerprint: None,
            stdin,
            meter: Arc::default(),
            session_turn: AtomicU64::new(execution.session_turn),
            recorded_turn: AtomicU64::new(execution.session_turn),
            end: OnceLock::new(),
            end_wished: Notify::new(),
            recorded: AtomicBool::new(true),
            flushed: AtomicU64::new(0),
            kept: AtomicBool::new(true),
            kept_told: Notify::new(),
            ledger: None,
        })
    }

    /// What was known from the start.
    pub fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }

    /// Its events.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Its standard input.
    pub fn stdin(&self) -> &Stdin {
        &self.stdin
    }

    /// Writes to standard input, as [`Stdin::write`]. What this accepts outlives the server if the execution does.
    pub async fn feed(&self, offset: u64, data: Bytes, eof: bool) -> Result<u64> {
        self.stdin.ready().await;
        let accepted = self.stdin.write(self.origin.id, offset, data, eof)?;
        self.stdin.held(accepted, eof).await;
        Ok(accepted)
    }

    /// What it has consumed.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Notes which turn of its session it is; known when it begins to run.
    pub fn set_session_turn(&self, turn: u64) {
        self.session_turn.store(turn, Ordering::Release);
    }

    /// Which turn of its session it is, from 1; 0 when that is not known yet, and outside sessions.
    pub fn session_turn(&self) -> u64 {
        self.session_turn.load(Ordering::Acquire)
    }

    /// How it stands now.
    pub fn execution(&self) -> Execution {
        self.execution_with(self.journal.standing())
    }

    pub(super) fn execution_with(&self, standing: Standing) -> Execution {
        let (ended, outcome) = standing.ended.unzip();
        Execution {
            origin: self.origin.clone(),
            state: standing.state,
            started: standing.started,
            ended,
            last_sequence: standing.last_sequence,
            stdin_offset: self.stdin.offset(),
            session_turn: self.session_turn(),
            outcome,
        }
    }

    /// Asks it to end for this reason; the first reason counts.
    pub fn end(&self, reason: Ended) {
        if self.end.set(reason).is_ok() {
            self.end_wished.notify_waiters();
        }
    }

    /// The reason for which somebody asked it to end.
    pub(super) fn end_reason(&self) -> Option<Ended> {
        self.end.get().cloned()
    }

    /// Waits until somebody asks it to end. Only for a guest that is conducted; one that is driven is dropped.
    pub async fn end_wished(&self) -> Ended {
        let mut wished = std::pin::pin!(self.end_wished.notified());
        loop {
            wished.as_mut().enable();
            if let Some(reason) = self.end.get() {
                return reason.clone();
            }
            wished.as_mut().await;
            wished.set(self.end_wished.notified());
        }
    }

    /// Fixes how it ended; readers see it after `journal().publish()`.
    pub(super) fn close(&self, mut ended: Ended) -> bool {
        self.stdin.close();
        self.check_kept(&mut ended.files);
        self.journal.close(|totals, started, now| self.outcome(ended, totals, started, now))
    }

    /// A file counts as kept only if its last piece is in the journal.
    fn check_kept(&self, files: &mut [OutputFile]) {
        if !files.iter().any(|file| file.kept) {
            return;
        }
        let chunks = self.journal.file_chunks();
        let whole: HashSet<&str> =
            chunks.iter().filter(|chunk| chunk.file.is_some()).map(|chunk| chunk.path.as_str()).collect();
        for file in files.iter_mut().filter(|file| file.kept && !whole.contains(file.path.as_str())) {
            file.kept = false;
            file.digest.clear();
            file.problem = "its content found no room (limits.scratch_bytes)".into();
        }
    }

    fn outcome(&self, ended: Ended, totals: Totals, started: Option<Timestamp>, now: Timestamp) -> Outcome {
        let consumed = self.meter.read();
        let created = self.origin.created;
        let Ended { exit, message, mut exception, mut files, mut unlisted_files, stages, session_interruption } = ended;
        if let Some(exception) = &mut exception {
            exception.bound();
        }
        files.sort_by(|one, other| one.path.cmp(&other.path));
        unlisted_files += files.len().saturating_sub(MAX_LISTED_FILES) as u64;
        files.truncate(MAX_LISTED_FILES);
        Outcome {
            exit,
            message,
            exception,
            files,
            unlisted_files,
            stages,
            session_interruption,
            usage: Usage {
                queue_time: started.unwrap_or(now).since(created),
                run_time: started.map_or(Duration::ZERO, |started| now.since(started)),
                peak_memory_bytes: consumed.peak_memory_bytes,
                fuel: consumed.fuel,
                host_calls: consumed.host_calls,
                child_executions: consumed.child_executions,
                scratch_bytes: consumed.scratch_bytes,
                stdout_bytes: totals.stdout_bytes,
                stderr_bytes: totals.stderr_bytes,
                dropped_bytes: totals.dropped_bytes,
                truncated: totals.truncated,
            },
        }
    }

    pub(super) fn fingerprint(&self) -> Option<&[u8; 32]> {
        self.fingerprint.as_ref()
    }

    /// Whether its outcome must be in the store before anybody hears of it.
    pub(super) fn is_durable(&self) -> bool {
        self.origin.request_id.is_some()
    }

    pub(super) fn recorded(&self) -> &AtomicBool {
        &self.recorded
    }

    pub(super) fn recorded_turn(&self) -> &AtomicU64 {
        &self.recorded_turn
    }

    pub(super) fn flushed(&self) -> &AtomicU64 {
        &self.flushed
    }

    /// Whether the store has it as it ended.
    pub fn is_kept(&self) -> bool {
        self.kept.load(Ordering::Acquire)
    }

    /// Waits until the store has it as it ended.
    pub async fn kept(&self) {
        let mut told = std::pin::pin!(self.kept_told.notified());
        loop {
            told.as_mut().enable();
            if self.is_kept() {
                return;
            }
            told.as_mut().await;
            told.set(self.kept_told.notified());
        }
    }

    pub(super) fn set_kept(&self) {
        if let Some(ledger) = &self.ledger {
            ledger.remove();
        }
        self.kept.store(true, Ordering::Release);
        self.kept_told.notify_waiters();
    }

    /// Whether it goes on when the server is gone.
    pub fn survives(&self) -> bool {
        self.ledger.is_some()
    }

    pub(super) fn ledger(&self) -> Option<&Arc<Ledger>> {
        self.ledger.as_ref()
    }
}

impl OutputSink for Live {
    fn write(&self, stream: OutputStream, data: Bytes) {
        self.journal.write(stream, data);
    }

    fn log(&self, level: LogLevel, message: String) {
        self.journal.log(level, message);
    }

    fn progress(&self, progress: Progress) {
        self.journal.progress(progress);
    }

    fn rich(&self, output: RichOutput) {
        self.journal.rich(output);
    }

    fn child(&self, event: ChildEvent) {
        self.journal.child(event);
    }

    fn stage(&self, stage: Stage) {
        self.journal.stage(stage);
    }

    fn file(&self, chunk: FileChunk) {
        let (path, size) = (chunk.path.clone(), chunk.data.len());
        if !self.journal.file(chunk) {
            // Whoever reads a scratch directory out keeps to its limit, so this is a fault of ours.
            tracing::error!(execution = %self.origin.id, %path, size, "a piece of a file found no room in the journal");
        }
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.journal.poll_room(cx)
    }

    fn go_on(&self) {
        self.journal.go_on();
    }
}

impl InputSource for Live {
    fn read(&self, max: usize) -> InputRead {
        self.stdin.read(max)
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.stdin.poll_ready(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::execution::Exit;
    use crate::domain::limits::LimitsPolicy;
    use crate::domain::output::ExceptionInfo;

    fn live(scratch_bytes: u64) -> Arc<Live> {
        let origin = Origin {
            id: ExecutionId::new(),
            subject: Subject::Tool { name: "t".into(), version: "".into(), digest: "".into() },
            principal: "p".into(),
            request_id: None,
            labels: Default::default(),
            limits: Limits { scratch_bytes, ..LimitsPolicy::default().defaults },
            created: Timestamp::now(),
            session: None,
            parent: None,
            target: "".into(),
        };
        Live::new(origin, None, Stdin::new(Bytes::new(), Bytes::from_static(b"given"), false), None)
    }

    #[test]
    fn a_result_has_what_the_guest_left_within_bounds() {
        let live = live(4);
        live.meter().scratch(9);
        live.meter().child_execution();
        live.set_session_turn(3);
        let kept =
            |path: &str| OutputFile { path: path.into(), kept: true, digest: "d".into(), ..OutputFile::default() };
        for (path, data) in [("b", "1234"), ("a", "5")] {
            let (path, file) = (path.to_owned(), Some(kept(path)));
            live.file(FileChunk { path, offset: 0, data: data.into(), file });
        }
        let mut ended = Ended::new(Exit::Exited { code: 1 }, "");
        ended.files = vec![kept("b"), kept("a")];
        ended.files.extend((0..MAX_LISTED_FILES).map(|at| OutputFile { path: format!("z{at}"), ..Default::default() }));
        ended.unlisted_files = 5;
        ended.exception = Some(ExceptionInfo { message: "m".repeat(1 << 20), ..ExceptionInfo::default() });
        assert!(live.close(ended));
        live.journal().publish();
        let execution = live.execution();
        assert_eq!((execution.session_turn, execution.stdin_offset), (3, 5));
        let outcome = execution.outcome.unwrap();
        assert_eq!((outcome.files.len(), outcome.unlisted_files), (MAX_LISTED_FILES, 7));
        assert_eq!((outcome.files[0].path.as_str(), outcome.files[0].kept), ("a", false), "it found no room");
        assert_eq!((outcome.files[1].path.as_str(), outcome.files[1].kept), ("b", true));
        assert_eq!((outcome.usage.scratch_bytes, outcome.usage.child_executions), (9, 1));
        assert_eq!(outcome.exception.as_ref().unwrap().message.len(), ExceptionInfo::MAX_MESSAGE);
        // As the store gives it back.
        let again = Live::from_store(live.execution(), live.journal().export(1));
        assert_eq!(format!("{:?}", again.execution()), format!("{:?}", live.execution()));
        assert_eq!(again.journal().file_chunks(), live.journal().file_chunks());
    }
}
