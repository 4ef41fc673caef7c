//! Files of checkpoints, as if their digest were right: refused, or a state that is written back and read the same.
#![no_main]

use casemate::session::checkpoint::fuzzing::{decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (heading, state) = match decode(bytes) {
        Ok(read) => read,
        Err(problem) => {
            assert!(!problem.is_empty() && problem.len() < 200 && !problem.contains("digest"), "{problem}");
            return;
        }
    };
    // Compressed 255 times at most.
    let size = state.meta.len() + state.pieces.iter().map(|(_, piece)| 16 + piece.len()).sum::<usize>();
    assert!(size <= 256 * bytes.len(), "{size} bytes out of {}", bytes.len());
    let written = encode(&heading, &state);
    assert_eq!(decode(&written), Ok((heading, state)));
    let cut = usize::from(bytes[bytes.len() / 2]) % written.len();
    assert!(decode(&written[..cut]).is_err(), "cut to {cut} bytes");
    assert!(decode(&[written.as_slice(), &[0]].concat()).is_err(), "one byte too many");
});
