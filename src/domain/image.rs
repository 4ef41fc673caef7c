//! References to container images, and rules that say which are allowed.
//!
//! ```text
//! [registry/]repository[:tag][@algorithm:digest]
//! ```
//!
//! A reference is taken apart into its four parts, and the parts are compared: `docker.io/evil/python` has
//! nothing to do with a rule for `docker.io/library/python`, nor `ghcr.io.example.org` with one for `ghcr.io`.

use std::fmt;

/// Where images come from whose reference names no registry.
pub const DEFAULT_REGISTRY: &str = "docker.io";

/// The group of the default registry's own images, which their references leave out.
const DEFAULT_GROUP: &str = "library";

/// The tag of a reference with neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";

const MAX_REFERENCE: usize = 512;
const MAX_REPOSITORY: usize = 255;
const MAX_TAG: usize = 128;

/// A reference to an image, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImageReference {
    /// Host of the registry, with its port if it names one.
    pub registry: String,
    /// Path in the registry, such as `library/python`.
    pub repository: String,
    /// The tag; `None` if only a digest is given.
    pub tag: Option<String>,
    /// The digest, `sha256:` and 64 hexadecimal digits.
    pub digest: Option<String>,
}

impl ImageReference {
    /// Takes a reference apart; an error says which part is wrong and what was expected.
    pub fn parse(text: &str) -> Result<ImageReference, String> {
        if text.is_empty() || text.len() > MAX_REFERENCE {
            return Err(format!("has {} bytes; expected 1 to {MAX_REFERENCE}, such as \"python:3.12\"", text.len()));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(checked_digest(digest)?)),
            None => (text, None),
        };
        // A colon behind the last slash begins a tag; one before it, a port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(checked_tag(tag)?)),
            _ => (rest, None),
        };
        let (registry, repository) = match name.split_once('/') {
            Some((first, rest)) if is_registry(first) => (checked_registry(first)?, rest.to_owned()),
            _ => (DEFAULT_REGISTRY.to_owned(), name.to_owned()),
        };
        check_repository(&repository)?;
        let repository = match registry == DEFAULT_REGISTRY && !repository.contains('/') {
            true => format!("{DEFAULT_GROUP}/{repository}"),
            false => repository,
        };
        // What is left out counts as well: the whole form is a reference too.
        check_repository(&repository)?;
        let tag = tag.or_else(|| digest.is_none().then(|| DEFAULT_TAG.to_owned()));
        let image = ImageReference { registry, repository, tag, digest };
        match image.to_string().len() {
            0..=MAX_REFERENCE => Ok(image),
            length => Err(format!("has {length} bytes in full, as {image}; expected at most {MAX_REFERENCE}")),
        }
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// Whether the first part of a name is a host: it has a dot or a port, or is `localhost`.
fn is_registry(part: &str) -> bool {
    part.contains(['.', ':']) || part == "localhost"
}

fn checked_registry(host: &str) -> Result<String, String> {
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let port_fits = port.is_none_or(|port| digits(port) && port.parse::<u16>().is_ok_and(|port| port > 0));
    if !name.split('.').all(label) || !port_fits {
        return Err(format!("its registry {host:?} is no host name with an optional port"));
    }
    // Names of hosts know no case; those of registries are one and the same.
    let host = host.to_ascii_lowercase();
    Ok(if host == "index.docker.io" || host == "registry-1.docker.io" { DEFAULT_REGISTRY.into() } else { host })
}

fn check_repository(repository: &str) -> Result<(), String> {
    let component = |part: &str| {
        let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let plain =
            part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte));
        // Separators stand alone, but for two underscores and any number of hyphens.
        let separated = !["..", "___", "._", "_.", ".-", "-.", "_-", "-_"].iter().any(|pair| part.contains(pair));
        plain && separated && edge(part.bytes().next()) && edge(part.bytes().last())
    };
    if repository.len() > MAX_REPOSITORY || !repository.split('/').all(component) {
        return Err(format!(
            "its repository {repository:?} is not made of lower-case letters, digits and single separators (\".\", \
             \"_\", \"-\"), with \"/\" between the parts, in at most {MAX_REPOSITORY} bytes"
        ));
    }
    Ok(())
}

