//! What a container's supervisor sends, and whoever took its place: frames, messages, and the lists in their payloads.
//! The first byte says in pieces of which size the rest arrives.
#![no_main]

use bytes::BytesMut;
use casemate_guest::protocol::{Decoder, FrameError, FromGuest, MAX_FRAME, ToGuest, encode, entries, events};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// Room for a frame, and for what may come behind it in one call.
const MOST_ROOM: usize = 2 * MAX_FRAME;

fuzz_target!(|bytes: &[u8]| {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let size = 1 + usize::from(*size) * 7;
    let (whole, why) = heard::<FromGuest>(bytes, bytes.len().max(1));
    assert_eq!((&whole, &why), (&heard(bytes, size).0, &heard::<FromGuest>(bytes, size).1), "in pieces of {size}");
    heard::<ToGuest>(bytes, size);
    for (message, payload) in whole {
        said_again(&message, &payload);
        if let Ok(entries) = entries(&payload) {
            assert!(entries.len() <= payload.len());
        }
        if let Ok(events) = events(&payload) {
            assert!(events.len() <= payload.len());
        }
    }
});

type Heard<M> = (Vec<(M, Vec<u8>)>, Option<FrameError>);

fn heard<M: DeserializeOwned>(bytes: &[u8], size: usize) -> Heard<M> {
    let (mut decoder, mut all) = (Decoder::default(), Vec::new());
    for piece in bytes.chunks(size) {
        let room = decoder.buffer();
        assert!(room.capacity() <= MOST_ROOM + bytes.len(), "room for {} bytes", room.capacity());
        room.extend_from_slice(piece);
        loop {
            match decoder.take::<M>() {
                Ok(Some((message, payload))) => all.push((message, payload.to_vec())),
                Ok(None) => break,
                Err(error) => {
                    assert!(error.to_string().len() < 200, "{error}");
                    assert_eq!(decoder.take::<M>().err().as_ref(), Some(&error), "a faulty frame stays one");
                    return (all, Some(error));
                }
            }
        }
    }
    (all, None)
}

/// What was heard can be said, and is heard the same.
fn said_again<M: Serialize + DeserializeOwned + PartialEq + Debug>(message: &M, payload: &[u8]) {
    let mut frame = BytesMut::new();
    encode(message, payload, &mut frame).expect("no longer than it came");
    let (all, error) = heard::<M>(&frame, MAX_FRAME);
    assert_eq!(error, None);
    assert!(matches!(&all[..], [(again, bytes)] if again == message && bytes == payload), "{message:?}: {all:?}");
}
