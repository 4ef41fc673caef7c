//! The journal of one execution: numbered events, kept in bounds, read by any number of readers.
//!
//! What holds, whatever writers, readers and limits do:
//! - sequences start at 1 and have no gaps: a `Truncated` event stands for the events it replaces;
//! - an event that a reader has seen never changes;
//! - exactly one `Finished`, and it is the last event;
//! - a writer never waits for a reader, and a reader that stands still costs nothing.
//!
//! Output is kept as a head and a tail: the first quarter of the budget and the newest three quarters.
//! Small writes are joined into one event until somebody reads it, so a guest that writes single
//! bytes does not make a million events, and a reader still sees every byte at once.

use crate::domain::event::{Event, EventKind, LogLevel, OutputStream, Progress, Truncated};
use crate::domain::execution::{ExecutionState, Outcome};
use crate::domain::time::Timestamp;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Largest output event; larger writes become several.
const MAX_CHUNK: usize = 64 << 10;

/// The journal.
pub struct Journal {
    inner: Mutex<Inner>,
}

struct Inner {
    /// The first events, until `head_budget` is used up.
    head: Vec<Event>,
    /// The newest events.
    tail: VecDeque<Event>,
    /// The newest output, not numbered as an event anybody has seen; grows until it is sealed.
    open: Option<Open>,
    next_sequence: u64,
    budget: u64,
    head_weight: u64,
    head_full: bool,
    tail_weight: u64,
    /// The gap between head and tail: its `first_sequence` and the offsets after it, and its last sequence.
    gap: Option<(Truncated, u64)>,
    written: [u64; 2],
    dropped_bytes: u64,
    state: ExecutionState,
    started: Option<Timestamp>,
    /// Set by `close`: nothing is appended any more but the end.
    closed: Option<(Timestamp, Arc<Outcome>)>,
    /// Set by `publish`: readers see the end.
    ended: Option<(Timestamp, Arc<Outcome>)>,
    next_reader: u64,
    /// Readers that wait for the next event.
    waiting: Vec<(u64, Waker)>,
}

struct Open {
    time: Timestamp,
    stream: OutputStream,
    offset: u64,
    data: OpenData,
}

/// The first write is kept as it came; only a second one is worth a copy.
enum OpenData {
    One(Bytes),
    Joined(BytesMut),
}

impl Open {
    fn len(&self) -> usize {
        match &self.data {
            OpenData::One(data) => data.len(),
            OpenData::Joined(data) => data.len(),
        }
    }
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
    /// An empty journal that keeps about `budget` bytes.
    pub fn new(budget: u64) -> Self {
        Journal {
            inner: Mutex::new(Inner {
                head: Vec::new(),
                tail: VecDeque::new(),
                open: None,
                next_sequence: 1,
                budget: budget.max(1),
                head_weight: 0,
                head_full: false,
                tail_weight: 0,
                gap: None,
                written: [0; 2],
                dropped_bytes: 0,
                state: ExecutionState::Queued,
                started: None,
                closed: None,
                ended: None,
                next_reader: 0,
                waiting: Vec::new(),
            }),
        }
    }

    /// A journal that is over, from the events that were exported.
    pub fn frozen(events: Vec<Event>, standing: Standing) -> Self {
        let journal = Journal::new(u64::MAX);
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
        if inner.closed.is_none() {
            inner.state = ExecutionState::Running;
            inner.started = Some(now);
            inner.append(now, EventKind::Started { pid });
            inner.wake();
        }
        now
    }

