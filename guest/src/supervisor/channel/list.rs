//! Lists on their way to the server: some entries in each message.

use bytes::Bytes;
use casemate_guest::protocol::FromGuest;
use serde::Serialize;

use super::Channel;
use super::flow::PIECE;

/// Bytes after which a message is sent.
const FULL: usize = 48 << 10;

/// Entries that are gathered for one message.
#[derive(Debug)]
pub struct Batch<'a> {
    channel: &'a Channel,
    /// The message that they are sent with.
    message: FromGuest,
    bytes: Vec<u8>,
}

impl<'a> Batch<'a> {
    /// Empty.
    pub fn new(channel: &'a Channel, message: FromGuest) -> Self {
        Self { channel, message, bytes: Vec::new() }
    }

    /// Adds one; sends what is gathered once that is enough.
    pub async fn add(&mut self, entry: &impl Serialize) {
        // Of plain data, which has a form always.
        let bytes = postcard::to_stdvec(entry).unwrap_or_default();
        // A path may be long, where folders are deep.
        if self.bytes.len() + bytes.len() > PIECE {
            self.send().await;
        }
        self.bytes.extend_from_slice(&bytes);
        if self.bytes.len() >= FULL {
            self.send().await;
        }
    }

    /// Sends what is gathered.
    pub async fn send(&mut self) {
        let bytes = Bytes::from(std::mem::take(&mut self.bytes));
        if !bytes.is_empty() {
            self.channel.room_for(bytes.len()).await;
            self.channel.say(self.message.clone(), bytes);
        }
    }
}
