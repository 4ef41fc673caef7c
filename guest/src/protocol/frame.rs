//! Frames: a length, a message, and bytes that belong to it.
//!
//! ```text
//! u32 little-endian   bytes that follow: at least 4, at most MAX_FRAME
//! u32 little-endian   bytes of the message
//! the message         in postcard's form
//! the payload         the rest; empty for most messages
//! ```
//!
//! The payload is not part of the message so that it is passed on without being copied or looked at.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::request::{Entry, Event};

/// Bytes of a frame at most, behind its length.
pub const MAX_FRAME: usize = 1 << 20;

const LENGTH: usize = 4;
const MESSAGE_LENGTH: usize = 4;

/// Why bytes are no frame. Whoever gets one ends the connection: what follows cannot be told apart any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A length beyond the bounds.
    #[error("a frame of {length} bytes; expected 4 to {MAX_FRAME}")]
    Length {
        /// What was announced.
        length: u64,
    },
    /// A message longer than its frame.
    #[error("a message of {message} bytes in a frame of {frame}")]
    Message {
        /// Bytes of the message, as announced.
        message: usize,
        /// Bytes of the frame.
        frame: usize,
    },
    /// A message that cannot be read.
    #[error("a message that cannot be read: {0}")]
    Unreadable(String),
    /// A message that does not fit into a frame.
    #[error("a message of {0} bytes does not fit into a frame")]
    TooLong(usize),
}

/// Appends a frame.
///
/// # Errors
/// A frame beyond [`MAX_FRAME`]; then nothing is appended.
pub fn encode<M: Serialize>(message: &M, payload: &[u8], out: &mut BytesMut) -> Result<(), FrameError> {
    let message = postcard::to_stdvec(message).map_err(|error| FrameError::Unreadable(error.to_string()))?;
    let length = MESSAGE_LENGTH + message.len() + payload.len();
    if length > MAX_FRAME {
        return Err(FrameError::TooLong(length));
    }
    out.reserve(LENGTH + length);
    out.put_u32_le(length as u32);
    out.put_u32_le(message.len() as u32);
    out.put_slice(&message);
    out.put_slice(payload);
    Ok(())
}

/// Reads the payload of [`FromGuest::Entries`](super::FromGuest::Entries).
///
/// # Errors
/// Bytes that are no list.
pub fn entries(payload: &[u8]) -> Result<Vec<Entry>, FrameError> {
    list(payload)
}

/// Reads the payload of [`FromGuest::Events`](super::FromGuest::Events).
///
/// # Errors
/// Bytes that are no list.
pub fn events(payload: &[u8]) -> Result<Vec<Event>, FrameError> {
    list(payload)
}

/// One after the other up to the end: so they can be added one by one, and no count can promise what does not come.
fn list<T: DeserializeOwned>(mut payload: &[u8]) -> Result<Vec<T>, FrameError> {
    let mut items = Vec::new();
    while !payload.is_empty() {
        let (item, rest) =
            postcard::take_from_bytes(payload).map_err(|error| FrameError::Unreadable(error.to_string()))?;
        items.push(item);
        payload = rest;
    }
    Ok(items)
}

/// Takes frames out of bytes as they arrive.
#[derive(Debug, Default)]
pub struct Decoder {
    pending: BytesMut,
    /// Bytes that room is made for at least: more where frames are large, so that a call brings several. A payload that
    /// is kept keeps the memory it came in, so that those of small frames must not come in much.
    room: usize,
}

/// Room where frames are small, and at most.
const ROOM: (usize, usize) = (16 << 10, 256 << 10);

impl Decoder {
    /// Where arriving bytes go: read into it, then ask for what is complete. Room is made for at least one frame.
    pub fn buffer(&mut self) -> &mut BytesMut {
        let wanted = match self.announced() {
            // What is wrong is told when it is asked for.
            Some(length) if length <= MAX_FRAME => (LENGTH + length).saturating_sub(self.pending.len()),
            _ => 0,
        };
        self.pending.reserve(wanted.max(self.room).max(ROOM.0));
        &mut self.pending
    }

    fn announced(&self) -> Option<usize> {
        let length = self.pending.get(..LENGTH)?.try_into().ok().map(u32::from_le_bytes)?;
        usize::try_from(length).ok()
    }

