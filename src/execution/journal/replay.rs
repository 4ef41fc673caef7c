//! A journal that goes on where a killed server left it.
//!
//! The bytes come again from whoever kept them, in the same order. The plan says into which events they were cut, as
//! far as readers may have seen them: under the same number they get the same bytes, or a gap that says so.

use super::inner::Inner;
use crate::domain::event::{Event, EventKind, OutputStream, Truncated};
use crate::domain::execution::ExecutionState;
use crate::domain::time::Timestamp;
use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;

/// What happened under one number, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The guest began to run.
    Started {
        /// The number.
        sequence: u64,
        /// When.
        time: Timestamp,
        /// Process id.
        pid: i32,
    },
    /// Output.
    Output {
        /// The number.
        sequence: u64,
        /// When.
        time: Timestamp,
        /// To which stream.
        stream: OutputStream,
        /// Where it begins in that stream.
        offset: u64,
        /// Its bytes.
        length: u64,
    },
    /// Events that are not kept.
    Gap {
        /// The last number it stands for.
        sequence: u64,
        /// When.
        time: Timestamp,
        /// The rest.
        gap: Truncated,
    },
    /// The end.
    Finished {
        /// The number.
        sequence: u64,
        /// When.
        time: Timestamp,
    },
}

impl Mark {
    /// The first number it stands for.
    pub fn first(&self) -> u64 {
        match self {
            Mark::Gap { gap, .. } => gap.first_sequence,
            other => other.last(),
        }
    }

    /// The last number it stands for.
    pub fn last(&self) -> u64 {
        match self {
            Mark::Started { sequence, .. }
            | Mark::Output { sequence, .. }
            | Mark::Gap { sequence, .. }
            | Mark::Finished { sequence, .. } => *sequence,
        }
    }

    /// The mark of an event; `offsets` is where both streams go on behind it.
    pub(super) fn of(event: &Event, offsets: [u64; 2]) -> Mark {
        let (sequence, time) = (event.sequence, event.time);
        match &event.kind {
            EventKind::Started { pid } => Mark::Started { sequence, time, pid: *pid },
            EventKind::Output { stream, offset, data } => {
                Mark::Output { sequence, time, stream: *stream, offset: *offset, length: data.len() as u64 }
            }
            EventKind::Truncated(gap) => Mark::Gap { sequence, time, gap: *gap },
            EventKind::Finished { .. } => Mark::Finished { sequence, time },
            // Processes have none of these; if one ever does, it is not there again after a crash.
            EventKind::Log { .. }
            | EventKind::Progress(_)
            | EventKind::RichOutput(_)
            | EventKind::Child(_)
            | EventKind::Stage(_)
            | EventKind::FileChunk(_) => {
                let [stdout_offset, stderr_offset] = offsets;
                let gap = Truncated { first_sequence: sequence, stdout_offset, stderr_offset };
                Mark::Gap { sequence, time, gap }
            }
        }
    }
}

/// What is still to come again.
#[derive(Debug, Default)]
pub(super) struct Replay {
    plan: VecDeque<Mark>,
    /// Bytes before these offsets are in a gap.
    skip: [u64; 2],
    /// What is there of the event that comes next.
    gathered: BytesMut,
    /// When it ended, if readers have seen that.
    finished: Option<Timestamp>,
}

impl Inner {
    /// Takes up what was there before: events that the store has, and marks of those that follow.
    pub(super) fn resume(&mut self, events: Vec<Event>, marks: Vec<Mark>) {
        for event in events {
            match &event.kind {
                EventKind::Started { .. } => {
                    self.state = ExecutionState::Running;
                    self.started = Some(event.time);
                }
                EventKind::Output { stream, offset, data } => {
                    self.written[*stream as usize] = offset + data.len() as u64;
                }
                EventKind::Truncated(gap) => self.pass(gap),
                _ => {}
            }
            self.append_at(event);
        }
        let known = self.next_sequence - 1;
        let mut plan: VecDeque<Mark> = marks.into_iter().filter(|mark| mark.last() > known).collect();
        if let Some(Mark::Gap { gap, .. }) = plan.front_mut() {
            gap.first_sequence = gap.first_sequence.max(known + 1);
        }
        let mut next = known + 1;
        let whole =
            plan.iter().take_while(|mark| mark.first() == std::mem::replace(&mut next, mark.last() + 1)).count();
        plan.truncate(whole);
        self.noted = plan.back().map_or(known, Mark::last);
        if !plan.is_empty() {
            self.replay = Some(Box::new(Replay { plan, ..Replay::default() }));
            self.replay_on();
        }
    }

