//! What a Jupyter kernel sends: frames of ZeroMQ, and the signed messages in them. A kernel's process may say anything.
#![no_main]

use bytes::Bytes;
use casemate::jupyter::Signer;
use casemate::jupyter::fuzzing::{LARGEST, messages, read, request, sent};
use hmac::{Hmac, Mac};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use sha2::Sha256;

const KEY: &str = "key";

fuzz_target!(|bytes: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let signer = Signer::new(KEY, "fuzz");
        for (parts, lost) in messages(bytes).await {
            assert!(!parts.is_empty() && parts.iter().map(Bytes::len).sum::<usize>() as u64 <= LARGEST);
            if lost == 0 {
                let again = messages(&sent(&parts).await).await;
                assert_eq!(again, [(parts.clone(), 0)], "what is sent is heard");
            }
            understood(&signer, parts, lost);
        }
        // A kernel that answers in JSON of its own making.
        if let Ok(content) = serde_json::from_slice::<Value>(bytes) {
            let message = read(&signer, request(&signer, "stream", &content), 0).expect("it is signed");
            assert_eq!((message.kind.as_str(), &message.content), ("stream", &content));
        }
    });
});

fn understood(signer: &Signer, mut parts: Vec<Bytes>, lost: u64) {
    let at = parts.iter().position(|part| &**part == b"<IDS|MSG>");
    if let Ok(message) = read(signer, parts.clone(), lost) {
        let at = at.expect("a message has a delimiter");
        assert!(lost > 0 || signature(&parts[at + 2..]) == parts[at + 1].to_ascii_lowercase(), "it is not signed");
        assert!(lost == 0 || message.content.is_null(), "what was thrown away is believed");
    }
    // The same by somebody who has the key.
    let Some(at) = at.filter(|at| parts.len() >= at + 6) else { return };
    parts[at + 1] = Bytes::from(signature(&parts[at + 2..]));
    match read(signer, parts.clone(), 0) {
        Ok(message) => {
            let content: Value = serde_json::from_slice(&parts[at + 5]).expect("what is read is JSON");
            assert_eq!(message.content, content);
        }
        Err(why) => assert_eq!(why, "it is no JSON"),
    }
    let mut changed = parts[at + 5].to_vec();
    changed.push(b' ');
    parts[at + 5] = changed.into();
    assert_eq!(read(signer, parts, 0).expect_err("it was changed"), "its signature is wrong");
}

/// Of the four parts that are signed.
fn signature(parts: &[Bytes]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).expect("any key");
    parts.iter().take(4).for_each(|part| mac.update(part));
    hex::encode(mac.finalize().into_bytes()).into_bytes()
}
