//! The journal of one execution: numbered events, kept in bounds, read by any number of readers.
//!
//! What holds, whatever writers, readers and limits do:
//! - sequences start at 1 and have no gaps: a `Truncated` event stands for the events it replaces;
//! - an event that a reader has seen never changes;
//! - exactly one `Finished`, and it is the last event;
//! - a reader never stalls a writer: one that keeps up may hold it for a moment so as to lose nothing
//!   ([`Journal::poll_room`]), one that does not loses the middle and is told so.
//!
//! Output is kept as a head and a tail: the first quarter of the budget and the newest three quarters.
//! The pieces of files that a run left come after all output and have a budget of their own: none is dropped,
//! and none pushes output out.
//! Small writes are joined into one event until somebody reads it, so a guest that writes single
//! bytes does not make a million events, and a reader still sees every byte at once.

mod inner;
mod kept;
mod replay;
#[cfg(test)]
mod replay_tests;
#[cfg(test)]
mod tests;

use super::ledger::Ledger;
use crate::domain::event::{Event, EventKind, LogLevel, OutputStream, Progress};
use crate::domain::execution::{ExecutionState, Outcome};
use crate::domain::output::{ChildEvent, FileChunk, MAX_FILE_CHUNK, RichOutput, Stage};
use crate::domain::time::Timestamp;
use bytes::Bytes;
use inner::{Inner, Open, OpenData, Reader};
use parking_lot::Mutex;
use std::sync::Arc;
use std::task::{Context, Poll};

pub use replay::Mark;

/// The journal.
pub struct Journal {
    inner: Mutex<Inner>,
    /// Where the numbers that readers see are noted first, if the execution outlives the server.
    ledger: Option<Arc<Ledger>>,
}

/// Totals of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Bytes written to standard output.
    pub stdout_bytes: u64,
    /// Bytes written to standard error.
    pub stderr_bytes: u64,
    /// Bytes of output and logs that were dropped.
    pub dropped_bytes: u64,
    /// Whether anything was dropped.
    pub truncated: bool,
}

/// How an execution stands, by its journal.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The state.
    pub state: ExecutionState,
    /// When the guest began.
    pub started: Option<Timestamp>,
    /// When it ended, and how.
    pub ended: Option<(Timestamp, Arc<Outcome>)>,
    /// Sequence of the newest event.
    pub last_sequence: u64,
}

impl Journal {
    /// An empty journal that keeps about `budget` bytes of output, and `file_budget` bytes of files.
    pub fn new(budget: u64, file_budget: u64) -> Self {
        Journal { inner: Mutex::new(Inner::new(budget, file_budget)), ledger: None }
    }

    /// One that notes in a ledger which numbers readers see.
    pub fn noted(budget: u64, file_budget: u64, ledger: Arc<Ledger>) -> Self {
        Journal { ledger: Some(ledger), ..Journal::new(budget, file_budget) }
    }

    /// One that goes on after a crash: with the events that the store has, without a gap from the first, and the marks
    /// of its ledger. What was written after those events comes again by `write` and `lose`.
    pub fn resumed(budget: u64, file_budget: u64, ledger: Arc<Ledger>, events: Vec<Event>, marks: Vec<Mark>) -> Self {
        let journal = Journal::noted(budget, file_budget, ledger);
        journal.inner.lock().resume(events, marks);
        journal
    }

    /// A journal that is over, from the events that were exported.
    pub fn frozen(events: Vec<Event>, standing: Standing) -> Self {
        let journal = Journal::new(u64::MAX, 0);
        {
            let mut inner = journal.inner.lock();
            inner.next_sequence = standing.last_sequence + 1;
            inner.head = events;
            inner.state = standing.state;
            inner.started = standing.started;
            inner.closed = standing.ended.clone();
            inner.ended = standing.ended;
        }
        journal
    }

    /// Notes that the guest began to run.
    pub fn start(&self, pid: i32) -> Timestamp {
        let now = Timestamp::now();
        let mut inner = self.inner.lock();
        // One that goes on after a crash may have begun before.
        if inner.closed.is_none() && inner.started.is_none() {
            inner.state = ExecutionState::Running;
            inner.started = Some(now);
            inner.append(now, EventKind::Started { pid });
            inner.wake();
        }
        now
    }