    /// Appends output. After the end it is ignored.
    pub fn write(&self, stream: OutputStream, mut data: Bytes) {
        let mut inner = self.inner.lock();
        if inner.closed.is_some() {
            return;
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

    /// Appends a log line.
    pub fn log(&self, level: LogLevel, message: String) {
        self.append(EventKind::Log { level, message: message.into() });
    }

    /// Appends progress.
    pub fn progress(&self, progress: Progress) {
        self.append(EventKind::Progress(Arc::new(progress)));
    }

    fn append(&self, kind: EventKind) {
        let mut inner = self.inner.lock();
        if inner.closed.is_none() {
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
        let outcome = Arc::new(outcome(inner.totals(), inner.started, now));
        inner.closed = Some((now, outcome));
        true
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

    /// All of one stream that is kept, and whether a part of it is missing.
    pub fn collect(&self, stream: OutputStream) -> (Bytes, bool) {
        let mut inner = self.inner.lock();
        inner.seal();
        let pieces: Vec<&Bytes> = inner
            .head
            .iter()
            .chain(&inner.tail)
            .filter_map(|event| match &event.kind {
                EventKind::Output { stream: of, data, .. } if *of == stream => Some(data),
                _ => None,
            })
            .collect();
        let bytes = match pieces.as_slice() {
            [] => Bytes::new(),
            [one] => (*one).clone(),
            many => {
                let mut joined = BytesMut::with_capacity(many.iter().map(|piece| piece.len()).sum());
                many.iter().for_each(|piece| joined.extend_from_slice(piece));
                joined.freeze()
            }
        };
        let missing = (bytes.len() as u64) < inner.written[stream as usize];
        (bytes, missing)
    }

    /// The kept events from `from` on, with a `Truncated` event for each gap.
    pub fn export(&self, from: u64) -> Vec<Event> {
        let mut events = Vec::new();
        self.inner.lock().read(from, usize::MAX, usize::MAX, &mut events);
        events
    }

    /// The kept events from `from` on, but only the newest ones that come to about `max_bytes`; no
    /// `Truncated` events: what is missing shows by the sequences.
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
        inner.head_weight + inner.tail_weight + inner.open.as_ref().map_or(0, |open| open.len() as u64)
    }

    /// A reader that begins at a sequence; 0 and 1 are the beginning.
    pub fn reader(&self, from: u64) -> Cursor {
        let mut inner = self.inner.lock();
        inner.next_reader += 1;
        Cursor { reader: inner.next_reader, next: from.max(1), over: false }
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
            cursor.over = matches!(out.last(), Some(Event { kind: EventKind::Finished { .. }, .. }));
            return Poll::Ready(());
        }
        if inner.ended.is_some() {
            cursor.over = true;
            return Poll::Ready(());
        }
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

impl Open {
    fn join(&mut self, more: &[u8]) {
        if let OpenData::One(first) = &self.data {
            let mut joined = BytesMut::with_capacity((first.len() + more.len()).next_power_of_two());
            joined.extend_from_slice(first);
            self.data = OpenData::Joined(joined);
        }
        if let OpenData::Joined(joined) = &mut self.data {
            joined.extend_from_slice(more);
        }
    }
}

impl Inner {
    /// Small budgets get small chunks, or a single chunk would push out all others.
    fn chunk_size(&self) -> usize {
        usize::try_from(self.budget / 8).unwrap_or(MAX_CHUNK).clamp(256, MAX_CHUNK)
    }

    /// Counts output and answers the offset at which it begins.
    fn count_written(&mut self, stream: OutputStream, bytes: usize) -> u64 {
        let written = &mut self.written[stream as usize];
        let offset = *written;
        *written += bytes as u64;
        offset
    }

    /// Makes an event of the open output; from here on it does not change.
    fn seal(&mut self) {
        if let Some(Open { time, stream, offset, data }) = self.open.take() {
            let data = match data {
                OpenData::One(data) => data,
                OpenData::Joined(data) => data.freeze(),
            };
            self.append(time, EventKind::Output { stream, offset, data });
        }
    }

    fn append(&mut self, time: Timestamp, kind: EventKind) {
        let weight = kind.weight();
        let event = Event { sequence: self.next_sequence, time, kind };
        self.next_sequence += 1;
        if !self.head_full && self.head_weight + weight <= (self.budget / 4).max(1024) {
            self.head_weight += weight;
            self.head.push(event);
            return;
        }
        self.head_full = true;
        self.tail_weight += weight;
        self.tail.push_back(event);
        // The newest event always stays, so the end is never dropped.
        while self.tail_weight > (self.budget - self.budget / 4).max(1024) && self.tail.len() > 1 {
            let Some(oldest) = self.tail.pop_front() else { break };
            self.drop_event(oldest);
        }
    }

    fn drop_event(&mut self, event: Event) {
        self.tail_weight -= event.kind.weight();
        let (gap, last) = self.gap.get_or_insert((
            Truncated { first_sequence: event.sequence, stdout_offset: 0, stderr_offset: 0 },
            event.sequence,
        ));
        *last = event.sequence;
        match event.kind {
            EventKind::Output { stream, offset, data } => {
                let after = offset + data.len() as u64;
                match stream {
                    OutputStream::Stdout => gap.stdout_offset = after,
                    OutputStream::Stderr => gap.stderr_offset = after,
                }
                self.dropped_bytes += data.len() as u64;
            }
            EventKind::Log { message, .. } => self.dropped_bytes += message.len() as u64,
            EventKind::Started { .. }
            | EventKind::Progress(_)
            | EventKind::Truncated(_)
            | EventKind::Finished { .. } => {}
        }
    }

    fn standing(&self) -> Standing {
        Standing {
            state: self.state,
            started: self.started,
            ended: self.ended.clone(),
            // Output that is still open has its number already: it is the next one.
            last_sequence: self.next_sequence - 1 + u64::from(self.open.is_some()),
        }
    }

    fn totals(&self) -> Totals {
        Totals {
            stdout_bytes: self.written[0],
            stderr_bytes: self.written[1],
            dropped_bytes: self.dropped_bytes,
            truncated: self.gap.is_some(),
        }
    }

    /// Appends to `out` the events from `from` on, within bounds, and answers the next sequence.
    fn read(&mut self, from: u64, max_events: usize, max_bytes: usize, out: &mut Vec<Event>) -> u64 {
        if from >= self.next_sequence && self.open.is_none() {
            return from;
        }
        self.seal();
        let mut next = from.max(1);
        let (mut events, mut bytes) = (0, 0);
        let gap = self.gap.map(|(gap, last)| Event {
            sequence: last,
            time: self.tail.front().map_or(Timestamp(0), |event| event.time),
            kind: EventKind::Truncated(self.gap_offsets(gap)),
        });
        let head = &self.head[self.head.partition_point(|event| event.sequence < next)..];
        let tail_from = self.tail.partition_point(|event| event.sequence < next);
        let gap = gap.filter(|gap| gap.sequence >= next);
        for event in head.iter().chain(gap.as_ref()).chain(self.tail.range(tail_from..)) {
            if events >= max_events || bytes >= max_bytes {
                break;
            }
            let mut event = event.clone();
            match &mut event.kind {
                EventKind::Truncated(gap) => gap.first_sequence = gap.first_sequence.max(next),
                EventKind::Output { data, .. } => bytes += data.len(),
                _ => {}
            }
            next = event.sequence + 1;
            events += 1;
            out.push(event);
        }
        next
    }

    /// A stream of which nothing fell into the gap goes on where the head left it.
    fn gap_offsets(&self, mut gap: Truncated) -> Truncated {
        let head_end = |of: OutputStream| {
            self.head
                .iter()
                .rev()
                .find_map(|event| match &event.kind {
                    EventKind::Output { stream, offset, data } if *stream == of => Some(offset + data.len() as u64),
                    _ => None,
                })
                .unwrap_or(0)
        };
        gap.stdout_offset = gap.stdout_offset.max(head_end(OutputStream::Stdout));
        gap.stderr_offset = gap.stderr_offset.max(head_end(OutputStream::Stderr));
        gap
    }

    fn wake(&mut self) {
        for (_, waker) in self.waiting.drain(..) {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests;