fn checked_tag(tag: &str) -> Result<String, String> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let rest = |byte: u8| word(byte) || byte == b'.' || byte == b'-';
    if tag.len() > MAX_TAG || !tag.bytes().next().is_some_and(word) || !tag.bytes().all(rest) {
        return Err(format!(
            "its tag {tag:?} is not made of 1 to {MAX_TAG} letters, digits, \"_\", \".\" and \"-\", beginning with \
             neither of the last two"
        ));
    }
    Ok(tag.to_owned())
}

fn checked_digest(digest: &str) -> Result<String, String> {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    match digest.strip_prefix("sha256:") {
        Some(digits) if digits.len() == 64 && digits.bytes().all(hex) => Ok(digest.to_owned()),
        _ => Err(format!("its digest {digest:?} is not \"sha256:\" and 64 hexadecimal digits")),
    }
}

/// A rule that allows images: `registry/repository[:tag][@digest]`, where a last `*` of the repository stands for one
/// part, `**` for any number of them, and a `*` at the end of the tag for any ending. Without a tag any is allowed; with
/// a digest only that one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRule {
    registry: String,
    repository: Vec<String>,
    rest: Rest,
    tag: Option<String>,
    digest: Option<String>,
}

/// What may follow the parts of a repository that a rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Nothing,
    One,
    Any,
}

