//! Patterns that select files by path: `*` for any part of a name, `**` for any number of directories.

use super::input::relative_path;
use std::fmt;

/// A pattern such as `out/*.png` or `**/report.csv`. Everything but `*` stands for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    /// In the form of [`relative_path`].
    text: String,
}

impl PathPattern {
    /// A pattern from its text; an error says what is wrong with it.
    pub fn parse(text: &str) -> Result<PathPattern, String> {
        let text = relative_path(text)?;
        match text.split('/').find(|name| name.contains("**") && *name != "**") {
            Some(name) => Err(format!("{name:?}: \"**\" stands alone between slashes; use \"*\" within a name")),
            None => Ok(PathPattern { text }),
        }
    }

    /// Whether it selects this path, which must be in the form of [`relative_path`].
    pub fn matches(&self, path: &str) -> bool {
        let pattern: Vec<&str> = self.text.split('/').collect();
        let path: Vec<&str> = path.split('/').collect();
        wild(&pattern, &path, |part| *part == "**", |part, name| name_matches(part, name))
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn name_matches(pattern: &str, name: &str) -> bool {
    wild(pattern.as_bytes(), name.as_bytes(), |part| *part == b'*', |part, byte| part == byte)
}

/// Whether a sequence matches a pattern in which some parts stand for any number of items. Takes no more steps
/// than the product of the two lengths: a later wildcard makes an earlier one's choice final.
fn wild<P, T>(pattern: &[P], items: &[T], any: impl Fn(&P) -> bool, same: impl Fn(&P, &T) -> bool) -> bool {
    let (mut at, mut item) = (0, 0);
    // Where to go on if what follows the last wildcard does not fit.
    let mut retry: Option<(usize, usize)> = None;
    while item < items.len() {
        match pattern.get(at) {
            Some(part) if any(part) => {
                at += 1;
                retry = Some((at, item));
            }
            Some(part) if same(part, &items[item]) => {
                at += 1;
                item += 1;
            }
            _ => match &mut retry {
                Some((after, from)) => {
                    *from += 1;
                    (at, item) = (*after, *from);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(any)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, path: &str) -> bool {
        PathPattern::parse(pattern).unwrap().matches(path)
    }

    #[test]
    fn stars_stay_within_a_name_and_double_stars_cross_directories() {
        for (pattern, path) in [
            ("a", "a"),
            ("*", "a"),
            ("*", ".hidden"),
            ("*.png", "plot.png"),
            ("*.png", ".png"),
            ("out/*", "out/a"),
            ("o*t/*-*.c*", "output/a-b.csv"),
            ("**", "a/b/c"),
            ("**/a", "a"),
            ("**/a", "x/y/a"),
            ("a/**", "a/b/c"),
            ("a/**/b", "a/b"),
            ("a/**/b", "a/x/y/b"),
            ("**/x/**/y", "x/x/z/y/y"),
            ("[a]?", "[a]?"),
            ("./a//b", "a/b"),
        ] {
            assert!(matches(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in
            [("a", "b"), ("a", "a/b"), ("*", "a/b"), ("*.png", "a/b.png"), ("a/*", "a"), ("a/**/b", "a/c"), ("?", "a")]
        {
            assert!(!matches(pattern, path), "{pattern} {path}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in ["", "/a", "../*", "a/../b", "a**", "**.png", "a/b**/c", "***"] {
            assert!(PathPattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_pattern_takes_long() {
        let name = "a".repeat(2000);
        assert!(!matches(&format!("{}b", "*a".repeat(1000)), &name));
        assert!(!matches(&format!("{}b", "**/a/".repeat(800)), "a/".repeat(2000).trim_end_matches('/')));
    }

    /// The definition, word by word.
    fn names_match(pattern: &[&str], path: &[&str]) -> bool {
        match (pattern, path) {
            ([], []) => true,
            (["**", rest @ ..], _) => (0..=path.len()).any(|skipped| names_match(rest, &path[skipped..])),
            ([part, rest @ ..], [name, names @ ..]) => {
                let (part, name): (Vec<char>, Vec<char>) = (part.chars().collect(), name.chars().collect());
                chars_match(&part, &name) && names_match(rest, names)
            }
            _ => false,
        }
    }

    fn chars_match(pattern: &[char], name: &[char]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            (['*', rest @ ..], _) => (0..=name.len()).any(|skipped| chars_match(rest, &name[skipped..])),
            ([part, rest @ ..], [first, others @ ..]) => part == first && chars_match(rest, others),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_is_what_its_definition_says(
            pattern in proptest::collection::vec(prop_oneof![Just("**".to_owned()), "[ab*ü]{1,4}"], 1..5),
            path in proptest::collection::vec("[abü]{1,4}", 1..5),
        ) {
            let pattern: Vec<&str> = pattern.iter().map(String::as_str).collect();
            let names: Vec<&str> = path.iter().map(String::as_str).collect();
            let Ok(parsed) = PathPattern::parse(&pattern.join("/")) else { return Ok(()) };
            prop_assert_eq!(parsed.matches(&path.join("/")), names_match(&pattern, &names));
        }
    }
}
