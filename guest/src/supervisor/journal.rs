//! What a process wrote, in one order over both streams, within bounds.

use std::collections::VecDeque;

use casemate_guest::protocol::Stream;

/// Bytes that a change of the stream costs beyond the bytes themselves.
const RUN: usize = 16;

/// A place in the output: the position over both streams, and the offset in each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Bytes of both streams before it.
    pub position: u64,
    /// Bytes of either stream before it.
    pub offsets: [u64; 2],
}

impl Place {
    fn advance(&mut self, stream: Stream, length: u64) {
        self.position += length;
        self.offsets[index(stream)] += length;
    }
}

const fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

/// What comes next for a reader.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes of one stream.
    Output(Stream, &'a [u8]),
    /// Bytes of either stream that are gone.
    Truncated([u64; 2]),
}

/// A stretch of output without gaps.
#[derive(Debug, Default)]
struct Stretch {
    start: Place,
    end: Place,
    bytes: VecDeque<u8>,
    /// The stream of each run of bytes, and the position where it ends.
    runs: VecDeque<(Stream, u64)>,
}

impl Stretch {
    fn starting(start: Place) -> Self {
        Self { start, end: start, ..Self::default() }
    }

    /// What it takes. The first run is free, so that output to one stream is kept to the last byte of the bounds.
    fn cost(&self) -> usize {
        self.bytes.len() + RUN * self.runs.len().saturating_sub(1)
    }

    fn append(&mut self, stream: Stream, bytes: &[u8]) {
        self.bytes.extend(bytes);
        self.end.advance(stream, bytes.len() as u64);
        match self.runs.back_mut() {
            Some((last, end)) if *last == stream => *end = self.end.position,
            _ => self.runs.push_back((stream, self.end.position)),
        }
    }

    /// Drops from the front until it takes no more than `limit`.
    fn cut(&mut self, limit: usize) {
        while self.cost() > limit {
            let excess = self.cost() - limit;
            let Some(&(stream, end)) = self.runs.front() else { return };
            let run = (end - self.start.position) as usize;
            let dropped = excess.min(run);
            self.start.advance(stream, dropped as u64);
            self.bytes.drain(..dropped);
            if dropped == run {
                self.runs.pop_front();
            }
        }
    }

    /// The stream of the byte at a position, and where its run ends.
    fn run_at(&self, position: u64) -> Option<(Stream, u64)> {
        let within = (self.start.position..self.end.position).contains(&position);
        within.then(|| self.runs.get(self.runs.partition_point(|(_, end)| *end <= position)).copied()).flatten()
    }

    /// The place at a position that is within.
    fn place(&self, position: u64) -> Option<Place> {
        self.run_at(position)?;
        let mut place = self.start;
        for &(stream, end) in &self.runs {
            place.advance(stream, end.min(position) - place.position);
            if place.position == position {
                break;
            }
        }
        Some(place)
    }

    fn slice(&self, start: usize, length: usize) -> &[u8] {
        let (front, back) = self.bytes.as_slices();
        let slice = front.get(start..).filter(|rest| !rest.is_empty());
        let slice = slice.unwrap_or_else(|| back.get(start.saturating_sub(front.len())..).unwrap_or_default());
        &slice[..slice.len().min(length)]
    }
}

/// The output of a process: a quarter of the bounds from its beginning, the rest from its end.
#[derive(Debug, Default)]
pub struct Journal {
    limit: usize,
    head: Stretch,
    /// Begins where the head ends, until something had to be dropped.
    tail: Stretch,
    /// The head takes no more.
    full: bool,
}

impl Journal {
    /// An empty one that keeps so many bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Where it ends.
    pub fn end(&self) -> Place {
        if self.full { self.tail.end } else { self.head.end }
    }

    /// Bytes that it keeps.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Appends output.
    pub fn append(&mut self, stream: Stream, mut bytes: &[u8]) {
        let quarter = self.limit / 4;
        if !self.full {
            let changes = self.head.runs.back().is_some_and(|(last, _)| *last != stream);
            let room = quarter.saturating_sub(self.head.cost() + if changes { RUN } else { 0 });
            let (fits, rest) = bytes.split_at(room.min(bytes.len()));
            if !fits.is_empty() {
                self.head.append(stream, fits);
            }
            if rest.is_empty() {
                return;
            }
            self.full = true;
            self.tail = Stretch::starting(self.head.end);
            bytes = rest;
        }
        // In pieces, so that a long write does not take more than the bounds on its way.
        for piece in bytes.chunks(64 << 10) {
            self.tail.append(stream, piece);
            self.tail.cut(self.limit - quarter);
        }
    }

