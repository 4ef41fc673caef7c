//! Paths and names inside a container.

/// Where the supervisor and its socket are.
pub const OWN: &str = "/.casemate";

const MAX_PATH: usize = 1024;
/// What is the kernel's or the server's.
const RESERVED: [&str; 4] = ["/proc", "/sys", "/dev", OWN];

/// A path inside as it is used: absolute, without anything that goes up, and nowhere that is reserved.
///
/// # Errors
/// In words, to follow the field's name.
pub fn inside(path: &str) -> Result<String, String> {
    if !path.starts_with('/') || path.len() > MAX_PATH || path.chars().any(char::is_control) {
        let shown: String = path.chars().take(80).collect();
        return Err(format!("is {shown:?}; expected an absolute path of at most {MAX_PATH} bytes"));
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(format!("is {path:?}; \"..\" is not allowed"));
    }
    // The engine separates the options of a mount by these.
    if path.contains([':', ',']) {
        return Err(format!("is {path:?}; \":\" and \",\" are not allowed"));
    }
    let path = format!("/{}", parts.join("/"));
    let below = |reserved: &str| path == reserved || path.starts_with(&format!("{reserved}/"));
    if path == "/" || RESERVED.iter().any(|reserved| below(reserved)) {
        return Err(format!("is {path:?}, which is reserved"));
    }
    Ok(path)
}

/// A host name made of a container's name.
pub fn hostname(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let host: String = name.chars().map(plain).take(63).collect();
    host.trim_matches('-').to_owned()
}

/// Whether this is a host name.
pub fn is_hostname(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('-') && !name.ends_with('-')
}

/// Whether a container may have this name.
pub fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.".contains(&byte);
    (1..=63).contains(&name.len()) && name.as_bytes()[0].is_ascii_lowercase() && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_inside_are_plain_and_free() {
        assert_eq!(inside("/a//b/./c/").unwrap(), "/a/b/c");
        for path in
            ["", "a", "/", "/a/../b", "/proc", "/proc/1", "/dev/shm", "/.casemate/x", "/a:b", "/a,b", "/a\nb", "/sys"]
        {
            assert!(inside(path).is_err(), "{path:?}");
        }
        assert!(inside("/process").is_ok() && inside("/.casemate2").is_ok());
    }

    #[test]
    fn names_are_names() {
        assert!(is_name("a") && is_name("worker-1.x_y"));
        for name in ["", "1a", "A", "a b", "-a", &"a".repeat(64)] {
            assert!(!is_name(name), "{name:?}");
        }
        assert_eq!(hostname("worker.1_x."), "worker-1-x");
        assert!(is_hostname("worker-1") && !is_hostname("-a") && !is_hostname("a_b"));
    }
}