    /// Appends output. After the end, and after the first piece of a file, it is ignored.
    pub fn write(&self, stream: OutputStream, mut data: Bytes) {
        let mut inner = self.inner.lock();
        if inner.is_past_output() {
            return;
        }
        if inner.replay.is_some() {
            data = inner.replay_write(stream, data);
        }
        let chunk = inner.chunk_size();
        while !data.is_empty() {
            let room = match &inner.open {
                Some(open) if open.stream == stream => chunk.saturating_sub(open.len()),
                _ => 0,
            };
            if room == 0 {
                inner.seal();
                let piece = data.split_to(data.len().min(chunk));
                let offset = inner.count_written(stream, piece.len());
                inner.open = Some(Open { time: Timestamp::now(), stream, offset, data: OpenData::One(piece) });
            } else {
                let piece = data.split_to(data.len().min(room));
                inner.count_written(stream, piece.len());
                if let Some(open) = &mut inner.open {
                    open.join(&piece);
                }
            }
        }
        inner.wake();
    }

    /// Notes that output was lost before it got here; the streams go on at these offsets.
    pub fn lose(&self, stdout_offset: u64, stderr_offset: u64) {
        let mut inner = self.inner.lock();
        if !inner.is_past_output() {
            inner.lose([stdout_offset, stderr_offset]);
            inner.wake();
        }
    }

    /// Where the streams stand.
    pub fn offsets(&self) -> [u64; 2] {
        self.inner.lock().written
    }

    /// Appends a log line.
    pub fn log(&self, level: LogLevel, message: String) {
        self.append(EventKind::Log { level, message: message.into() });
    }

    /// Appends progress.
    pub fn progress(&self, progress: Progress) {
        self.append(EventKind::Progress(Arc::new(progress)));
    }

    /// Appends something to look at, within the bounds of the contract and of what is kept.
    pub fn rich(&self, mut output: RichOutput) {
        let mut inner = self.inner.lock();
        if inner.is_past_output() {
            return;
        }
        inner.dropped_bytes += output.bound(inner.rich_room());
        inner.seal();
        inner.append(Timestamp::now(), EventKind::RichOutput(Arc::new(output)));
        inner.wake();
    }

    /// Appends a call of another tool, or the end of one.
    pub fn child(&self, event: ChildEvent) {
        self.append(EventKind::Child(Arc::new(event)));
    }

    /// Appends the beginning of a stage.
    pub fn stage(&self, stage: Stage) {
        self.append(EventKind::Stage(stage));
    }

    /// Appends a piece of a file, in pieces of [`MAX_FILE_CHUNK`] bytes. Answers whether there was room for it;
    /// once there was not, no further piece is taken, so that none follows a gap.
    pub fn file(&self, mut chunk: FileChunk) -> bool {
        let mut inner = self.inner.lock();
        let weight = chunk.data.len() as u64;
        let Some(left) = inner.file_room.and_then(|room| room.checked_sub(weight)) else {
            inner.file_room = None;
            return false;
        };
        if inner.closed.is_some() {
            return false;
        }
        inner.file_room = Some(left);
        inner.seal();
        let now = Timestamp::now();
        while chunk.data.len() > MAX_FILE_CHUNK {
            let piece = FileChunk {
                path: chunk.path.clone(),
                offset: chunk.offset,
                data: chunk.data.split_to(MAX_FILE_CHUNK),
                file: None,
            };
            chunk.offset += MAX_FILE_CHUNK as u64;
            inner.append(now, EventKind::FileChunk(Arc::new(piece)));
        }
        inner.append(now, EventKind::FileChunk(Arc::new(chunk)));
        inner.wake();
        true
    }

    fn append(&self, kind: EventKind) {
        let mut inner = self.inner.lock();
        if !inner.is_past_output() {
            inner.seal();
            inner.append(Timestamp::now(), kind);
            inner.wake();
        }
    }

