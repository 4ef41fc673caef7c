//! Pages: their size, and tokens that belong to one listing only.

use crate::error::{Error, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

const DEFAULT: usize = 50;
const MAX: usize = 1000;
/// Bytes of the listing's hash in a token: enough to notice a mix-up, which is all it is for.
const HASH: usize = 8;

/// Entries in a page.
pub fn size(asked: i32) -> Result<usize> {
    match usize::try_from(asked) {
        Ok(0) => Ok(DEFAULT),
        Ok(size) => Ok(size.min(MAX)),
        Err(_) => Err(Error::invalid("page_size", format!("expected 0 to {MAX}, got {asked}"))),
    }
}

/// A token that continues `listing`, a text that describes all its filters, after `position`.
pub fn token(listing: &str, position: &[u8]) -> String {
    let mut bytes = hash(listing).to_vec();
    bytes.extend_from_slice(position);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The position in a token, or `None` for the first page.
pub fn position(listing: &str, token: &str) -> Result<Option<Vec<u8>>> {
    if token.is_empty() {
        return Ok(None);
    }
    let refuse = |text: &str| Error::invalid("page_token", text);
    let bytes =
        URL_SAFE_NO_PAD.decode(token).map_err(|_| refuse("is not a token of this server; begin with an empty one"))?;
    match bytes.split_at_checked(HASH) {
        Some((of, position)) if of == hash(listing) => Ok(Some(position.to_vec())),
        _ => Err(refuse("belongs to another listing; keep all other fields as they were, or begin with an empty one")),
    }
}

fn hash(listing: &str) -> [u8; HASH] {
    let digest = Sha256::digest(listing.as_bytes());
    let mut short = [0; HASH];
    short.copy_from_slice(&digest[..HASH]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_belong_to_their_listing() {
        let token = token("tools", b"echo");
        assert_eq!(position("tools", &token).unwrap().as_deref(), Some(&b"echo"[..]));
        assert_eq!(position("tools", "").unwrap(), None);
        assert!(position("other", &token).is_err());
        assert!(position("tools", "!!").is_err());
        assert!(position("tools", "AAAA").is_err());
    }

    #[test]
    fn sizes_are_bounded() {
        assert_eq!(size(0).unwrap(), 50);
        assert_eq!(size(7).unwrap(), 7);
        assert_eq!(size(5000).unwrap(), 1000);
        assert!(size(-1).is_err());
    }
}
