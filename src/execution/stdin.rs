//! Standard input of one execution: what it begins with, then what callers append by offset.

use crate::domain::id::ExecutionId;
use crate::domain::io::InputRead;
use crate::error::{Error, Result};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

/// Bytes that may wait for a guest that does not read.
pub const CAPACITY: usize = 4 << 20;

/// Standard input.
pub struct Stdin {
    inner: Mutex<Inner>,
}

struct Inner {
    pieces: VecDeque<Bytes>,
    /// Bytes from callers that wait; what came with the call does not count.
    waiting: usize,
    accepted: u64,
    eof: bool,
    reader: Option<Waker>,
}

impl Stdin {
    /// Input that begins with `initial`, which counts for no offset, goes on with `given`, which counts like
    /// what is written later, and is open for more if `open`.
    pub fn new(initial: Bytes, given: Bytes, open: bool) -> Self {
        let accepted = given.len() as u64;
        let pieces = [initial, given].into_iter().filter(|piece| !piece.is_empty()).collect();
        Stdin { inner: Mutex::new(Inner { pieces, waiting: 0, accepted, eof: !open, reader: None }) }
    }

    /// Input that is over, with so many bytes accepted.
    pub(super) fn over(accepted: u64) -> Self {
        Stdin { inner: Mutex::new(Inner { pieces: VecDeque::new(), waiting: 0, accepted, eof: true, reader: None }) }
    }

    /// Appends `data`, whose first byte has this offset, and closes the input if `eof`. What was accepted
    /// before is skipped. Answers the bytes accepted so far.
    pub fn write(&self, id: ExecutionId, offset: u64, mut data: Bytes, eof: bool) -> Result<u64> {
        let mut inner = self.inner.lock();
        if offset > inner.accepted {
            return Err(Error::StdinGap { id, offset, expected: inner.accepted });
        }
        let known = usize::try_from(inner.accepted - offset).unwrap_or(usize::MAX).min(data.len());
        let data = data.split_off(known);
        if !data.is_empty() {
            if inner.eof {
                return Err(Error::StdinClosed { id });
            }
            // A single piece always fits an empty buffer, whatever its size.
            if inner.waiting > 0 && inner.waiting + data.len() > CAPACITY {
                return Err(Error::StdinFull { id, capacity: CAPACITY as u64 });
            }
            inner.accepted += data.len() as u64;
            inner.waiting += data.len();
            inner.pieces.push_back(data);
        }
        inner.eof |= eof;
        if let Some(reader) = inner.reader.take() {
            reader.wake();
        }
        Ok(inner.accepted)
    }

    /// Ends the input and forgets what nobody will read any more.
    pub fn close(&self) {
        let mut inner = self.inner.lock();
        inner.eof = true;
        inner.pieces.clear();
        inner.waiting = 0;
        inner.reader = None;
    }

    /// Bytes accepted so far.
    pub fn offset(&self) -> u64 {
        self.inner.lock().accepted
    }

    /// Up to `max` bytes.
    pub fn read(&self, max: usize) -> InputRead {
        let mut inner = self.inner.lock();
        let Some(front) = inner.pieces.front_mut() else {
            return if inner.eof { InputRead::Eof } else { InputRead::Pending };
        };
        let piece = if front.len() <= max { inner.pieces.pop_front().unwrap_or_default() } else { front.split_to(max) };
        inner.waiting = inner.waiting.saturating_sub(piece.len());
        InputRead::Data(piece)
    }

    /// Ready when `read` has an answer.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.inner.lock();
        if !inner.pieces.is_empty() || inner.eof {
            return Poll::Ready(());
        }
        inner.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(stdin: &Stdin) -> Vec<u8> {
        let mut all = Vec::new();
        while let InputRead::Data(piece) = stdin.read(3) {
            all.extend_from_slice(&piece);
        }
        all
    }

    #[test]
    fn repeated_and_overlapping_writes_deliver_each_byte_once() {
        let (stdin, id) = (Stdin::new(Bytes::from_static(b"{}\n"), Bytes::new(), true), ExecutionId::new());
        assert_eq!(stdin.write(id, 0, Bytes::from_static(b"abc"), false).unwrap(), 3);
        assert_eq!(stdin.write(id, 0, Bytes::from_static(b"abc"), false).unwrap(), 3);
        assert_eq!(stdin.write(id, 1, Bytes::from_static(b"bcde"), true).unwrap(), 5);
        assert_eq!(stdin.write(id, 3, Bytes::from_static(b"de"), true).unwrap(), 5);
        assert_eq!(read_all(&stdin), b"{}\nabcde");
        assert_eq!(stdin.read(1), InputRead::Eof);
    }

    #[test]
    fn what_came_with_the_call_counts_for_offsets_and_the_parameters_do_not() {
        let id = ExecutionId::new();
        let stdin = Stdin::new(Bytes::from_static(b"{}\n"), Bytes::from_static(b"abc"), true);
        assert_eq!(stdin.offset(), 3);
        assert_eq!(stdin.write(id, 1, Bytes::from_static(b"bcd"), true).unwrap(), 4);
        assert_eq!(read_all(&stdin), b"{}\nabcd");
    }

    #[test]
    fn a_gap_names_the_offset_to_resume_from() {
        let (stdin, id) = (Stdin::new(Bytes::new(), Bytes::new(), true), ExecutionId::new());
        stdin.write(id, 0, Bytes::from_static(b"ab"), false).unwrap();
        assert!(matches!(
            stdin.write(id, 5, Bytes::from_static(b"x"), false),
            Err(Error::StdinGap { offset: 5, expected: 2, .. })
        ));
    }

    #[test]
    fn a_closed_input_takes_repetitions_only() {
        let (stdin, id) = (Stdin::new(Bytes::new(), Bytes::new(), true), ExecutionId::new());
        stdin.write(id, 0, Bytes::from_static(b"ab"), true).unwrap();
        assert_eq!(stdin.write(id, 0, Bytes::from_static(b"ab"), true).unwrap(), 2);
        assert!(matches!(stdin.write(id, 2, Bytes::from_static(b"c"), false), Err(Error::StdinClosed { .. })));
    }

    #[test]
    fn a_guest_that_does_not_read_fills_the_buffer() {
        let (stdin, id) = (Stdin::new(Bytes::new(), Bytes::new(), true), ExecutionId::new());
        let piece = Bytes::from(vec![0; CAPACITY]);
        let at = stdin.write(id, 0, piece, false).unwrap();
        assert!(matches!(stdin.write(id, at, Bytes::from_static(b"x"), false), Err(Error::StdinFull { .. })));
        assert!(matches!(stdin.read(10), InputRead::Data(_)));
        assert_eq!(stdin.write(id, at, Bytes::from_static(b"x"), false).unwrap(), at + 1);
    }
}
