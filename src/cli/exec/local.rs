//! This end of a conversation with a process: keys, pipes and signals.

use super::feed::Feed;
use super::terminal::{Keys, Raw, Signals};
use crate::cli::failure::Failure;
use bytes::Bytes;
use std::io;
use tokio::io::{AsyncReadExt, Stdin};
use tokio::signal::unix::SignalKind;

/// Bytes of input in one message.
const PIECE: usize = 64 << 10;

/// What happened here.
pub enum Happening {
    /// There is more input, or its end.
    Fed,
    /// The terminal may have another size.
    Resized,
    /// SIGINT, which is meant for the process.
    Interrupted,
    /// Somebody wants to leave, and leave the process running.
    Detached,
    /// A signal asks this command to end.
    Ended(SignalKind),
    /// Standard input cannot be read.
    Broken(io::Error),
}

/// This end.
pub struct Local {
    pub feed: Feed,
    stdin: Stdin,
    buffer: Vec<u8>,
    keys: Keys,
    signals: Signals,
    raw: Option<Raw>,
}

impl Local {
    /// Feeds the process this; SIGINT is for the process as well.
    pub fn new(feed: Feed) -> Result<Local, Failure> {
        let mut local = Local {
            feed,
            stdin: tokio::io::stdin(),
            buffer: vec![0; PIECE],
            keys: Keys::default(),
            signals: Signals::default(),
            raw: None,
        };
        local.signals.take(&[SignalKind::interrupt()]).map_err(unheard)?;
        Ok(local)
    }

    /// Makes the terminal raw, so that all keys are the process's.
    pub fn go_raw(&mut self) -> Result<(), Failure> {
        if self.raw.is_some() {
            return Ok(());
        }
        // Whatever ends this command must not leave the terminal behind as it is now.
        let ends = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()];
        let news = [SignalKind::window_change(), SignalKind::from_raw(libc::SIGCONT)];
        self.signals.take(&ends).and_then(|()| self.signals.take(&news)).map_err(unheard)?;
        let raw = Raw::enter().map_err(|error| Failure::local("the terminal cannot be made raw", error))?;
        self.raw = Some(raw);
        Ok(())
    }

    pub fn is_raw(&self) -> bool {
        self.raw.is_some()
    }

    /// Restores the terminal.
    pub fn rest(&mut self) {
        self.raw = None;
    }

    /// Waits until something happens. What was read before this is dropped is not lost.
    pub async fn next(&mut self) -> Happening {
        let signal = tokio::select! {
            biased;
            signal = self.signals.next() => signal,
            read = self.stdin.read(&mut self.buffer), if self.feed.hungry() => return match read {
                Ok(read) => self.typed(read),
                // The terminal is gone, and nobody is left to type.
                Err(error) if self.raw.is_some() && error.raw_os_error() == Some(libc::EIO) => Happening::Detached,
                Err(error) => Happening::Broken(error),
            },
        };
        match (signal, &self.raw) {
            (signal, _) if signal == SignalKind::window_change() => Happening::Resized,
            (signal, raw) if signal == SignalKind::from_raw(libc::SIGCONT) => {
                // If this fails, so does the next read.
                let _ = raw.as_ref().map(Raw::again);
                Happening::Resized
            }
            (signal, None) if signal == SignalKind::interrupt() => Happening::Interrupted,
            (signal, _) => Happening::Ended(signal),
        }
    }

    fn typed(&mut self, read: usize) -> Happening {
        let data = &self.buffer[..read];
        match (&self.raw, read) {
            (Some(_), 0) => return Happening::Detached,
            (None, 0) => self.feed.end(),
            (None, _) => self.feed.push(Bytes::copy_from_slice(data)),
            (Some(_), _) => {
                let (typed, detached) = self.keys.sift(data);
                self.feed.push(typed.into());
                if detached {
                    return Happening::Detached;
                }
            }
        }
        Happening::Fed
    }
}

fn unheard(error: io::Error) -> Failure {
    Failure::local("signals cannot be listened for", error)
}