    /// The next message with its payload, once all of it is there.
    ///
    /// # Errors
    /// Bytes that are no frame; they stay so.
    pub fn take<M: DeserializeOwned>(&mut self) -> Result<Option<(M, Bytes)>, FrameError> {
        let Some(length) = self.announced() else { return Ok(None) };
        if !(MESSAGE_LENGTH..=MAX_FRAME).contains(&length) {
            return Err(FrameError::Length { length: length as u64 });
        }
        if self.pending.len() < LENGTH + length {
            return Ok(None);
        }
        // The length of the message is read before anything is taken, so that a faulty frame stays one.
        let head = self.pending.get(LENGTH..LENGTH + MESSAGE_LENGTH).and_then(|head| head.try_into().ok());
        let message = head.map(u32::from_le_bytes).unwrap_or_default() as usize;
        if message > length - MESSAGE_LENGTH {
            return Err(FrameError::Message { message, frame: length });
        }
        let start = LENGTH + MESSAGE_LENGTH;
        let (parsed, rest) = postcard::take_from_bytes::<M>(&self.pending[start..start + message])
            .map_err(|error| FrameError::Unreadable(error.to_string()))?;
        if !rest.is_empty() {
            return Err(FrameError::Unreadable(format!("{} bytes too many", rest.len())));
        }
        self.room = match length > self.room / 8 {
            true => (self.room * 2).clamp(ROOM.0, ROOM.1),
            false => self.room / 2,
        };
        let mut frame = self.pending.split_to(LENGTH + length);
        frame.advance(start + message);
        Ok(Some((parsed, frame.freeze())))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FromGuest, Spec, Stream, ToGuest};
    use super::*;
    use proptest::prelude::*;

    type Message = (u64, String, Option<Vec<u16>>);

    fn message() -> impl Strategy<Value = (Message, Vec<u8>)> {
        let message = (any::<u64>(), ".{0,40}", proptest::option::of(proptest::collection::vec(any::<u16>(), 0..20)));
        (message, proptest::collection::vec(any::<u8>(), 0..3000))
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_however_it_arrives(
            messages in proptest::collection::vec(message(), 1..12),
            pieces in proptest::collection::vec(1usize..700, 1..40),
        ) {
            let mut bytes = BytesMut::new();
            for (message, payload) in &messages {
                encode(message, payload, &mut bytes).unwrap();
            }
            let (mut decoder, mut found, mut sizes) = (Decoder::default(), Vec::new(), pieces.iter().cycle());
            while !bytes.is_empty() {
                let size = (*sizes.next().unwrap()).min(bytes.len());
                decoder.buffer().extend_from_slice(&bytes.split_to(size));
                while let Some((message, payload)) = decoder.take::<Message>().unwrap() {
                    found.push((message, payload.to_vec()));
                }
            }
            prop_assert_eq!(found, messages);
        }

        #[test]
        fn any_bytes_are_frames_or_an_error_that_stays(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut decoder = Decoder::default();
            decoder.buffer().extend_from_slice(&bytes);
            loop {
                match decoder.take::<Message>() {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) => {
                        prop_assert_eq!(decoder.take::<Message>().unwrap_err(), error);
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn lengths_beyond_the_bounds_are_refused_before_anything_is_reserved() {
        let mut decoder = Decoder::default();
        decoder.buffer().extend_from_slice(&u32::MAX.to_le_bytes());
        assert!(decoder.buffer().capacity() < 64 << 10);
        assert_eq!(decoder.take::<u8>().unwrap_err(), FrameError::Length { length: u64::from(u32::MAX) });
        let mut decoder = Decoder::default();
        decoder.buffer().extend_from_slice(&[5, 0, 0, 0, 9, 0, 0, 0, 0]);
        assert_eq!(decoder.take::<u8>().unwrap_err(), FrameError::Message { message: 9, frame: 5 });
        let mut out = BytesMut::new();
        assert!(matches!(encode(&7u8, &vec![0; MAX_FRAME], &mut out), Err(FrameError::TooLong(_))));
        assert!(out.is_empty());
    }

    #[test]
    fn messages_travel_with_their_payload() {
        let spec = Spec { command: vec![b"/bin/cat".to_vec()], keep_stdin_open: true, ..Spec::default() };
        let start = ToGuest::Start { id: [7; 16], spec: Box::new(spec) };
        let output = FromGuest::Output { id: [7; 16], stream: Stream::Stderr, position: 1 << 40, offset: 3 };
        let mut bytes = BytesMut::new();
        encode(&start, b"input", &mut bytes).unwrap();
        let mut decoder = Decoder::default();
        decoder.buffer().extend_from_slice(&bytes);
        assert_eq!(decoder.take::<ToGuest>().unwrap().unwrap(), (start, "input".into()));
        bytes.clear();
        encode(&output, &[0xff; 64 << 10], &mut bytes).unwrap();
        decoder.buffer().extend_from_slice(&bytes);
        let (message, payload) = decoder.take::<FromGuest>().unwrap().unwrap();
        assert_eq!((message, payload.len()), (output, 64 << 10));
    }
}
