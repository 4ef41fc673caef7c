//! What the server under test does with channels.

use std::path::Path;

use bytes::Bytes;
use casemate_guest::protocol::{
    Answer, Entry, Event, Failure, FromGuest, How, Request, Stat, ToGuest, WINDOW, entries, events,
};

use crate::peer::Peer;

/// All that was said about a channel.
#[derive(Debug, Default)]
pub struct Said {
    pub stat: Option<Stat>,
    pub bytes: Vec<u8>,
    pub entries: Vec<Entry>,
    pub events: Vec<Event>,
    pub ended: bool,
    pub result: Option<Result<Answer, Failure>>,
}

impl Said {
    pub fn failure(self) -> Failure {
        self.result.unwrap().unwrap_err()
    }

    pub fn answer(self) -> Answer {
        self.result.unwrap().unwrap()
    }
}

/// The channel that a message is about.
pub fn about(message: &FromGuest) -> Option<u64> {
    match message {
        FromGuest::Began { channel, .. }
        | FromGuest::Data { channel }
        | FromGuest::DataEnd { channel }
        | FromGuest::More { channel, .. }
        | FromGuest::Entries { channel }
        | FromGuest::Events { channel }
        | FromGuest::Done { channel, .. }
        | FromGuest::Connected { channel } => Some(*channel),
        _ => None,
    }
}

impl Peer {
    pub fn open(&mut self, channel: u64, request: Request) {
        self.say(ToGuest::Open { channel, request: Box::new(request) }, b"");
    }

    pub fn data(&mut self, channel: u64, bytes: &[u8]) {
        self.say(ToGuest::Data { channel }, bytes);
    }

    pub fn data_end(&mut self, channel: u64) {
        self.say(ToGuest::DataEnd { channel }, b"");
    }

    pub fn give_up(&mut self, channel: u64) {
        self.say(ToGuest::Drop { channel }, b"");
    }

    /// The next message about a channel. What it takes is granted anew.
    pub fn about(&mut self, channel: u64) -> (FromGuest, Bytes) {
        let found =
            self.find(|message, payload| (about(message) == Some(channel)).then(|| (message.clone(), payload.clone())));
        assert!(found.1.len() <= 64 << 10);
        if !found.1.is_empty() {
            self.say(ToGuest::More { channel, credit: found.1.len() as u64 }, b"");
        }
        found
    }

    /// All about a channel up to where something holds, or it ends.
    pub fn until(&mut self, channel: u64, mut holds: impl FnMut(&Said) -> bool) -> Said {
        let mut said = Said::default();
        loop {
            let (message, payload) = self.about(channel);
            match message {
                FromGuest::Began { stat, .. } => said.stat = stat.map(|stat| *stat),
                FromGuest::Data { .. } => said.bytes.extend_from_slice(&payload),
                FromGuest::DataEnd { .. } => said.ended = true,
                FromGuest::Entries { .. } => said.entries.extend(entries(&payload).unwrap()),
                FromGuest::Events { .. } => said.events.extend(events(&payload).unwrap()),
                FromGuest::Done { result, .. } => {
                    said.result = Some(result);
                    return said;
                }
                _ => {}
            }
            if holds(&said) {
                return said;
            }
        }
    }

    pub fn done(&mut self, channel: u64) -> Said {
        self.until(channel, |_| false)
    }

    pub fn began(&mut self, channel: u64) {
        self.find(|message, _| match message {
            FromGuest::Began { channel: of, .. } if *of == channel => Some(()),
            FromGuest::Done { channel: of, result } if *of == channel => panic!("{result:?}"),
            _ => None,
        });
    }

    pub fn ask(&mut self, channel: u64, request: Request) -> Said {
        self.open(channel, request);
        self.done(channel)
    }

    /// Sends all bytes as they are granted, and the end; then all that is said.
    pub fn ask_with(&mut self, channel: u64, request: Request, mut bytes: &[u8]) -> Said {
        self.open(channel, request);
        let mut credit = WINDOW as usize;
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(credit).min(64 << 10));
            self.data(channel, now);
            (bytes, credit) = (rest, credit - now.len());
            if credit == 0 && !bytes.is_empty() {
                match self.about(channel).0 {
                    FromGuest::More { credit: more, .. } => credit += more as usize,
                    FromGuest::Done { result, .. } => return Said { result: Some(result), ..Said::default() },
                    _ => {}
                }
            }
        }
        self.data_end(channel);
        self.done(channel)
    }
}

pub fn bytes(path: &Path) -> Vec<u8> {
    path.to_str().unwrap().as_bytes().to_vec()
}

pub fn read(path: &Path) -> Request {
    Request::Read { root: b"/".to_vec(), path: bytes(path), offset: 0, length: None }
}

pub fn write(path: &Path, how: How) -> Request {
    let (root, path) = (b"/".to_vec(), bytes(path));
    Request::Write { root, path, mode: None, how, parents: false, size: None, sync: false }
}

pub fn list(path: &Path, depth: u32, after: Option<&str>, limit: u32) -> Request {
    let after = after.map(|after| after.as_bytes().to_vec());
    Request::List { root: b"/".to_vec(), path: bytes(path), depth, after, limit }
}

pub fn remove(path: &Path, recursive: bool) -> Request {
    Request::Remove { root: b"/".to_vec(), path: bytes(path), recursive, allow_missing: false }
}

pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