    fn append_at(&mut self, event: Event) {
        self.next_sequence = event.sequence;
        self.append(event.time, event.kind);
    }

    /// Counts what is in a gap.
    fn pass(&mut self, gap: &Truncated) {
        for (written, offset) in self.written.iter_mut().zip([gap.stdout_offset, gap.stderr_offset]) {
            self.dropped_bytes += offset.saturating_sub(*written);
            *written = offset.max(*written);
        }
    }

    /// Does what needs no bytes; ends the replay when nothing is left of the plan.
    fn replay_on(&mut self) {
        loop {
            let Some(replay) = &mut self.replay else { return };
            match replay.plan.front().copied() {
                Some(Mark::Started { sequence, time, pid }) => {
                    replay.plan.pop_front();
                    self.state = ExecutionState::Running;
                    self.started = Some(time);
                    self.append_at(Event { sequence, time, kind: EventKind::Started { pid } });
                }
                Some(Mark::Gap { sequence, time, gap }) => {
                    replay.plan.pop_front();
                    replay.skip[0] = replay.skip[0].max(gap.stdout_offset);
                    replay.skip[1] = replay.skip[1].max(gap.stderr_offset);
                    self.append_at(Event { sequence, time, kind: EventKind::Truncated(gap) });
                }
                Some(Mark::Finished { time, .. }) => {
                    // The end itself comes when the guest tells of it.
                    replay.plan.pop_front();
                    replay.finished = Some(time);
                }
                Some(Mark::Output { .. }) => return,
                None => {
                    let swallows = replay.skip.iter().zip(self.written).any(|(skip, written)| written < *skip);
                    if !swallows && replay.finished.is_none() {
                        self.replay = None;
                    }
                    return;
                }
            }
        }
    }

    /// Takes bytes that come again. Gives back those that are new.
    pub(super) fn replay_write(&mut self, stream: OutputStream, mut data: Bytes) -> Bytes {
        while !data.is_empty() {
            let at = self.written[stream as usize];
            let Some(replay) = &mut self.replay else { return data };
            let skipped = replay.skip[stream as usize].saturating_sub(at).min(data.len() as u64);
            if skipped > 0 {
                data.advance(skipped as usize);
                self.written[stream as usize] += skipped;
                self.dropped_bytes += skipped;
                self.replay_on();
                continue;
            }
            match replay.plan.front().copied() {
                Some(Mark::Output { sequence, time, stream: of, offset, length })
                    if of == stream && offset + replay.gathered.len() as u64 == at =>
                {
                    let missing = length - replay.gathered.len() as u64;
                    let piece = data.split_to(usize::try_from(missing).unwrap_or(usize::MAX).min(data.len()));
                    self.written[stream as usize] += piece.len() as u64;
                    let whole = piece.len() as u64 == missing;
                    let bytes = match (whole, replay.gathered.is_empty()) {
                        (true, true) => piece,
                        _ => {
                            replay.gathered.extend_from_slice(&piece);
                            if !whole {
                                continue;
                            }
                            replay.gathered.split().freeze()
                        }
                    };
                    replay.plan.pop_front();
                    self.append_at(Event { sequence, time, kind: EventKind::Output { stream, offset, data: bytes } });
                    self.replay_on();
                }
                // They were told of the end; whatever this is was not part of it.
                None if replay.finished.is_some() => return Bytes::new(),
                // Whoever kept the bytes gives out others than before: nothing of it is shown under these numbers.
                Some(_) => self.replay_abandon(),
                None => return data,
            }
        }
        data
    }

