//! Who calls, and whether they may. Everything here fails closed.

pub mod permission;

use crate::error::{Error, Result};
use permission::Permission;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use subtle::{Choice, ConstantTimeEq};

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Name, as executions show it.
    pub name: Arc<str>,
    /// The most it may do.
    pub may: Permission,
}

/// Recognises principals by their bearer tokens.
pub struct Authenticator {
    tokens: Vec<(Digest32, Arc<Principal>)>,
    /// Who calls when no token is configured: only a server that listens on loopback has one.
    nobody: Option<Arc<Principal>>,
}

type Digest32 = [u8; 32];

impl Authenticator {
    /// Asks for this token. The token itself is not kept, only its hash.
    pub fn token(token: &str) -> Self {
        let operator = Principal { name: "operator".into(), may: Permission::Administer };
        Authenticator { tokens: vec![(digest(token.as_bytes()), Arc::new(operator))], nobody: None }
    }

    /// Asks for nothing. The configuration allows it on loopback only.
    pub fn open() -> Self {
        let local = Principal { name: "local".into(), may: Permission::Administer };
        Authenticator { tokens: Vec::new(), nobody: Some(Arc::new(local)) }
    }

    /// The principal of a call with this `authorization` header.
    pub fn authenticate(&self, header: Option<&[u8]>) -> Result<Arc<Principal>> {
        if let Some(local) = &self.nobody {
            return Ok(local.clone());
        }
        let refuse = |problem| Err(Error::Unauthenticated { problem });
        let Some(header) = header else {
            return refuse("the authorization header is missing; send \"authorization: Bearer TOKEN\"");
        };
        let Some((scheme, token)) = header.iter().position(|&byte| byte == b' ').map(|at| header.split_at(at)) else {
            return refuse("the authorization header is malformed; expected \"Bearer TOKEN\"");
        };
        if !scheme.eq_ignore_ascii_case(b"bearer") {
            return refuse("the authorization scheme is not supported; expected \"Bearer TOKEN\"");
        }
        // Hashes have one length, and every token is compared: time tells nothing about any of them.
        let presented = digest(token.trim_ascii());
        let mut found = None;
        for (known, principal) in &self.tokens {
            let same: Choice = known.ct_eq(&presented);
            if bool::from(same) {
                found = Some(principal);
            }
        }
        found.cloned().map_or_else(|| refuse("the token is not valid; \"casemate init\" shows where it is kept"), Ok)
    }
}

impl Principal {
    /// Whether it may call a method that needs this permission.
    pub fn allowed(&self, method: &str, needed: Permission) -> Result<()> {
        if self.may >= needed {
            return Ok(());
        }
        Err(Error::PermissionDenied {
            principal: self.name.to_string(),
            method: method.to_owned(),
            permission: needed.name(),
        })
    }
}

fn digest(token: &[u8]) -> Digest32 {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "correct-horse-battery-staple-0123456789";

    #[test]
    fn only_the_token_is_let_in() {
        let authenticator = Authenticator::token(TOKEN);
        let good = format!("Bearer {TOKEN}");
        assert_eq!(&*authenticator.authenticate(Some(good.as_bytes())).unwrap().name, "operator");
        assert!(authenticator.authenticate(Some(format!("bearer  {TOKEN}").as_bytes())).is_ok());
        for bad in ["", "Bearer", "Bearer ", "Basic abc", TOKEN, &good[..good.len() - 1], &format!("{good}x")] {
            assert!(authenticator.authenticate(Some(bad.as_bytes())).is_err(), "{bad:?}");
        }
        assert!(authenticator.authenticate(None).is_err());
    }

    #[test]
    fn permissions_are_ordered() {
        let reader = Principal { name: "r".into(), may: Permission::Read };
        assert!(reader.allowed("m", Permission::Read).is_ok());
        assert!(matches!(reader.allowed("m", Permission::Execute), Err(Error::PermissionDenied { .. })));
    }
}
