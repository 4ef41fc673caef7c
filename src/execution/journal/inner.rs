//! What a journal keeps and how, behind its lock.

use super::replay::{Mark, Replay};
use super::{Standing, Totals};
use crate::domain::event::{Event, EventKind, OutputStream, Truncated};
use crate::domain::execution::{ExecutionState, Outcome};
use crate::domain::time::Timestamp;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

/// Largest output event; larger writes become several.
const MAX_CHUNK: usize = 64 << 10;

pub(super) struct Inner {
    /// The first events, until `head_budget` is used up.
    pub(super) head: Vec<Event>,
    /// The newest events.
    pub(super) tail: VecDeque<Event>,
    /// The pieces of files that the run left, and the end. They follow all output, and nothing of them is dropped.
    pub(super) files: Vec<Event>,
    /// Bytes that pieces of files may still take; `None` once one was refused.
    pub(super) file_room: Option<u64>,
    /// The newest output, not numbered as an event anybody has seen; grows until it is sealed.
    pub(super) open: Option<Open>,
    pub(super) next_sequence: u64,
    pub(super) budget: u64,
    pub(super) head_weight: u64,
    pub(super) head_full: bool,
    pub(super) tail_weight: u64,
    /// The gap between head and tail: its `first_sequence` and the offsets after it, and its last sequence.
    pub(super) gap: Option<(Truncated, u64)>,
    pub(super) written: [u64; 2],
    pub(super) dropped_bytes: u64,
    pub(super) state: ExecutionState,
    pub(super) started: Option<Timestamp>,
    /// Set by `close`: nothing is appended any more but the end.
    pub(super) closed: Option<(Timestamp, Arc<Outcome>)>,
    /// Set by `publish`: readers see the end.
    pub(super) ended: Option<(Timestamp, Arc<Outcome>)>,
    pub(super) next_reader: u64,
    /// Readers that are attached.
    pub(super) readers: Vec<Reader>,
    /// Readers that wait for the next event.
    pub(super) waiting: Vec<(u64, Waker)>,
    /// A writer that waits for readers.
    pub(super) writer: Option<Waker>,
    /// What comes again after a crash, as long as something does.
    pub(super) replay: Option<Box<Replay>>,
    /// The last sequence that the ledger knows.
    pub(super) noted: u64,
}

/// A reader that is attached.
pub(super) struct Reader {
    pub(super) number: u64,
    /// The sequence it reads next.
    pub(super) next: u64,
    /// Bytes it must read before it is waited for again, because it was too late once.
    pub(super) owes: u64,
}

pub(super) struct Open {
    pub(super) time: Timestamp,
    pub(super) stream: OutputStream,
    pub(super) offset: u64,
    pub(super) data: OpenData,
}

/// The first write is kept as it came; only a second one is worth a copy.
pub(super) enum OpenData {
    One(Bytes),
    Joined(BytesMut),
}

impl Open {
    pub(super) fn len(&self) -> usize {
        match &self.data {
            OpenData::One(data) => data.len(),
            OpenData::Joined(data) => data.len(),
        }
    }
}

impl Open {
    pub(super) fn join(&mut self, more: &[u8]) {
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
    pub(super) fn new(budget: u64, file_budget: u64) -> Self {
        Inner {
            head: Vec::new(),
            tail: VecDeque::new(),
            files: Vec::new(),
            file_room: Some(file_budget),
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
            readers: Vec::new(),
            waiting: Vec::new(),
            writer: None,
            replay: None,
            noted: 0,
        }
    }

    /// Small budgets get small chunks, or a single chunk would push out all others.
    pub(super) fn chunk_size(&self) -> usize {
        usize::try_from(self.budget / 8).unwrap_or(MAX_CHUNK).clamp(256, MAX_CHUNK)
    }

    /// Bytes that the forms of one rich output may take, so that one alone does not push out all others.
    pub(super) fn rich_room(&self) -> u64 {
        (self.budget / 2).max(1024)
    }

    /// Whether no more output is taken: the journal is closed, or what the run left follows already.
    pub(super) fn is_past_output(&self) -> bool {
        self.closed.is_some() || !self.files.is_empty()
    }

    /// Counts output and answers the offset at which it begins.
    pub(super) fn count_written(&mut self, stream: OutputStream, bytes: usize) -> u64 {
        let written = &mut self.written[stream as usize];
        let offset = *written;
        *written += bytes as u64;
        offset
    }

    /// Makes an event of the open output; from here on it does not change.
    pub(super) fn seal(&mut self) {
        if let Some(Open { time, stream, offset, data }) = self.open.take() {
            let data = match data {
                OpenData::One(data) => data,
                OpenData::Joined(data) => data.freeze(),
            };
            self.append(time, EventKind::Output { stream, offset, data });
        }
    }

    pub(super) fn append(&mut self, time: Timestamp, kind: EventKind) {
        let weight = kind.weight();
        let event = Event { sequence: self.next_sequence, time, kind };
        self.next_sequence += 1;
        if !self.files.is_empty() || matches!(event.kind, EventKind::FileChunk(_)) {
            self.files.push(event);
            return;
        }
        if !self.head_full && self.head_weight + weight <= (self.budget / 4).max(1024) {
            self.head_weight += weight;
            self.head.push(event);
            return;
        }
        self.head_full = true;
        self.tail_weight += weight;
        self.tail.push_back(event);
        // The newest event always stays, so the end is never dropped.
        while self.tail_weight > self.tail_budget() && self.tail.len() > 1 {
            let Some(oldest) = self.tail.pop_front() else { break };
            self.drop_event(oldest);
        }
    }

    pub(super) fn drop_event(&mut self, event: Event) {
        self.tail_weight -= event.kind.weight();
        let first_sequence = match &event.kind {
            EventKind::Truncated(gap) => gap.first_sequence,
            _ => event.sequence,
        };
        let (gap, last) =
            self.gap.get_or_insert((Truncated { first_sequence, stdout_offset: 0, stderr_offset: 0 }, event.sequence));
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
            EventKind::RichOutput(output) => self.dropped_bytes += output.weight(),
            EventKind::Truncated(inside) => {
                gap.stdout_offset = gap.stdout_offset.max(inside.stdout_offset);
                gap.stderr_offset = gap.stderr_offset.max(inside.stderr_offset);
            }
            EventKind::Started { .. }
            | EventKind::Progress(_)
            | EventKind::Child(_)
            | EventKind::Stage(_)
            | EventKind::FileChunk(_)
            | EventKind::Finished { .. } => {}
        }
    }

