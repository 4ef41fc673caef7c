//! Entries of the cache of compiled code. Loading one is running it, so one is accepted only if it is, byte for byte,
//! what was written for this module and this compiler.
//!
//! An input is a script of edits, a newline and the code. An edit is three bytes: what, where, and with which byte.
//! The whole input is also taken for an entry as it stands.
#![no_main]

use casemate::engine::fuzzing::{code_of, entry};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let split = data.iter().position(|&byte| byte == b'\n').unwrap_or(data.len());
    let (script, code) = (&data[..split], data.get(split + 1..).unwrap_or_default());
    let (mut module, mut fingerprint) = ([b'm'; 32], [b'f'; 32]);

    planted(data, &module, &fingerprint);

    let written = entry(&module, &fingerprint, code);
    assert_eq!(code_of(&written, &module, &fingerprint).as_deref(), Ok(code));
    let mut found = written.clone();
    for edit in script.chunks_exact(3) {
        let at = usize::from(edit[1]) * 7 % found.len().max(1);
        match edit[0] {
            b'f' if !found.is_empty() => found[at] ^= 1 << (edit[2] % 8),
            b's' if !found.is_empty() => found[at] = edit[2],
            b'c' => found.truncate(at),
            b'a' => found.push(edit[2]),
            b'i' => found.insert(at, edit[2]),
            b'd' if !found.is_empty() => drop(found.remove(at)),
            // Doubling has an end.
            b'x' if found.len() < 1 << 16 => found.extend_from_within(at..),
            b'm' => module[at % 32] = edit[2],
            b'p' => fingerprint[at % 32] = edit[2],
            _ => {}
        }
    }
    // The key is a part of what was written: an entry of another module or another compiler is not ours.
    let expected = entry(&module, &fingerprint, code) == found;
    match code_of(&found, &module, &fingerprint) {
        Ok(read) => {
            assert!(expected, "a changed entry was accepted");
            assert_eq!(read, code);
        }
        Err(problem) => {
            assert!(!expected, "a whole entry was refused");
            assert!(!problem.is_empty() && problem.len() < 200);
        }
    }
});

/// Bytes from anywhere are an entry only if they are the one that would have been written.
fn planted(data: &[u8], module: &[u8; 32], fingerprint: &[u8; 32]) {
    if let Ok(code) = code_of(data, module, fingerprint) {
        assert_eq!(entry(module, fingerprint, &code), data);
    }
}
