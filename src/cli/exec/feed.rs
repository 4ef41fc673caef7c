//! Standard input on its way to a process: what is read and not known to be taken in is kept, to be sent again.

use crate::proto::v1::ExecStdin;
use bytes::Bytes;
use std::collections::VecDeque;

/// Bytes that are kept at most: beyond, no more is read.
const WINDOW: u64 = 1 << 20;

/// Input with the offsets of the process's whole standard input.
#[derive(Default)]
pub struct Feed {
    /// Offset of the first byte that is not known to be taken in. None until the server has told.
    base: Option<u64>,
    pieces: VecDeque<Bytes>,
    /// Pieces that this stream has sent.
    sent: usize,
    /// Nothing follows.
    over: bool,
    over_sent: bool,
    /// The server was asked on this stream how much it has.
    asked: bool,
    /// The server takes no more.
    closed: bool,
}

impl Feed {
    /// Input of a process that is new: it begins with the first byte.
    pub fn fresh() -> Feed {
        Feed { base: Some(0), ..Feed::default() }
    }

    /// Input of a process that may have had some before.
    pub fn joining() -> Feed {
        Feed::default()
    }

    /// The end of input, and none before it.
    pub fn empty() -> Feed {
        Feed { over: true, ..Feed::fresh() }
    }

    /// No input, and no end of it: that is for others to give.
    pub fn none() -> Feed {
        Feed { closed: true, ..Feed::fresh() }
    }

    /// Whether there is room for more.
    pub fn hungry(&self) -> bool {
        let kept: u64 = self.pieces.iter().map(|piece| piece.len() as u64).sum();
        self.base.is_some() && !self.over && !self.closed && kept < WINDOW
    }

    /// More input.
    pub fn push(&mut self, data: Bytes) {
        if !data.is_empty() && !self.closed {
            self.pieces.push_back(data);
        }
    }

    /// Nothing follows.
    pub fn end(&mut self) {
        self.over = true;
    }

    /// Whether all there is was taken in.
    pub fn is_done(&self) -> bool {
        self.closed || self.pieces.is_empty()
    }

    /// Whether there is something to send.
    pub fn due(&self) -> bool {
        match (self.closed, self.base) {
            (true, _) => false,
            (false, None) => !self.asked,
            (false, Some(_)) => self.sent < self.pieces.len() || (self.over && !self.over_sent) || !self.asked,
        }
    }

    /// What to send next.
    pub fn next(&mut self) -> ExecStdin {
        self.asked = true;
        let Some(base) = self.base else { return ExecStdin::default() };
        let before: u64 = self.pieces.iter().take(self.sent).map(|piece| piece.len() as u64).sum();
        let data = self.pieces.get(self.sent).cloned();
        self.sent += usize::from(data.is_some());
        // The end is told with an offset too: it must not overtake what gets lost before it.
        let eof = self.over && self.sent == self.pieces.len();
        self.over_sent |= eof;
        ExecStdin { offset: Some(base + before), data: data.unwrap_or_default(), eof }
    }

    /// The server has all before this offset.
    pub fn accepted(&mut self, offset: u64, closed: bool) {
        self.closed |= closed;
        let Some(mut base) = self.base else {
            self.base = Some(offset);
            return;
        };
        while let Some(first) = self.pieces.front_mut() {
            let known = offset.saturating_sub(base);
            if known < first.len() as u64 {
                if self.sent == 0 {
                    // Part of what is sent again was there already.
                    let _ = first.split_to(usize::try_from(known).unwrap_or_default());
                    base = base.max(offset);
                }
                break;
            }
            base += first.len() as u64;
            self.pieces.pop_front();
            self.sent = self.sent.saturating_sub(1);
        }
        // Somebody else feeds it as well.
        if self.pieces.is_empty() {
            base = base.max(offset);
        }
        self.base = Some(base);
        if self.closed {
            self.pieces.clear();
            self.sent = 0;
        }
    }

    /// What was sent may not have arrived: a new stream begins.
    pub fn again(&mut self) {
        (self.sent, self.over_sent, self.asked) = (0, false, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn sent(feed: &mut Feed) -> Vec<(Option<u64>, Bytes, bool)> {
        let mut sent = Vec::new();
        while feed.due() {
            let next = feed.next();
            sent.push((next.offset, next.data, next.eof));
        }
        sent
    }

    #[test]
    fn what_was_not_taken_in_is_sent_again() {
        let mut feed = Feed::fresh();
        feed.push(piece("abc"));
        feed.push(piece("de"));
        assert_eq!(sent(&mut feed), [(Some(0), piece("abc"), false), (Some(3), piece("de"), false)]);
        feed.accepted(3, false);
        feed.push(piece("f"));
        feed.again();
        feed.end();
        assert_eq!(sent(&mut feed), [(Some(3), piece("de"), false), (Some(5), piece("f"), true)]);
        feed.again();
        feed.accepted(4, false);
        assert_eq!(sent(&mut feed), [(Some(4), piece("e"), false), (Some(5), piece("f"), true)]);
        feed.accepted(6, true);
        assert!(feed.is_done() && !feed.due() && !feed.hungry());
    }

    #[test]
    fn a_joining_sender_asks_where_to_go_on() {
        let mut feed = Feed::joining();
        assert!(!feed.hungry());
        assert_eq!(sent(&mut feed), [(None, Bytes::new(), false)]);
        feed.accepted(7, false);
        feed.push(piece("x"));
        assert_eq!(sent(&mut feed), [(Some(7), piece("x"), false)]);
        // Each new stream asks, so that it is known when input arrives again.
        feed.accepted(8, false);
        feed.again();
        assert_eq!(sent(&mut feed), [(Some(8), Bytes::new(), false)]);
    }

    #[test]
    fn the_end_alone_is_sent_once_on_each_stream() {
        let mut feed = Feed::empty();
        assert_eq!(sent(&mut feed), [(Some(0), Bytes::new(), true)]);
        feed.again();
        assert_eq!(sent(&mut feed), [(Some(0), Bytes::new(), true)]);
        feed.accepted(0, true);
        feed.again();
        assert_eq!(sent(&mut feed), []);
        assert_eq!(sent(&mut Feed::none()), []);
    }

    #[test]
    fn a_process_that_does_not_read_is_not_read_for() {
        let mut feed = Feed::fresh();
        feed.push(Bytes::from(vec![0; WINDOW as usize]));
        assert!(!feed.hungry());
        feed.accepted(1, false);
        feed.accepted(WINDOW, false);
        assert!(feed.hungry());
    }
}
