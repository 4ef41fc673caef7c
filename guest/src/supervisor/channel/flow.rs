//! What waits on a channel in either direction, within what was granted.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use casemate_guest::protocol::{Failure, FromGuest, WINDOW};

/// Bytes of a piece of what came at least: many messages may be very short.
const LEAST: usize = 4 << 10;
/// Bytes of one message at most.
pub const PIECE: usize = 64 << 10;

/// Both directions of a channel.
#[derive(Debug)]
pub struct Flow {
    /// Bytes that came and were not taken yet, in pieces: one large buffer would come from the kernel anew each time.
    incoming: VecDeque<BytesMut>,
    /// Bytes that the server may still send.
    granted: u64,
    /// Bytes that were taken since the server was granted some.
    taken: u64,
    /// The server has no more.
    ended: bool,
    /// Bytes that may be sent.
    credit: u64,
    /// What is to be said, with its payload.
    outgoing: VecDeque<(FromGuest, Bytes)>,
    /// Bytes of payload in it.
    waiting: usize,
}

impl Flow {
    /// A new one; whether the server may send anything.
    pub fn new(takes: bool) -> Self {
        Self {
            incoming: VecDeque::new(),
            granted: if takes { WINDOW } else { 0 },
            taken: 0,
            ended: false,
            credit: WINDOW,
            outgoing: VecDeque::new(),
            waiting: 0,
        }
    }

    /// Takes bytes from the server. They are copied: a few of them would else keep a whole buffer of the connection.
    ///
    /// # Errors
    /// More than were granted, or behind the end.
    pub fn offer(&mut self, mut bytes: &[u8]) -> Result<(), Failure> {
        let left = self.granted.checked_sub(bytes.len() as u64).filter(|_| !self.ended);
        self.granted = left.ok_or(Failure::Credit)?;
        while !bytes.is_empty() {
            let room = self.incoming.back().map_or(0, |last| last.capacity() - last.len());
            if room == 0 {
                self.incoming.push_back(BytesMut::with_capacity(bytes.len().clamp(LEAST, PIECE)));
                continue;
            }
            let (fits, rest) = bytes.split_at(room.min(bytes.len()));
            if let Some(last) = self.incoming.back_mut() {
                last.extend_from_slice(fits);
            }
            bytes = rest;
        }
        Ok(())
    }

    /// The server has no more.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// The next bytes; no bytes if none are there yet, none at the end.
    pub fn take(&mut self) -> Option<Bytes> {
        match self.incoming.pop_front() {
            Some(piece) => {
                self.taken += piece.len() as u64;
                Some(piece.freeze())
            }
            None if self.ended => None,
            None => Some(Bytes::new()),
        }
    }

    /// Bytes that the server is to be granted now, if it is worth while.
    pub fn grant(&mut self) -> Option<u64> {
        if self.taken < WINDOW / 4 || self.ended {
            return None;
        }
        self.granted += self.taken;
        Some(std::mem::take(&mut self.taken))
    }

    /// The server grants more.
    pub fn more(&mut self, credit: u64) {
        self.credit = self.credit.saturating_add(credit);
    }

    /// Bytes that may be sent at once now.
    pub fn room(&self) -> usize {
        // About one piece at a time: with many channels, more would be a good deal of memory.
        if self.waiting >= PIECE { 0 } else { usize::try_from(self.credit).unwrap_or(PIECE).min(PIECE) }
    }

    /// Puts a message behind the others. Its payload was granted.
    pub fn say(&mut self, message: FromGuest, payload: Bytes) {
        self.credit = self.credit.saturating_sub(payload.len() as u64);
        self.waiting += payload.len();
        self.outgoing.push_back((message, payload));
    }

    /// The next message.
    pub fn next(&mut self) -> Option<(FromGuest, Bytes)> {
        let next = self.outgoing.pop_front()?;
        self.waiting -= next.1.len();
        Some(next)
    }

    /// Forgets what came: nobody wants it any more.
    pub fn close(&mut self) {
        self.incoming = VecDeque::new();
        self.granted = 0;
    }

    /// Forgets what came and what waits.
    pub fn clear(&mut self) {
        self.close();
        self.outgoing.clear();
        self.waiting = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_server_that_keeps_to_its_credit_is_never_stuck_nor_refused(
            pieces in proptest::collection::vec(0usize..100_000, 1..80),
        ) {
            let (mut flow, mut credit, mut expected, mut found) = (Flow::new(true), WINDOW, 0u64, 0u64);
            for mut piece in pieces {
                expected += piece as u64;
                while piece > 0 {
                    let now = piece.min(usize::try_from(credit).unwrap());
                    flow.offer(&vec![1; now]).unwrap();
                    credit -= now as u64;
                    piece -= now;
                    prop_assert!(flow.incoming.iter().map(|piece| piece.len() as u64).sum::<u64>() <= WINDOW);
                    if piece > 0 {
                        while let Some(bytes) = flow.take().filter(|bytes| !bytes.is_empty()) {
                            found += bytes.len() as u64;
                            credit += flow.grant().unwrap_or_default();
                        }
                        prop_assert!(credit > 0);
                    }
                }
            }
            flow.end();
            while let Some(bytes) = flow.take() {
                found += bytes.len() as u64;
            }
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn credit_is_kept_to_the_byte() {
        let mut flow = Flow::new(true);
        assert_eq!(flow.offer(&vec![0; WINDOW as usize]), Ok(()));
        assert_eq!(flow.offer(&[0]), Err(Failure::Credit));
        assert_eq!(Flow::new(false).offer(&[0]), Err(Failure::Credit));
        let mut flow = Flow::new(true);
        flow.end();
        assert_eq!(flow.offer(&[0]), Err(Failure::Credit));
        assert_eq!(flow.take(), None);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut flow = Flow::new(false);
        flow.more(u64::MAX);
        while flow.room() > 0 {
            let payload = vec![0; flow.room()].into();
            flow.say(FromGuest::Data { channel: 2 }, payload);
        }
        assert_eq!(flow.waiting, PIECE);
        let mut flow = Flow::new(false);
        for _ in 0..4 {
            flow.say(FromGuest::Data { channel: 2 }, vec![0; flow.room()].into());
            flow.next().unwrap();
        }
        assert_eq!(flow.room(), 0);
        flow.more(5);
        assert_eq!(flow.room(), 5);
    }
}