    /// Takes no more, and fixes the outcome that `outcome` makes of the totals, of the time the guest
    /// began and of now. Readers see the end only after [`Journal::publish`]: in between, an outcome
    /// that must survive a crash is written to the store. Only the first call counts; it answers
    /// whether it was the first.
    pub fn close(&self, outcome: impl FnOnce(Totals, Option<Timestamp>, Timestamp) -> Outcome) -> bool {
        let now = Timestamp::now();
        let mut inner = self.inner.lock();
        if inner.closed.is_some() {
            return false;
        }
        inner.seal();
        let now = inner.replay_end().unwrap_or(now);
        let outcome = Arc::new(outcome(inner.totals(), inner.started, now));
        inner.closed = Some((now, outcome));
        true
    }

    /// Whether the end is fixed, shown to readers or not.
    pub fn is_closed(&self) -> bool {
        self.inner.lock().closed.is_some()
    }

    /// Shows readers the end of a closed journal.
    pub fn publish(&self) {
        let mut inner = self.inner.lock();
        if inner.ended.is_some() {
            return;
        }
        if let Some((time, outcome)) = inner.closed.clone() {
            inner.state = outcome.exit.state();
            inner.ended = Some((time, outcome.clone()));
            inner.append(time, finished(outcome));
            inner.wake();
        }
    }

    /// A closed journal as it will stand once published, and all its events.
    pub fn record(&self) -> (Standing, Vec<Event>) {
        let mut events = self.export(1);
        let inner = self.inner.lock();
        let mut standing = inner.standing();
        if let (None, Some((time, outcome))) = (&inner.ended, &inner.closed) {
            standing.state = outcome.exit.state();
            standing.ended = Some((*time, outcome.clone()));
            standing.last_sequence += 1;
            events.push(Event { sequence: standing.last_sequence, time: *time, kind: finished(outcome.clone()) });
        }
        (standing, events)
    }

    /// How the execution stands.
    pub fn standing(&self) -> Standing {
        self.inner.lock().standing()
    }

    /// Totals so far.
    pub fn totals(&self) -> Totals {
        self.inner.lock().totals()
    }

    /// The kept events from `from` on, with a `Truncated` event for each gap.
    pub fn export(&self, from: u64) -> Vec<Event> {
        let mut events = Vec::new();
        self.inner.lock().read(from, usize::MAX, usize::MAX, &mut events);
        events
    }

    /// The kept events from `from` on, but only the first ones that come to about `max_bytes`.
    pub fn export_oldest(&self, from: u64, max_bytes: usize) -> Vec<Event> {
        let mut events = Vec::new();
        self.inner.lock().read(from, usize::MAX, max_bytes, &mut events);
        events
    }

    /// The kept events from `from` on, but only the newest ones that come to about `max_bytes`; no
    /// `Truncated` events: what is missing shows by the sequences. Without pieces of files: of use only whole,
    /// they wait for the final record.
    pub fn export_newest(&self, from: u64, max_bytes: usize) -> Vec<Event> {
        let mut inner = self.inner.lock();
        inner.seal();
        let mut bytes = 0;
        let mut events: Vec<Event> = inner
            .head
            .iter()
            .chain(&inner.tail)
            .rev()
            .take_while(|event| {
                bytes += event.kind.weight() as usize;
                event.sequence >= from && (bytes <= max_bytes || bytes == event.kind.weight() as usize)
            })
            .cloned()
            .collect();
        events.reverse();
        events
    }

    /// Sequence of the oldest event after the gap, or 0 when nothing was dropped.
    pub fn oldest_of_tail(&self) -> u64 {
        let inner = self.inner.lock();
        inner.gap.map_or(0, |(_, last)| last + 1)
    }

    /// Bytes this journal keeps, about.
    pub fn weight(&self) -> u64 {
        let inner = self.inner.lock();
        let files: u64 = inner.files.iter().map(|event| event.kind.weight()).sum();
        inner.head_weight + inner.tail_weight + files + inner.open.as_ref().map_or(0, |open| open.len() as u64)
    }

