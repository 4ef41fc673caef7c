//! Events as the database keeps them: damaged bytes are refused, and what is read is a journal that can be written,
//! read from any sequence, and sent.
#![no_main]

use casemate::domain::event::{Event, EventKind};
use casemate::domain::id::ExecutionId;
use casemate::execution::journal::{Journal, Standing};
use casemate::rpc::convert::execution as message;
use casemate::store::fuzzing::{decode, encode};
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|bytes: &[u8]| {
    let Ok(events) = decode(bytes) else { return };
    let written = encode(&events).expect("what is read can be written");
    // Equal bytes rather than equal events: a NaN does not equal itself.
    let again = decode(&written).expect("what is written can be read");
    assert_eq!(encode(&again).expect("as before"), written);
    assert_eq!(again.len(), events.len());
    // What an older build wrote has fewer fields; it is written with all of them.
    assert!(bytes[0] != written[0] || written.len() <= bytes.len(), "the written form is the shortest");

    // Nothing less and nothing more than the whole.
    let cut = usize::from(bytes[bytes.len() / 2]) % written.len();
    assert!(decode(&written[..cut]).is_err(), "cut to {cut} bytes");
    assert!(decode(&[written.as_slice(), &[0]].concat()).is_err(), "one byte too many");

    let mut last = 0;
    for event in &events {
        assert!(event.sequence > last, "sequence {} after {last}", event.sequence);
        last = event.sequence;
        if let EventKind::Output { offset, data, .. } = &event.kind {
            assert!(offset.checked_add(data.len() as u64).is_some(), "output beyond the end of all streams");
        }
    }
    followed(events, last);
});

/// As the registry does with the journal of an execution that is over, and the stream with its events.
fn followed(events: Vec<Event>, last: u64) {
    let ended = events.iter().find_map(|event| match &event.kind {
        EventKind::Finished { outcome, .. } => Some((event.time, outcome.clone())),
        _ => None,
    });
    let state = casemate::domain::execution::ExecutionState::Lost;
    let journal = Journal::frozen(events.clone(), Standing { state, started: None, ended, last_sequence: last });
    for from in [0, 1, last / 2, last, last + 1] {
        let expected = events.iter().filter(|event| event.sequence >= from);
        let read = journal.export(from);
        assert!(read.iter().map(|event| event.sequence).eq(expected.map(|event| event.sequence)), "from {from}");
    }
    let id = ExecutionId::from_bytes([7; 16]);
    for event in events {
        let sequence = event.sequence;
        let sent = message::event(id, event);
        assert_eq!(sent.sequence, sequence);
        assert!(sent.encoded_len() > 0);
    }
}
