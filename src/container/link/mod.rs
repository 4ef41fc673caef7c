//! The link to the supervisor in one container.
//!
//! The server listens on a socket in a directory that the container sees read-only, and the guest connects, again
//! whenever the connection is gone. Whoever connects is the guest if the kernel says that it is the process with which
//! the container was started; nobody else inside is listened to. What the guest says is data: a message that does not
//! fit what was said before ends the link for good, and the container with it.

mod channel;
mod connection;
mod conversation;
mod listener;
#[cfg(test)]
mod tests;

pub use channel::Channel;
pub use conversation::{Conversation, Said, Speaker, Unheard};

use super::gate::Gate;
use crate::domain::id::ContainerId;
use bytes::BytesMut;
use casemate_guest::protocol::{FrameError, ProcessId, Request, Settings, Signal, Terminal, ToGuest, encode};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{Notify, watch};

/// How a link stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Nobody is connected.
    Waiting,
    /// The guest is connected.
    Connected {
        /// Its build.
        build: String,
        /// Counts connections: what was sent on an earlier one may not have arrived.
        epoch: u64,
    },
    /// The guest broke the protocol, or speaks another version of it.
    Broken(String),
    /// The container is over.
    Closed,
}

/// The link to one guest. Cheap to clone; closed by [`Link::close`].
#[derive(Clone)]
pub struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    container: ContainerId,
    settings: Settings,
    /// What answers there, if the settings say that there is a gate.
    gate: Arc<dyn Gate>,
    /// The process on the host that is the guest, once it is known.
    pid: watch::Sender<Option<u32>>,
    state: watch::Sender<LinkState>,
    outbox: Mutex<Outbox>,
    /// Told when there is something in the outbox.
    wake: Notify,
    channels: Mutex<HashMap<ProcessId, Arc<Channel>>>,
    talks: conversation::Talks,
}

#[derive(Default)]
struct Outbox {
    /// Whether somebody is connected: otherwise nothing is kept, for a new connection begins with all there is to say.
    open: bool,
    bytes: BytesMut,
}

impl Link {
    /// Listens for the guest of a container on a socket at `path`, which is replaced if it is there.
    pub fn listen(path: &Path, container: ContainerId, settings: Settings, gate: Arc<dyn Gate>) -> io::Result<Link> {
        let shared = Arc::new(Shared {
            container,
            settings,
            gate,
            pid: watch::Sender::new(None),
            state: watch::Sender::new(LinkState::Waiting),
            outbox: Mutex::default(),
            wake: Notify::new(),
            channels: Mutex::default(),
            talks: conversation::Talks::default(),
        });
        let socket = listener::bind(path)?;
        tokio::spawn(listener::accept(Arc::clone(&shared), socket));
        Ok(Link { shared })
    }

    /// Says which process on the host is the guest.
    pub fn expect(&self, pid: u32) {
        self.shared.pid.send_replace(Some(pid));
    }

    /// How it stands, now and later.
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.shared.state.subscribe()
    }

    /// Waits for the guest. Answers its build, or why it will not come.
    pub async fn connected(&self) -> Result<String, String> {
        let mut state = self.state();
        let found = state.wait_for(|state| !matches!(state, LinkState::Waiting)).await;
        match found.as_deref() {
            Ok(LinkState::Connected { build, .. }) => Ok(build.clone()),
            Ok(LinkState::Broken(problem)) => Err(problem.clone()),
            _ => Err("the container is over".into()),
        }
    }

    /// Starts the process of a channel, and asks for its output. A link without connection does so once there is one.
    ///
    /// # Errors
    /// A start that does not fit into one message.
    pub fn start(&self, channel: Arc<Channel>) -> Result<(), FrameError> {
        let id = channel.id();
        let messages = channel.opening()?;
        let mut channels = self.shared.channels.lock();
        channels.insert(id, channel);
        self.shared.push(&messages);
        Ok(())
    }

    /// Listens to a process that may be there already.
    pub fn resume(&self, channel: Arc<Channel>) {
        self.shared.channels.lock().insert(channel.id(), channel);
    }

    /// Sends input. The guest skips what it has of it.
    pub fn stdin(&self, id: ProcessId, offset: u64, data: &[u8], eof: bool) {
        // A frame has room for this much and its message.
        const PIECE: usize = 256 << 10;
        let mut offset = offset;
        let mut pieces = data.chunks(PIECE).peekable();
        if pieces.peek().is_none() {
            self.shared.say(&ToGuest::Stdin { id, offset, eof }, &[]);
        }
        while let Some(piece) = pieces.next() {
            self.shared.say(&ToGuest::Stdin { id, offset, eof: eof && pieces.peek().is_none() }, piece);
            offset += piece.len() as u64;
        }
    }

    /// Sends a signal to the process's group, or to all that it started.
    pub fn signal(&self, id: ProcessId, signal: i32, to: Signal) {
        self.shared.say(&ToGuest::Signal { id, signal, to }, &[]);
    }

    /// Changes the size of a terminal.
    pub fn resize(&self, id: ProcessId, terminal: Terminal) {
        self.shared.say(&ToGuest::Resize { id, terminal }, &[]);
    }

    /// Has the guest forget a process. Whoever calls this has its end where a crash cannot take it.
    pub fn release(&self, id: ProcessId) {
        self.shared.channels.lock().remove(&id);
        // Should this get lost, the next connection brings a process that nobody knows, and releases it.
        self.shared.say(&ToGuest::Release { id }, &[]);
    }

    /// Begins work beside processes.
    pub fn open(&self, request: Request) -> Result<Conversation, Unheard> {
        Conversation::open(&self.shared, request)
    }

    /// Asks the guest to end, and all processes with it.
    pub fn shut_down(&self) {
        self.shared.say(&ToGuest::Shutdown, &[]);
    }

    /// The container is over: nobody will connect any more, and what runs by this link has ended.
    pub fn close(&self) {
        self.shared.finish(LinkState::Closed);
    }
}

impl Shared {
    fn say(&self, message: &ToGuest, payload: &[u8]) {
        let mut outbox = self.outbox.lock();
        if outbox.open {
            // All messages but a start have a bounded form, and fit.
            let _ = encode(message, payload, &mut outbox.bytes);
            self.wake.notify_one();
        }
    }

    /// As [`Shared::say`], for what may not fit and must not get lost without a word.
    fn try_say(&self, message: &ToGuest) -> Result<(), Unheard> {
        let mut outbox = self.outbox.lock();
        if !outbox.open {
            return Err(Unheard::Away);
        }
        encode(message, &[], &mut outbox.bytes).map_err(|_| Unheard::TooLarge)?;
        self.wake.notify_one();
        Ok(())
    }

    fn push(&self, messages: &[u8]) {
        let mut outbox = self.outbox.lock();
        if outbox.open {
            outbox.bytes.extend_from_slice(messages);
            self.wake.notify_one();
        }
    }

    fn channel(&self, id: &ProcessId) -> Option<Arc<Channel>> {
        self.channels.lock().get(id).cloned()
    }

    /// Ends the link for good.
    fn finish(&self, last: LinkState) {
        self.state.send_if_modified(|state| {
            let open = !matches!(state, LinkState::Broken(_) | LinkState::Closed);
            if open {
                *state = last;
            }
            open
        });
        let mut outbox = self.outbox.lock();
        outbox.open = false;
        outbox.bytes.clear();
        drop(outbox);
        self.talks.end();
        for channel in self.channels.lock().values() {
            channel.gone();
        }
    }
}
