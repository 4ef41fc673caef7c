//! Page tokens. An input is a listing, a newline and a token as a caller sends it; the whole input is also read as
//! a ListExecutionsRequest message.
#![no_main]

use casemate::error::{Error, Reason};
use casemate::proto::v1::ListExecutionsRequest;
use casemate::rpc::convert::{execution, page};
use libfuzzer_sys::fuzz_target;
use prost::Message;

/// Characters of a token that are wholly its listing's hash: 8 bytes are 10 characters and 4 bits.
const HASH_CHARACTERS: usize = 10;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let (listing, token) = text.split_once('\n').unwrap_or(("tools", &text));
    received(listing, token);
    issued(listing, token.as_bytes());

    let Ok(request) = ListExecutionsRequest::decode(data) else { return };
    match page::size(request.page_size) {
        Ok(size) => assert!((1..=1000).contains(&size) && request.page_size >= 0),
        Err(error) => {
            assert!(request.page_size < 0);
            refused(&error, "page_size");
        }
    }
    if let Ok(filter) = execution::filter(request.filter) {
        let listing = format!("executions {filter:?}");
        received(&listing, &request.page_token);
        issued(&listing, data);
    }
});

/// A token from outside is exactly what would have been issued, or it is refused.
fn received(listing: &str, token: &str) {
    match page::position(listing, token) {
        Ok(None) => assert!(token.is_empty()),
        Ok(Some(position)) => assert_eq!(page::token(listing, &position), token),
        Err(error) => {
            assert!(!token.is_empty());
            refused(&error, "page_token");
        }
    }
}

/// A token that was issued says its position to its own listing, and nothing once it was changed.
fn issued(listing: &str, position: &[u8]) {
    let token = page::token(listing, position);
    assert_eq!(page::position(listing, &token).expect("it was issued").as_deref(), Some(position));
    let other = format!("{listing} ");
    refused(&page::position(&other, &token).expect_err("it is another listing's"), "page_token");

    let at = position.first().map_or(0, |&byte| usize::from(byte) % HASH_CHARACTERS);
    let mut changed = token.clone();
    changed.replace_range(at..=at, if token.as_bytes()[at] == b'A' { "B" } else { "A" });
    let mut wrong = vec![changed, token[..at].to_owned(), token[at + 1..].to_owned()];
    wrong.extend(["=", " ", "\n", "\0", "+", "/", "ä"].map(|more| format!("{token}{more}")));
    for wrong in wrong.iter().filter(|wrong| !wrong.is_empty()) {
        refused(&page::position(listing, wrong).expect_err("it was never issued"), "page_token");
    }
}

fn refused(error: &Error, field: &str) {
    assert_eq!(error.reason(), Reason::InvalidArgument);
    let Error::InvalidArgument(violations) = error else { unreachable!("by its reason") };
    assert!(matches!(violations.as_slice(), [one] if one.field == field && one.description.len() < 200), "{error}");
}