impl ImageRule {
    /// A rule from its text; an error says what is wrong with it.
    pub fn parse(text: &str) -> Result<ImageRule, String> {
        let (named, digest) = match text.split_once('@') {
            Some((named, digest)) => (named, Some(checked_digest(digest)?)),
            None => (text, None),
        };
        let (name, tag) = match named.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (named, None),
        };
        if let Some(tag) = tag.map(|tag| tag.strip_suffix('*').unwrap_or(tag)).filter(|tag| !tag.is_empty()) {
            checked_tag(tag)?;
        }
        let (name, rest) = match (name.strip_suffix("/**"), name.strip_suffix("/*")) {
            (Some(name), _) => (name, Rest::Any),
            (_, Some(name)) => (name, Rest::One),
            _ => (name, Rest::Nothing),
        };
        if name.contains('*') {
            return Err("\"*\" and \"**\" stand at the end of a repository, behind a \"/\"".into());
        }
        if name.is_empty() || name.ends_with('/') {
            return Err("has no name before its last \"/\"; use \"registry/**\" for all of a registry".into());
        }
        let (registry, repository) = match name.split_once('/') {
            Some((first, rest)) if is_registry(first) => (checked_registry(first)?, rest),
            None if is_registry(name) && rest != Rest::Nothing => (checked_registry(name)?, ""),
            _ => (DEFAULT_REGISTRY.to_owned(), name),
        };
        if !repository.is_empty() {
            check_repository(repository)?;
        }
        let mut repository: Vec<String> =
            repository.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        if registry == DEFAULT_REGISTRY && repository.len() == 1 && rest == Rest::Nothing {
            repository.insert(0, DEFAULT_GROUP.into());
        }
        if repository.is_empty() && rest == Rest::Nothing {
            return Err("names no repository; use \"registry/**\" for all of a registry".into());
        }
        Ok(ImageRule { registry, repository, rest, tag: tag.map(str::to_owned), digest })
    }

    /// Whether it allows this image.
    pub fn allows(&self, image: &ImageReference) -> bool {
        let mut parts = image.repository.split('/');
        let begins = self.repository.iter().all(|part| parts.next() == Some(part));
        let rest = match self.rest {
            Rest::Nothing => parts.next().is_none(),
            Rest::One => parts.next().is_some() && parts.next().is_none(),
            Rest::Any => parts.next().is_some(),
        };
        let tag = match (&self.tag, &image.tag) {
            (None, _) => true,
            (Some(rule), Some(tag)) => match rule.strip_suffix('*') {
                Some(begin) => tag.starts_with(begin),
                None => tag == rule,
            },
            // A digest may be anything's: a rule for a tag says nothing of it.
            (Some(_), None) => false,
        };
        let digest = self.digest.is_none() || self.digest == image.digest;
        image.registry == self.registry && begins && rest && tag && digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn full(text: &str) -> String {
        ImageReference::parse(text).unwrap().to_string()
    }

    #[test]
    fn references_are_taken_apart() {
        for (text, whole) in [
            ("python", "docker.io/library/python:latest"),
            ("python:3.12", "docker.io/library/python:3.12"),
            ("acme/tools", "docker.io/acme/tools:latest"),
            ("docker.io/python", "docker.io/library/python:latest"),
            ("index.docker.io/acme/tools:1", "docker.io/acme/tools:1"),
            ("GHCR.io/acme/a/b:v1.0-rc.1", "ghcr.io/acme/a/b:v1.0-rc.1"),
            ("localhost/x", "localhost/x:latest"),
            ("localhost:5000/x:y", "localhost:5000/x:y"),
            ("127.0.0.1:5000/a__b/c--d", "127.0.0.1:5000/a__b/c--d:latest"),
        ] {
            assert_eq!(full(text), whole, "{text}");
            assert_eq!(full(whole), whole, "{whole}");
        }
        assert_eq!(full(&format!("python@{DIGEST}")), format!("docker.io/library/python@{DIGEST}"));
        assert_eq!(full(&format!("python:3@{DIGEST}")), format!("docker.io/library/python:3@{DIGEST}"));
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        let long = "a".repeat(MAX_REFERENCE + 1);
        // Too long with what they leave out.
        let whole = ["a".repeat(MAX_REPOSITORY - 3), format!("{}.y/{}a", "x".repeat(250), "a/".repeat(127))];
        for text in &whole {
            assert!(text.len() <= MAX_REFERENCE && ImageReference::parse(text).is_err(), "{text}");
        }
        for text in [
            "",
            " ",
            "Python",
            "a b",
            "-a",
            "a-",
            "a..b",
            "a/",
            "/a",
            "a//b",
            "a:",
            ":a",
            "a:-x",
            "a@",
            "a@sha256:12",
            "a@md5:0123",
            "x.y:99999/a",
            "x.y:/a",
            "x.y:+1/a",
            ".x/a",
            "-.y/a",
            "a\n",
            "ä",
            "a/../b",
            "http://x.y/a",
            &long,
        ] {
            assert!(ImageReference::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn rules_compare_parts_not_texts() {
        for (rule, allowed, refused) in [
            ("python", &["python", "docker.io/library/python:3"][..], &["acme/python", "x.y/python", "python3"][..]),
            ("python:3.*", &["python:3.12"], &["python", "python:3", "python:2.7"]),
            ("acme/*", &["acme/a", "acme/b:1"], &["acme/a/b", "acmee/a", "ghcr.io/acme/a", "python"]),
            ("ghcr.io/acme/**", &["ghcr.io/acme/a", "ghcr.io/acme/a/b:3"], &["ghcr.io/acme", "ghcr.io.x.y/acme/a"]),
            ("localhost:5000/**", &["localhost:5000/a"], &["localhost/a", "localhost:5001/a"]),
        ] {
            let parsed = ImageRule::parse(rule).unwrap();
            let allows = |text: &str| parsed.allows(&ImageReference::parse(text).unwrap());
            assert!(allowed.iter().all(|text| allows(text)), "{rule}: {allowed:?}");
            assert!(!refused.iter().any(|text| allows(text)), "{rule}: {refused:?}");
        }
        let pinned = ImageRule::parse(&format!("python@{DIGEST}")).unwrap();
        assert!(pinned.allows(&ImageReference::parse(&format!("python@{DIGEST}")).unwrap()));
        assert!(!pinned.allows(&ImageReference::parse("python").unwrap()));
        // A tag that is asked for by digest alone is not known to be that tag.
        let tagged = ImageRule::parse("python:3").unwrap();
        assert!(!tagged.allows(&ImageReference::parse(&format!("python@{DIGEST}")).unwrap()));
        for text in ["", "/**", "/*", "ghcr.io//**", "*", "a*", "*/a", "a/*/b", "a:*b", "A"] {
            assert!(ImageRule::parse(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_reference_that_stays_itself_or_refused(text in "[a-zA-Z0-9./:@_*-]{0,60}") {
            if let Ok(reference) = ImageReference::parse(&text) {
                prop_assert_eq!(ImageReference::parse(&reference.to_string()).unwrap(), reference);
            }
            let _ = ImageRule::parse(&text);
        }
    }
}
