//! Work beside processes, on a channel of the link: files, archives, watches, connections to ports.
//!
//! Each side may send a window of bytes, and as many more as the other grants. A conversation ends with its connection:
//! what is half-done then is undone inside, and whoever asked is told that it is gone.

use super::Shared;
use bytes::Bytes;
use casemate_guest::protocol::{Answer, Entry, Event, FromGuest, Request, Stat, ToGuest, WINDOW, entries, events};
use casemate_guest::protocol::{CHANNELS, Failure, GATE_CONNECTIONS};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

/// Bytes of one message: a frame has room for this much and its message.
const PIECE: usize = 64 << 10;
/// Bytes taken before more is granted.
const GRANT: u64 = WINDOW / 4;
/// Bytes that may be on their way of what is large.
const WIDE: u64 = 1 << 20;
/// Of the channels that a guest has, as many as conversations may take; those that end take a moment to be free.
const PLACES: usize = CHANNELS - 32;

/// What is said on a channel.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// The request has begun; with what is known of the file that is read.
    Began(Option<Box<Stat>>),
    /// Bytes.
    Data(Bytes),
    /// There are no more bytes.
    End,
    /// A part of a list.
    Entries(Vec<Entry>),
    /// Changes.
    Events(Vec<Event>),
    /// The end.
    Done(Result<Answer, Failure>),
}

/// Why a conversation cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unheard {
    /// Nobody is connected.
    Away,
    /// As many are had as may be.
    TooMany,
    /// The request does not fit into a message.
    TooLarge,
}

/// A conversation. Dropped before its end, it is given up.
pub struct Conversation {
    speaker: Speaker,
    inbox: mpsc::UnboundedReceiver<(Said, u64)>,
    /// Bytes taken and not granted again.
    taken: u64,
    over: bool,
    _place: Option<OwnedSemaphorePermit>,
}

/// The side of a conversation that speaks. Cheap to clone; what is said after the end goes nowhere.
#[derive(Clone)]
pub struct Speaker {
    shared: Arc<Shared>,
    talk: Arc<Talk>,
}

/// The side of a conversation that the link knows.
pub(super) struct Talk {
    id: u64,
    flow: Mutex<Flow>,
    /// Told when there is more room, or none ever.
    room: Notify,
}

struct Flow {
    /// Bytes that may be sent.
    out: u64,
    /// Bytes that may come.
    allowed: u64,
    /// Where what comes goes; none once nobody listens.
    inbox: Option<mpsc::UnboundedSender<(Said, u64)>>,
    /// The channel is no more.
    gone: bool,
}

/// All conversations of a link.
pub(super) struct Talks {
    open: Mutex<Open>,
    places: Arc<Semaphore>,
}

#[derive(Default)]
struct Open {
    /// The last number that was given to one of the server's opening.
    ours: u64,
    /// The last that the guest gave on this connection.
    theirs: u64,
    talks: HashMap<u64, Arc<Talk>>,
}

impl Default for Talks {
    fn default() -> Self {
        Talks { open: Mutex::default(), places: Arc::new(Semaphore::new(PLACES)) }
    }
}

impl Talks {
    /// The connection is gone, and all channels with it.
    pub(super) fn end(&self) {
        let mut open = self.open.lock();
        open.theirs = 0;
        for (_, talk) in open.talks.drain() {
            talk.end();
        }
    }

    /// Passes on what a guest says; an error says how it does not fit.
    pub(super) fn hear(&self, message: FromGuest, payload: Bytes) -> Result<(), String> {
        let (channel, said, length) = match message {
            FromGuest::Began { channel, stat } => (channel, Said::Began(stat), 0),
            FromGuest::Data { channel } => {
                let length = payload.len() as u64;
                (channel, Said::Data(payload), length)
            }
            FromGuest::DataEnd { channel } => (channel, Said::End, 0),
            FromGuest::Entries { channel } => {
                let list = entries(&payload).map_err(|error| format!("a list that is none: {error}"))?;
                (channel, Said::Entries(list), payload.len() as u64)
            }
            FromGuest::Events { channel } => {
                let list = events(&payload).map_err(|error| format!("changes that are none: {error}"))?;
                (channel, Said::Events(list), payload.len() as u64)
            }
            FromGuest::More { channel, credit } => {
                let talk = self.find(channel)?;
                let mut flow = talk.flow.lock();
                flow.out = flow.out.saturating_add(credit);
                drop(flow);
                talk.room.notify_one();
                return Ok(());
            }
            FromGuest::Done { channel, result } => {
                let talk = self.open.lock().talks.remove(&channel).ok_or_else(|| unknown(channel))?;
                let inbox = talk.flow.lock().inbox.take();
                if let Some(inbox) = inbox {
                    let _ = inbox.send((Said::Done(result), 0));
                }
                talk.end();
                return Ok(());
            }
            _ => return Err("it speaks of a channel that was never opened".into()),
        };
        let talk = self.find(channel)?;
        let mut flow = talk.flow.lock();
        flow.allowed = flow.allowed.checked_sub(length).ok_or("more on a channel than it was granted")?;
        if let Some(inbox) = &flow.inbox {
            let _ = inbox.send((said, length));
        }
        Ok(())
    }

