//! Environment variables: which names nobody may set, because they steer what is not the caller's.

use crate::error::Violation;
use std::collections::BTreeMap;

/// Variables in one environment at most.
const MAX_VARIABLES: usize = 256;
/// Bytes of one environment, names and values together, at most.
const MAX_BYTES: usize = 64 << 10;

/// What steers the dynamic loader and the C library, the gate's address, and the supervisor.
const REFUSED: [&str; 19] = [
    "GCONV_PATH",
    "GETCONF_DIR",
    "GLIBC_TUNABLES",
    "HOSTALIASES",
    "LOCALDOMAIN",
    "LOCPATH",
    "MALLOC_TRACE",
    "NIS_PATH",
    "NLSPATH",
    "RESOLV_HOST_CONF",
    "RES_OPTIONS",
    "TZDIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];
/// Names that begin like this.
const REFUSED_BEGINNINGS: [&str; 4] = ["LD_", "DYLD_", "CASEMATE_", "MALLOC_CONF"];

/// Why nobody may set a variable, if so.
pub fn refused(name: &str) -> Option<&'static str> {
    let upper = name.to_ascii_uppercase();
    let begins = |beginning: &str| upper.starts_with(beginning);
    if upper.starts_with("CASEMATE_") {
        return Some("is between the server and its supervisor");
    }
    if upper.ends_with("_PROXY") || upper.starts_with("SSL_CERT_") {
        return Some("says where the gate is, and is the server's");
    }
    let steers = REFUSED.contains(&upper.as_str()) || REFUSED_BEGINNINGS.iter().any(|beginning| begins(beginning));
    steers.then_some("steers the loader or the C library of every program; set it for one program inside, with `env`")
}

/// Checks an environment that a caller gave. Adds what is wrong with it.
pub fn check(field: &str, variables: &BTreeMap<String, String>, violations: &mut Vec<Violation>) {
    let mut refuse = |text: String| violations.push(Violation::new(field, text));
    if variables.len() > MAX_VARIABLES {
        refuse(format!("has {} variables; at most {MAX_VARIABLES}", variables.len()));
    }
    let bytes: usize = variables.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    if bytes > MAX_BYTES {
        refuse(format!("has {bytes} bytes; at most {MAX_BYTES}"));
    }
    for (name, value) in variables.iter().take(MAX_VARIABLES) {
        let shown: String = name.chars().take(64).collect();
        if name.is_empty() || name.contains(['=', '\0']) {
            refuse(format!("has the name {shown:?}; expected one without \"=\" and zero bytes"));
        } else if value.contains('\0') {
            refuse(format!("has a zero byte in the value of {shown:?}"));
        } else if let Some(why) = refused(name) {
            refuse(format!("{shown:?} {why}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_steer_are_refused_however_they_are_written() {
        for name in [
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "ld_audit",
            "GLIBC_TUNABLES",
            "http_proxy",
            "HTTPS_PROXY",
            "CASEMATE_GUEST_X",
            "SSL_CERT_FILE",
        ] {
            assert!(refused(name).is_some(), "{name}");
        }
        for name in ["PATH", "HOME", "PYTHONPATH", "OLD_THING", "PROXY", "LANG", "TERM"] {
            assert!(refused(name).is_none(), "{name}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_told() {
        let of = |pairs: &[(&str, &str)]| {
            let mut violations = Vec::new();
            let map = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            check("environment", &map, &mut violations);
            violations.len()
        };
        assert_eq!(of(&[("A", "1"), ("B", "=")]), 0);
        assert_eq!(of(&[("", "1"), ("A=B", "1"), ("C", "\0"), ("LD_PRELOAD", "x")]), 4);
        assert_eq!(of(&[("A", &"x".repeat(MAX_BYTES))]), 1);
    }
}
