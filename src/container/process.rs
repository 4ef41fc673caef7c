//! A process in a container as an execution: its input on the way in, its end, and whoever wants it to end before.

use super::link::{Channel, Link, LinkState};
use super::signal;
use crate::domain::execution::Exit;
use crate::domain::io::{InputRead, InputSource};
use crate::execution::{Ended, Live};
use bytes::Bytes;
use casemate_guest::protocol::{Exit as GuestExit, ProcessId, Signal, StartFailure};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;

/// Bytes of input sent in one go.
const PIECE: usize = 256 << 10;
/// Bytes of input that the guest takes and the process has not taken.
const AHEAD: u64 = 1 << 20;

/// What a process gets as its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feed {
    /// That of the execution.
    Own,
    /// Nothing.
    Nothing,
}

/// Drives a process until it is over, whatever its container and the server's connection to it go through.
pub(super) async fn drive(live: Arc<Live>, channel: Arc<Channel>, link: Link, feed: Feed) -> Ended {
    let id = channel.id();
    let mut state = link.state();
    let mut input = Input::new(channel.is_resumed());
    let mut wish: Option<Ended> = None;
    let mut epoch = None;
    loop {
        let connected = match &*state.borrow_and_update() {
            LinkState::Connected { epoch, .. } => Some(*epoch),
            _ => None,
        };
        if connected.is_some() && connected != epoch {
            // What was sent before may not have arrived.
            input.repeat(&link, id);
            if wish.is_some() {
                link.signal(id, signal::KILL, Signal::Tree);
            }
        }
        epoch = connected;
        let news = channel.news();
        if let Some(exit) = news.exit {
            return ended(exit, wish);
        }
        if let Some(failure) = news.failure {
            return Ended::new(Exit::NotStarted, failure_text(&failure));
        }
        if news.gone {
            return wish.unwrap_or_else(|| Ended::new(Exit::ContainerStopped, "its container stopped, and so did it"));
        }
        input.confirmed(news.input.map(|kept| kept.held));
        let taken = news.input.map_or(0, |kept| kept.taken);
        let room = match feed {
            Feed::Own if input.placed && !input.over => input.room(taken),
            _ => 0,
        };
        tokio::select! {
            biased;
            () = channel.told() => {}
            reason = live.end_wished(), if wish.is_none() => {
                wish = Some(reason);
                link.signal(id, signal::KILL, Signal::Tree);
            }
            changed = state.changed() => if changed.is_err() {
                channel_closed(&channel).await;
            },
            () = poll_fn(|cx| live.poll_ready(cx)), if room > 0 => input.send(&live, &link, id, room),
        }
    }
}

/// The link is gone for good; its last act tells every channel.
async fn channel_closed(channel: &Channel) {
    if !channel.news().gone {
        channel.told().await;
    }
}

fn ended(exit: GuestExit, wish: Option<Ended>) -> Ended {
    match (exit, wish) {
        (GuestExit::Code(code), _) => Ended::new(Exit::Exited { code: code.into() }, ""),
        // It was killed because somebody wished it.
        (GuestExit::Signal(signal::KILL) | GuestExit::TimedOut, Some(wish)) => wish,
        (GuestExit::Signal(number), _) => {
            let name = signal::name(number);
            let message = format!("{name} ended it");
            Ended::new(Exit::Signaled { signal: name }, message)
        }
        (GuestExit::OutOfMemory, _) => Ended::new(
            Exit::OutOfMemory,
            "the kernel killed it because its container had no memory left; give the container more (resources.memory_bytes)",
        ),
        (GuestExit::TimedOut, None) => Ended::new(
            Exit::TimedOut,
            "its wall time passed, and it was killed with all that it had started (limits.wall_time)",
        ),
    }
}

/// Why a process could not be started, for people.
pub(super) fn failure_text(failure: &StartFailure) -> String {
    let shown = |text: &str| text.chars().filter(|c| !c.is_control()).take(200).collect::<String>();
    match failure {
        StartFailure::NotFound => "there is no such program in the container; check its name and PATH".into(),
        StartFailure::NotExecutable(text) => format!("the program may not be run, or is none: {}", shown(text)),
        StartFailure::Directory(text) => format!("the working directory cannot be entered: {}", shown(text)),
        StartFailure::User(text) => format!("the user cannot be used: {}", shown(text)),
        StartFailure::TooMany => "as many processes run, or ended a moment ago, as the container may have".into(),
        StartFailure::Other(text) => shown(text),
    }
}

/// Input on its way.
struct Input {
    /// Sent, and not known to be there.
    sent: VecDeque<Bytes>,
    /// Where the first of those begins.
    base: u64,
    /// Where the next piece begins.
    next: u64,
    /// The end was sent.
    over: bool,
    /// It is known where the input goes on, which an earlier server may have begun.
    placed: bool,
}

impl Input {
    fn new(resumed: bool) -> Input {
        Input { sent: VecDeque::new(), base: 0, next: 0, over: false, placed: !resumed }
    }

    /// Bytes that the guest has room for.
    fn room(&self, taken: u64) -> usize {
        let left = taken.saturating_add(AHEAD).saturating_sub(self.next);
        usize::try_from(left).unwrap_or(PIECE).min(PIECE)
    }

    fn send(&mut self, live: &Live, link: &Link, id: ProcessId, room: usize) {
        match live.read(room) {
            InputRead::Data(data) => {
                link.stdin(id, self.next, &data, false);
                self.next += data.len() as u64;
                self.sent.push_back(data);
            }
            InputRead::Eof => {
                self.over = true;
                link.stdin(id, self.next, &[], true);
            }
            InputRead::Pending => {}
        }
    }

    /// The guest has everything before this offset.
    fn confirmed(&mut self, held: Option<u64>) {
        let Some(held) = held else { return };
        if !self.placed {
            (self.base, self.next, self.placed) = (held, held, true);
        }
        while let Some(first) = self.sent.front() {
            let end = self.base + first.len() as u64;
            if end > held {
                return;
            }
            self.base = end;
            self.sent.pop_front();
        }
    }

    fn repeat(&self, link: &Link, id: ProcessId) {
        let mut at = self.base;
        for piece in &self.sent {
            link.stdin(id, at, piece, false);
            at += piece.len() as u64;
        }
        if self.over {
            link.stdin(id, self.next, &[], true);
        }
    }
}