    /// The place at a position; none beyond the end.
    ///
    /// Within what was dropped the offsets are a guess, in proportion: which stream a byte was of is gone with it.
    pub fn place(&self, position: u64) -> Option<Place> {
        let end = self.end();
        if position >= end.position {
            return (position == end.position).then_some(end);
        }
        for stretch in [&self.head, &self.tail] {
            if let Some(place) = stretch.place(position) {
                return Some(place);
            }
        }
        let (from, to) = (self.head.end, self.tail.start);
        let (gap, stdout) = (to.position - from.position, to.offsets[0] - from.offsets[0]);
        let before = position - from.position;
        let first = u64::try_from(u128::from(before) * u128::from(stdout) / u128::from(gap.max(1))).unwrap_or(stdout);
        // Neither stream may have lost more than it had.
        let first = first.clamp(before.saturating_sub(gap - stdout), stdout.min(before));
        Some(Place { position, offsets: [from.offsets[0] + first, from.offsets[1] + (before - first)] })
    }

    /// What comes next at a place, at most so many bytes; none at the end.
    pub fn next(&self, at: Place, most: usize) -> Option<Piece<'_>> {
        if at.position >= self.end().position {
            return None;
        }
        for stretch in [&self.head, &self.tail] {
            let Some((stream, end)) = stretch.run_at(at.position) else { continue };
            let within = (at.position - stretch.start.position) as usize;
            let left = (end - at.position) as usize;
            return Some(Piece::Output(stream, stretch.slice(within, left.min(most))));
        }
        let to = self.tail.start.offsets;
        Some(Piece::Truncated([0, 1].map(|stream| to[stream].saturating_sub(at.offsets[stream]))))
    }
}

/// Moves a reader's place behind a piece.
pub fn pass(place: &mut Place, piece: &Piece<'_>) {
    match piece {
        Piece::Output(stream, bytes) => place.advance(*stream, bytes.len() as u64),
        Piece::Truncated([stdout, stderr]) => {
            place.advance(Stream::Stdout, *stdout);
            place.advance(Stream::Stderr, *stderr);
        }
    }
}

/// Where a stream is at a place.
pub const fn offset(place: &Place, stream: Stream) -> u64 {
    place.offsets[index(stream)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write(Stream, usize),
        Read(usize),
        Attach(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let stream = prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)];
        prop_oneof![
            (stream, 1usize..300).prop_map(|(stream, length)| Step::Write(stream, length)),
            (1usize..200).prop_map(Step::Read),
            (0usize..1000).prop_map(Step::Attach),
        ]
    }

    /// Checks one piece against all that was written, and passes it.
    fn check(journal: &Journal, all: &[(Stream, u8)], place: &mut Place, most: usize) -> bool {
        let Some(piece) = journal.next(*place, most) else {
            assert_eq!(place.position as usize, all.len());
            return false;
        };
        let from = place.position as usize;
        match &piece {
            Piece::Output(stream, bytes) => {
                assert!(!bytes.is_empty() && bytes.len() <= most);
                let before = all[..from].iter().filter(|(of, _)| of == stream).count() as u64;
                assert_eq!(offset(place, *stream), before);
                let expected: Vec<_> = bytes.iter().map(|byte| (*stream, *byte)).collect();
                assert_eq!(&all[from..from + bytes.len()], &expected[..]);
            }
            Piece::Truncated(lost) => {
                assert!(lost[0] + lost[1] > 0);
                assert!(all.len() > journal.limit() / 4 + 1, "nothing had to be dropped");
            }
        }
        pass(place, &piece);
        true
    }

    proptest! {
        #[test]
        fn all_bytes_in_order_or_an_explicit_truncation(
            limit in 64usize..2000,
            steps in proptest::collection::vec(step(), 1..120),
        ) {
            let (mut journal, mut all, mut place) = (Journal::new(limit), Vec::new(), Place::default());
            let mut number = 0u8;
            for step in steps {
                match step {
                    Step::Write(stream, length) => {
                        let bytes: Vec<u8> = (0..length).map(|_| { number = number.wrapping_add(1); number }).collect();
                        all.extend(bytes.iter().map(|byte| (stream, *byte)));
                        journal.append(stream, &bytes);
                    }
                    Step::Read(most) => {
                        check(&journal, &all, &mut place, most);
                    }
                    Step::Attach(part) => {
                        place = journal.place((all.len() * part / 1000) as u64).unwrap();
                    }
                }
                prop_assert!(journal.head.cost() + journal.tail.cost() <= limit);
                prop_assert_eq!(journal.end().position, all.len() as u64);
            }
            while check(&journal, &all, &mut place, 100) {}
            prop_assert_eq!(place, journal.end());
            prop_assert_eq!(journal.place(all.len() as u64 + 1), None);
        }

        #[test]
        fn what_fits_is_kept_whole(limit in 100usize..3000, share in 0usize..=100) {
            let mut journal = Journal::new(limit);
            let bytes: Vec<u8> = (0..limit * share / 100).map(|number| number as u8).collect();
            bytes.chunks(7).for_each(|chunk| journal.append(Stream::Stdout, chunk));
            let (mut place, mut found) = (Place::default(), Vec::new());
            while let Some(piece) = journal.next(place, 50) {
                let Piece::Output(_, bytes) = &piece else { panic!("{piece:?}") };
                found.extend_from_slice(bytes);
                pass(&mut place, &piece);
            }
            prop_assert_eq!(found, bytes);
        }
    }
}