    /// A gap stands for what is left of the plan.
    fn replay_abandon(&mut self) {
        let Some(mut replay) = self.replay.take() else { return };
        self.dropped_bytes += replay.gathered.len() as u64;
        if let (Some(first), Some(last)) = (replay.plan.front().map(Mark::first), replay.plan.back().map(Mark::last)) {
            let [stdout_offset, stderr_offset] = self.written;
            let gap = Truncated { first_sequence: first, stdout_offset, stderr_offset };
            self.append_at(Event { sequence: last, time: Timestamp::now(), kind: EventKind::Truncated(gap) });
        }
        if replay.finished.is_some() {
            replay.plan.clear();
            replay.gathered.clear();
            self.replay = Some(replay);
        }
    }

    /// No more bytes will come again. Answers when it ended, if readers have seen that.
    pub(super) fn replay_end(&mut self) -> Option<Timestamp> {
        let finished = self.replay.as_ref().and_then(|replay| {
            let planned = replay.plan.back().and_then(|mark| match mark {
                Mark::Finished { time, .. } => Some(*time),
                _ => None,
            });
            replay.finished.or(planned)
        });
        if let Some(replay) = &mut self.replay {
            // The end gets its own number again, behind the gap.
            if let Some(Mark::Finished { .. }) = replay.plan.back() {
                replay.plan.pop_back();
            }
            self.replay_abandon();
            self.replay = None;
        }
        finished
    }

    /// Bytes are lost: the streams go on at these offsets.
    pub(super) fn lose(&mut self, after: [u64; 2]) {
        let after = [after[0].max(self.written[0]), after[1].max(self.written[1])];
        if after == self.written {
            return;
        }
        let Some(mut replay) = self.replay.take() else {
            self.seal();
            let [stdout_offset, stderr_offset] = after;
            let gap = Truncated { first_sequence: self.next_sequence, stdout_offset, stderr_offset };
            self.pass(&gap);
            self.append(Timestamp::now(), EventKind::Truncated(gap));
            return;
        };
        let (mut ends, mut numbers) = ([0, 1].map(|stream| self.written[stream].max(replay.skip[stream])), None);
        let mut begun = !replay.gathered.is_empty();
        self.dropped_bytes += replay.gathered.len() as u64;
        replay.gathered.clear();
        while let Some(mark) = replay.plan.front().copied() {
            match mark {
                Mark::Output { stream, offset, length, .. } if begun || offset < after[stream as usize] => {
                    // What is left of an event that was cut cannot be shown as that event.
                    ends[stream as usize] = ends[stream as usize].max(offset + length);
                }
                Mark::Output { .. } | Mark::Finished { .. } => break,
                Mark::Started { time, .. } => {
                    self.state = ExecutionState::Running;
                    self.started = Some(time);
                }
                Mark::Gap { gap, .. } => {
                    ends = [ends[0].max(gap.stdout_offset), ends[1].max(gap.stderr_offset)];
                }
            }
            begun = false;
            replay.plan.pop_front();
            let first = numbers.map_or(mark.first(), |(first, _)| first);
            numbers = Some((first, mark.last()));
        }
        for stream in 0..2 {
            replay.skip[stream] = replay.skip[stream].max(ends[stream]);
            self.dropped_bytes += after[stream] - self.written[stream];
        }
        self.written = after;
        // What was lost behind the last number that readers have seen gets one of its own; but behind the end, there is
        // none left.
        let more =
            replay.plan.is_empty() && replay.finished.is_none() && (0..2).any(|stream| after[stream] > ends[stream]);
        self.replay = Some(replay);
        let time = Timestamp::now();
        if let Some((first_sequence, sequence)) = numbers {
            let gap = Truncated { first_sequence, stdout_offset: ends[0], stderr_offset: ends[1] };
            self.append_at(Event { sequence, time, kind: EventKind::Truncated(gap) });
        }
        if more {
            let [stdout_offset, stderr_offset] = [after[0].max(ends[0]), after[1].max(ends[1])];
            let gap = Truncated { first_sequence: self.next_sequence, stdout_offset, stderr_offset };
            self.append(time, EventKind::Truncated(gap));
        }
        self.replay_on();
    }
}
