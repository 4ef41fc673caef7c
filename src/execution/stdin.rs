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
/// Bytes that may wait for a guest outside of the server: as much as is kept for it there.
pub const CAPACITY_OUTSIDE: usize = 1 << 20;

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
    outside: Option<Outside>,
}

/// Input that is kept outside of the server until the guest takes it: accepted is only what is there.
#[derive(Default)]
struct Outside {
    /// Where it stands there; not known before the first word from there.
    known: Option<Kept>,
    waiting: Vec<Waker>,
}

/// Where input stands that is kept outside of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Bytes that the guest has taken.
    pub taken: u64,
    /// Bytes that are there, those taken included.
    pub held: u64,
    /// Whether nothing more can be written.
    pub closed: bool,
}

impl Stdin {
    /// Input that begins with `initial`, which counts for no offset, goes on with `given`, which counts like
    /// what is written later, and is open for more if `open`.
    pub fn new(initial: Bytes, given: Bytes, open: bool) -> Self {
        let accepted = given.len() as u64;
        let pieces = [initial, given].into_iter().filter(|piece| !piece.is_empty()).collect();
        Stdin { inner: Mutex::new(Inner { pieces, waiting: 0, accepted, eof: !open, reader: None, outside: None }) }
    }

    /// Input of a guest outside of the server, as [`Stdin::new`].
    pub(super) fn outside(given: Bytes, open: bool) -> Self {
        let stdin = Stdin::new(Bytes::new(), given, open);
        stdin.inner.lock().outside = Some(Outside { known: Some(Kept::default()), waiting: Vec::new() });
        stdin
    }

    /// Input of a guest outside of the server that went on while there was none.
    pub(super) fn resumed() -> Self {
        let stdin = Stdin::new(Bytes::new(), Bytes::new(), true);
        stdin.inner.lock().outside = Some(Outside::default());
        stdin
    }

    /// Takes word from where the input is kept.
    pub fn confirm(&self, kept: Kept) {
        let mut inner = self.inner.lock();
        let Some(outside) = &mut inner.outside else { return };
        let first = outside.known.replace(kept).is_none();
        outside.waiting.drain(..).for_each(Waker::wake);
        if first {
            inner.accepted = inner.accepted.max(kept.held);
            inner.eof |= kept.closed;
        }
    }

    /// Waits until it is known how much was accepted.
    pub async fn ready(&self) {
        self.until(|_| true).await;
    }

    /// Waits until what was accepted is where it outlives the server, if this input is kept outside.
    pub async fn held(&self, accepted: u64, eof: bool) {
        self.until(|kept| kept.held >= accepted && (!eof || kept.closed)).await;
    }

    /// Waits until the guest has taken more, or takes no more.
    pub async fn taken_more(&self) {
        let before = self.inner.lock().outside.as_ref().and_then(|outside| outside.known).map_or(0, |kept| kept.taken);
        self.until(|kept| kept.taken > before || kept.closed).await;
    }

    async fn until(&self, enough: impl Fn(Kept) -> bool) {
        std::future::poll_fn(|cx| {
            let mut inner = self.inner.lock();
            match &mut inner.outside {
                Some(outside) if !outside.known.is_some_and(&enough) => {
                    outside.waiting.push(cx.waker().clone());
                    Poll::Pending
                }
                _ => Poll::Ready(()),
            }
        })
        .await;
    }

    /// Input that is over, with so many bytes accepted.
    pub(super) fn over(accepted: u64) -> Self {
        let stdin = Stdin::new(Bytes::new(), Bytes::new(), false);
        stdin.inner.lock().accepted = accepted;
        stdin
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
            if let Some(outside) = &inner.outside {
                let waiting = inner.accepted.saturating_sub(outside.known.map_or(0, |kept| kept.taken));
                if waiting + data.len() as u64 > CAPACITY_OUTSIDE as u64 {
                    return Err(Error::StdinFull { id, capacity: CAPACITY_OUTSIDE as u64 });
                }
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
        if let Some(mut outside) = inner.outside.take() {
            outside.waiting.drain(..).for_each(Waker::wake);
        }
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

    #[tokio::test]
    async fn input_outside_is_accepted_when_it_is_there() {
        let (stdin, id) = (Stdin::outside(Bytes::from_static(b"ab"), true), ExecutionId::new());
        let piece = Bytes::from(vec![0; CAPACITY_OUTSIDE - 2]);
        let end = stdin.write(id, 2, piece, false).unwrap();
        assert!(matches!(stdin.write(id, end, Bytes::from_static(b"x"), false), Err(Error::StdinFull { .. })));
        let mut held = std::pin::pin!(stdin.held(end, false));
        assert!(tokio::time::timeout(std::time::Duration::ZERO, &mut held).await.is_err());
        stdin.confirm(Kept { taken: 2, held: end, closed: false });
        held.await;
        stdin.write(id, end, Bytes::from_static(b"x"), false).unwrap();
        // After a crash it stands where it is kept, not where it was accepted.
        let stdin = Stdin::resumed();
        assert!(tokio::time::timeout(std::time::Duration::ZERO, stdin.ready()).await.is_err());
        stdin.confirm(Kept { taken: 2, held: end, closed: true });
        stdin.ready().await;
        assert_eq!(stdin.offset(), end);
        assert!(matches!(stdin.write(id, end, Bytes::from_static(b"x"), false), Err(Error::StdinClosed { .. })));
        // The end of the execution is the end of all waiting.
        let stdin = Stdin::resumed();
        stdin.close();
        stdin.ready().await;
        stdin.held(9, true).await;
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
