//! The terminal that a command runs in: raw for as long as its keys are for a process elsewhere.

use crate::proto::v1::TerminalSize;
use rustix::termios::{self, OptionalActions, Termios};
use std::io;
use std::task::Poll;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// ctrl-p and ctrl-q: leave, and leave it running.
const DETACH: [u8; 2] = [0x10, 0x11];
/// Where nobody looks, or the terminal does not tell.
const USUAL: TerminalSize = TerminalSize { columns: 80, rows: 24 };

/// Standard input as raw bytes, until this is dropped: whichever way that comes to pass.
pub struct Raw {
    before: Termios,
}

impl Raw {
    pub fn enter() -> io::Result<Raw> {
        let before = termios::tcgetattr(io::stdin())?;
        let raw = Raw { before };
        raw.again()?;
        Ok(raw)
    }

    /// Raw once more: whoever stopped this command meanwhile left the terminal as they like it.
    pub fn again(&self) -> io::Result<()> {
        let mut raw = self.before.clone();
        raw.make_raw();
        Ok(termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw)?)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing restored.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Columns and rows of the terminal that standard input is.
pub fn size() -> TerminalSize {
    let size = termios::tcgetwinsize(io::stdin()).ok();
    match size.filter(|size| size.ws_col > 0 && size.ws_row > 0) {
        Some(size) => TerminalSize { columns: size.ws_col.into(), rows: size.ws_row.into() },
        None => USUAL,
    }
}

/// Looks for the keys that detach.
#[derive(Default)]
pub struct Keys {
    /// How many of them came last, and are held back.
    held: usize,
}

impl Keys {
    /// The bytes that are for the process, and whether the keys came: what follows them is for nobody.
    pub fn sift(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(typed.len() + DETACH.len());
        for byte in typed {
            if *byte == DETACH[self.held] {
                self.held += 1;
                if self.held == DETACH.len() {
                    self.held = 0;
                    return (passed, true);
                }
                continue;
            }
            passed.extend_from_slice(&DETACH[..std::mem::take(&mut self.held)]);
            match *byte == DETACH[0] {
                true => self.held = 1,
                false => passed.push(*byte),
            }
        }
        (passed, false)
    }
}

/// Signals that this command does not die from.
#[derive(Default)]
pub struct Signals {
    streams: Vec<(SignalKind, Signal)>,
}

impl Signals {
    /// Takes these over from now on.
    pub fn take(&mut self, kinds: &[SignalKind]) -> io::Result<()> {
        for kind in kinds {
            if self.streams.iter().all(|(taken, _)| taken != kind) {
                self.streams.push((*kind, signal(*kind)?));
            }
        }
        Ok(())
    }

    /// The next of them.
    pub async fn next(&mut self) -> SignalKind {
        std::future::poll_fn(|cx| {
            for (kind, stream) in &mut self.streams {
                if let Poll::Ready(Some(())) = stream.poll_recv(cx) {
                    return Poll::Ready(*kind);
                }
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sifted(pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut keys = Keys::default();
        let mut all = Vec::new();
        for piece in pieces {
            let (passed, detached) = keys.sift(piece);
            all.extend(passed);
            if detached {
                return (all, true);
            }
        }
        (all, false)
    }

    #[test]
    fn only_both_keys_in_a_row_detach() {
        assert_eq!(sifted(&[b"ab\x10\x11cd"]), (b"ab".to_vec(), true));
        assert_eq!(sifted(&[b"a\x10", b"\x11"]), (b"a".to_vec(), true));
        assert_eq!(sifted(&[b"a\x10", b"b\x11"]), (b"a\x10b\x11".to_vec(), false));
        assert_eq!(sifted(&[b"\x10\x10\x11"]), (b"\x10".to_vec(), true));
        assert_eq!(sifted(&[b"\x11\x10"]), (b"\x11".to_vec(), false));
    }
}