    fn tail_budget(&self) -> u64 {
        (self.budget - self.budget / 4).max(1024)
    }

    /// The reader that keeps up and would lose an event if more output came.
    pub(super) fn would_lose(&mut self) -> Option<&mut Reader> {
        if self.readers.is_empty() {
            return None;
        }
        let open = self.open.as_ref().map_or(0, Open::len);
        let soon = self.tail_weight + (open + self.chunk_size()) as u64;
        if soon <= self.tail_budget() {
            return None;
        }
        let oldest = self.tail.front()?.sequence;
        self.readers.iter_mut().find(|reader| reader.owes == 0 && reader.next <= oldest)
    }

    /// Waits no longer for the reader that would lose something. It is waited for again once it has read a
    /// quarter of what is kept, or everything there is: so what a slow reader costs has a bound.
    pub(super) fn give_up_waiting(&mut self) -> bool {
        let owes = (self.tail_budget() / 4).max(1);
        let late = self.would_lose().map(|reader| reader.owes = owes);
        late.is_some()
    }

    /// Notes how far a reader has come, by so many bytes.
    pub(super) fn progressed(&mut self, number: u64, next: u64, bytes: u64) {
        if let Some(reader) = self.readers.iter_mut().find(|reader| reader.number == number) {
            reader.next = next;
            reader.owes = reader.owes.saturating_sub(bytes);
        }
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    pub(super) fn standing(&self) -> Standing {
        Standing {
            state: self.state,
            started: self.started,
            ended: self.ended.clone(),
            // Output that is still open has its number already: it is the next one.
            last_sequence: self.next_sequence - 1 + u64::from(self.open.is_some()),
        }
    }

    pub(super) fn totals(&self) -> Totals {
        Totals {
            stdout_bytes: self.written[0],
            stderr_bytes: self.written[1],
            dropped_bytes: self.dropped_bytes,
            truncated: self.gap.is_some() || self.dropped_bytes > 0,
        }
    }

    /// Appends to `out` the events from `from` on, within bounds, and answers the next sequence.
    pub(super) fn read(&mut self, from: u64, max_events: usize, max_bytes: usize, out: &mut Vec<Event>) -> u64 {
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
        let files = &self.files[self.files.partition_point(|event| event.sequence < next)..];
        for event in head.iter().chain(gap.as_ref()).chain(self.tail.range(tail_from..)).chain(files) {
            if events >= max_events || bytes >= max_bytes {
                break;
            }
            let mut event = event.clone();
            match &mut event.kind {
                EventKind::Truncated(gap) => gap.first_sequence = gap.first_sequence.max(next),
                kind => bytes += usize::try_from(kind.weight()).unwrap_or(usize::MAX),
            }
            next = event.sequence + 1;
            events += 1;
            out.push(event);
        }
        next
    }

    /// A stream of which nothing fell into the gap goes on where the head left it.
    pub(super) fn gap_offsets(&self, mut gap: Truncated) -> Truncated {
        let head_end = |of: OutputStream| {
            self.head
                .iter()
                .rev()
                .find_map(|event| match &event.kind {
                    EventKind::Output { stream, offset, data } if *stream == of => Some(offset + data.len() as u64),
                    EventKind::Truncated(gap) => Some([gap.stdout_offset, gap.stderr_offset][of as usize]),
                    _ => None,
                })
                .unwrap_or(0)
        };
        gap.stdout_offset = gap.stdout_offset.max(head_end(OutputStream::Stdout));
        gap.stderr_offset = gap.stderr_offset.max(head_end(OutputStream::Stderr));
        gap
    }

    /// Marks of the events up to a sequence that are not noted yet, among `shown` if they are there.
    pub(super) fn unnoted(&mut self, upto: u64, shown: &[Event]) -> Vec<Mark> {
        if upto <= self.noted {
            return Vec::new();
        }
        let from = self.noted + 1;
        self.noted = upto;
        let first = |event: &Event| match &event.kind {
            EventKind::Truncated(gap) => gap.first_sequence,
            _ => event.sequence,
        };
        let written = self.written;
        if shown.first().is_some_and(|event| first(event) == from) {
            return shown.iter().map(|event| Mark::of(event, written)).collect();
        }
        let mut all = Vec::new();
        self.read(from, usize::MAX, usize::MAX, &mut all);
        all.iter().filter(|event| event.sequence <= upto).map(|event| Mark::of(event, written)).collect()
    }

    pub(super) fn wake(&mut self) {
        for (_, waker) in self.waiting.drain(..) {
            waker.wake();
        }
    }
}