    fn find(&self, channel: u64) -> Result<Arc<Talk>, String> {
        self.open.lock().talks.get(&channel).cloned().ok_or_else(|| unknown(channel))
    }
}

fn unknown(channel: u64) -> String {
    format!("it speaks of channel {channel}, which is not open")
}

impl Talk {
    fn end(&self) {
        let mut flow = self.flow.lock();
        flow.inbox = None;
        flow.gone = true;
        drop(flow);
        self.room.notify_one();
    }
}

impl Conversation {
    pub(super) fn open(shared: &Arc<Shared>, request: Request) -> Result<Conversation, Unheard> {
        let place = shared.talks.places.clone().try_acquire_owned().map_err(|_| Unheard::TooMany)?;
        let (send, inbox) = mpsc::unbounded_channel();
        let flow = Flow { out: WINDOW, allowed: WINDOW, inbox: Some(send), gone: false };
        let talk = {
            let mut open = shared.talks.open.lock();
            open.ours += 2;
            let talk = Arc::new(Talk { id: open.ours, flow: Mutex::new(flow), room: Notify::new() });
            open.talks.insert(talk.id, talk.clone());
            talk
        };
        let message = ToGuest::Open { channel: talk.id, request: Box::new(request) };
        if let Err(unheard) = shared.try_say(&message) {
            shared.talks.open.lock().talks.remove(&talk.id);
            return Err(unheard);
        }
        let speaker = Speaker { shared: shared.clone(), talk };
        Ok(Conversation { speaker, inbox, taken: 0, over: false, _place: Some(place) })
    }

    /// One that the guest opened; an error says how it does not fit.
    pub(super) fn opened(shared: &Arc<Shared>, channel: u64) -> Result<Conversation, String> {
        let (send, inbox) = mpsc::unbounded_channel();
        let flow = Flow { out: WINDOW, allowed: WINDOW, inbox: Some(send), gone: false };
        let talk = Arc::new(Talk { id: channel, flow: Mutex::new(flow), room: Notify::new() });
        let mut open = shared.talks.open.lock();
        if channel.is_multiple_of(2) || channel <= open.theirs {
            return Err(format!("it opens channel {channel} after {}", open.theirs));
        }
        if open.talks.keys().filter(|number| !number.is_multiple_of(2)).count() >= GATE_CONNECTIONS {
            return Err(format!("it opens more than {GATE_CONNECTIONS} channels"));
        }
        open.theirs = channel;
        open.talks.insert(channel, talk.clone());
        drop(open);
        let speaker = Speaker { shared: shared.clone(), talk };
        Ok(Conversation { speaker, inbox, taken: 0, over: false, _place: None })
    }

    /// What speaks in it, for whoever listens meanwhile.
    pub fn speaker(&self) -> &Speaker {
        &self.speaker
    }

    /// The next that is said; none when the connection is gone. After [`Said::Done`] there is nothing.
    pub async fn next(&mut self) -> Option<Said> {
        let Some((said, bytes)) = self.inbox.recv().await else {
            self.over = true;
            return None;
        };
        self.over = matches!(said, Said::Done(_));
        self.taken += bytes;
        if self.taken >= GRANT && !self.over {
            let credit = std::mem::take(&mut self.taken);
            self.speaker.grant(credit);
        }
        Some(said)
    }

    /// Gives it up, and waits until what it left is gone.
    pub async fn give_up(&mut self) {
        let Speaker { shared, talk } = &self.speaker;
        shared.say(&ToGuest::Drop { channel: talk.id }, &[]);
        while !self.over {
            self.next().await;
        }
    }

    /// Lets more come at once, for what is large.
    pub fn widen(&self) {
        self.speaker.grant(WIDE - WINDOW);
    }
}

impl Speaker {
    fn grant(&self, credit: u64) {
        self.talk.flow.lock().allowed += credit;
        self.shared.say(&ToGuest::More { channel: self.talk.id, credit }, &[]);
    }

    /// Sends bytes, as there is room for them. Whether that was possible: not once the conversation is over.
    pub async fn send(&self, mut data: Bytes) -> bool {
        while !data.is_empty() {
            let Some(room) = self.room().await else { return false };
            let piece = data.split_to(room.min(PIECE).min(data.len()));
            let mut flow = self.talk.flow.lock();
            if flow.gone {
                return false;
            }
            flow.out -= piece.len() as u64;
            drop(flow);
            self.shared.say(&ToGuest::Data { channel: self.talk.id }, &piece);
        }
        true
    }

    /// Waits until something may be sent. None once the conversation is over.
    async fn room(&self) -> Option<usize> {
        loop {
            {
                let flow = self.talk.flow.lock();
                if flow.gone {
                    return None;
                }
                if flow.out > 0 {
                    return Some(usize::try_from(flow.out).unwrap_or(usize::MAX));
                }
            }
            self.talk.room.notified().await;
        }
    }

    /// There is no more to send.
    pub fn finish(&self) {
        self.shared.say(&ToGuest::DataEnd { channel: self.talk.id }, &[]);
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        // What comes until its end is heard is thrown away.
        let Speaker { shared, talk } = &self.speaker;
        talk.flow.lock().inbox = None;
        shared.say(&ToGuest::Drop { channel: talk.id }, &[]);
    }
}