    /// A reader that begins at a sequence; 0 and 1 are the beginning.
    pub fn reader(&self, from: u64) -> Cursor {
        let mut inner = self.inner.lock();
        inner.next_reader += 1;
        let (number, next) = (inner.next_reader, from.max(1));
        // It is trusted at first: somebody who attaches wants what comes.
        inner.readers.push(Reader { number, next, owes: 0 });
        Cursor { reader: number, next, over: false }
    }

    /// Forgets a reader that reads no more.
    pub fn leave(&self, cursor: &Cursor) {
        let mut inner = self.inner.lock();
        inner.readers.retain(|reader| reader.number != cursor.reader);
        inner.waiting.retain(|(reader, _)| *reader != cursor.reader);
        if let Some(writer) = inner.writer.take() {
            writer.wake();
        }
    }

    /// Ready when more output would make no reader that keeps up lose any; otherwise wakes the writer when
    /// that changes. A writer waits a moment and then calls [`Journal::go_on`].
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.inner.lock();
        if inner.would_lose().is_none() {
            return Poll::Ready(());
        }
        match &mut inner.writer {
            Some(writer) => writer.clone_from(cx.waker()),
            None => inner.writer = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Waits no longer for readers that are about to lose something, not until they have read a good deal more.
    pub fn go_on(&self) {
        let mut inner = self.inner.lock();
        inner.writer = None;
        while inner.give_up_waiting() {}
    }

    /// Reads what there is at the cursor, or arranges to be woken. Ready with nothing is the end.
    pub fn poll_read(&self, cursor: &mut Cursor, cx: &mut Context<'_>, out: &mut Vec<Event>) -> Poll<()> {
        /// Enough to be worth a lock and a wake-up, little enough not to hold much.
        const BATCH_EVENTS: usize = 256;
        const BATCH_BYTES: usize = 256 << 10;
        if cursor.over {
            return Poll::Ready(());
        }
        let mut inner = self.inner.lock();
        let before = out.len();
        cursor.next = inner.read(cursor.next, BATCH_EVENTS, BATCH_BYTES, out);
        if out.len() > before {
            if let Some(ledger) = &self.ledger {
                let marks = inner.unnoted(cursor.next - 1, &out[before..]);
                if !marks.is_empty() {
                    ledger.add(&marks);
                }
            }
            let bytes = out[before..].iter().map(|event| event.kind.weight()).sum();
            inner.progressed(cursor.reader, cursor.next, bytes);
            cursor.over = matches!(out.last(), Some(Event { kind: EventKind::Finished { .. }, .. }));
            return Poll::Ready(());
        }
        if inner.ended.is_some() {
            cursor.over = true;
            return Poll::Ready(());
        }
        inner.progressed(cursor.reader, cursor.next, u64::MAX);
        match inner.waiting.iter_mut().find(|(reader, _)| *reader == cursor.reader) {
            Some((_, waker)) => waker.clone_from(cx.waker()),
            None => inner.waiting.push((cursor.reader, cx.waker().clone())),
        }
        Poll::Pending
    }

    /// Waits for the end.
    pub async fn ended(&self) -> Arc<Outcome> {
        let id = {
            let mut inner = self.inner.lock();
            inner.next_reader += 1;
            inner.next_reader
        };
        std::future::poll_fn(|cx| {
            let mut inner = self.inner.lock();
            if let Some((_, outcome)) = &inner.ended {
                return Poll::Ready(outcome.clone());
            }
            match inner.waiting.iter_mut().find(|(reader, _)| *reader == id) {
                Some((_, waker)) => waker.clone_from(cx.waker()),
                None => inner.waiting.push((id, cx.waker().clone())),
            }
            Poll::Pending
        })
        .await
    }
}

/// Where a reader stands. Cheap; holds no data and no lock.
#[derive(Debug)]
pub struct Cursor {
    reader: u64,
    next: u64,
    over: bool,
}

fn finished(outcome: Arc<Outcome>) -> EventKind {
    EventKind::Finished { state: outcome.exit.state(), outcome }
}
