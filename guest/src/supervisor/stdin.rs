//! Standard input on its way to a process.

use std::collections::VecDeque;

/// Bytes that wait at most.
pub const LIMIT: usize = 1 << 20;

/// Input that the process has not taken yet.
#[derive(Debug, Default)]
pub struct Input {
    waiting: VecDeque<u8>,
    /// Bytes taken, or thrown away.
    taken: u64,
    /// The end was said.
    eof: bool,
    /// Nobody reads any more.
    closed: bool,
}

impl Input {
    /// Takes bytes at an offset; what it has of them already is skipped.
    ///
    /// # Errors
    /// In words: bytes are missing before them, they are too many, or the end was said before.
    pub fn offer(&mut self, offset: u64, bytes: &[u8], eof: bool) -> Result<(), String> {
        let have = self.held();
        let Some(skipped) = have.checked_sub(offset) else {
            return Err(format!("input at {offset}, but it is known up to {have} only"));
        };
        let new = usize::try_from(skipped).ok().and_then(|skipped| bytes.get(skipped..)).unwrap_or_default();
        if self.closed {
            self.taken += new.len() as u64;
            return Ok(());
        }
        if self.eof && !new.is_empty() {
            return Err(format!("input behind its end at {have}"));
        }
        if self.waiting.len() + new.len() > LIMIT {
            return Err(format!("more than {LIMIT} bytes of input wait to be read"));
        }
        self.waiting.extend(new);
        // An end that was said before bytes which are here already is no end of those.
        self.eof |= eof && offset + bytes.len() as u64 >= have;
        Ok(())
    }

    /// What is to be written next; empty if nothing is.
    pub fn next(&self) -> &[u8] {
        self.waiting.as_slices().0
    }

    /// So many of the next bytes were written.
    pub fn wrote(&mut self, length: usize) {
        self.waiting.drain(..length.min(self.waiting.len()));
        self.taken += length as u64;
        if self.waiting.is_empty() {
            // Most processes get their input once, if any.
            self.waiting = VecDeque::new();
        }
    }

    /// Nobody reads any more: what waits is thrown away, as is all that comes.
    pub fn close(&mut self) {
        self.taken += self.waiting.len() as u64;
        self.waiting = VecDeque::new();
        self.closed = true;
    }

    /// Bytes taken so far, or thrown away.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Bytes taken so far, and those that wait.
    pub fn held(&self) -> u64 {
        self.taken + self.waiting.len() as u64
    }

    /// Whether all was written and the end was said.
    pub fn finished(&self) -> bool {
        self.eof && self.waiting.is_empty()
    }

    /// Whether nothing more can be written: the end was said, or nobody reads.
    pub fn is_closed(&self) -> bool {
        self.closed || self.eof
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_taken_once() {
        let mut input = Input::default();
        input.offer(0, b"abc", false).unwrap();
        input.wrote(2);
        input.offer(0, b"abcde", false).unwrap();
        input.offer(1, b"b", false).unwrap();
        assert_eq!(input.next(), b"cde");
        assert!(input.offer(6, b"x", false).unwrap_err().contains("up to 5"));
        assert!(input.offer(5, &vec![0; LIMIT], false).unwrap_err().contains("wait"));
        input.offer(5, b"", true).unwrap();
        assert!(input.offer(5, b"x", false).unwrap_err().contains("end"));
        input.offer(2, b"cde", true).unwrap();
        input.wrote(3);
        assert!(input.finished());
    }

    #[test]
    fn what_nobody_reads_is_thrown_away() {
        let mut input = Input::default();
        input.offer(0, b"abc", false).unwrap();
        input.close();
        input.offer(3, b"def", true).unwrap();
        assert_eq!((input.taken(), input.held(), input.is_closed()), (6, 6, true));
    }
}
