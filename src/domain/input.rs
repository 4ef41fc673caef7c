//! What a call gives a run besides its parameters and its standard input.

use super::pattern::PathPattern;
use bytes::Bytes;
use std::collections::BTreeMap;

/// Files, arguments, environment, and which files to give back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// Files to put into place before the run, each path once.
    pub files: Vec<InputFile>,
    /// Arguments of the program, without its own name.
    pub arguments: Vec<String>,
    /// Environment variables, on top of those the runtime sets.
    pub environment: BTreeMap<String, String>,
    /// Files whose contents to keep; empty leaves the choice to the runtime.
    pub return_files: Vec<PathPattern>,
}

impl Inputs {
    /// Whether the call gives nothing.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
            && self.arguments.is_empty()
            && self.environment.is_empty()
            && self.return_files.is_empty()
    }
}

/// A file to put into place before a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputFile {
    /// Path relative to the scratch directory or the workspace, as [`relative_path`] gives it.
    pub path: String,
    /// The content.
    pub data: Bytes,
    /// Permission bits.
    pub mode: u32,
}

/// Bytes of a path at most.
pub const MAX_PATH: usize = 4096;

/// A path in its one form: names joined by single slashes, without "." and not empty. An error says what is wrong.
pub fn relative_path(text: &str) -> Result<String, String> {
    if text.len() > MAX_PATH {
        return Err(format!("is {} bytes long; at most {MAX_PATH}", text.len()));
    }
    if text.contains('\0') {
        return Err("contains a NUL byte".into());
    }
    if text.starts_with('/') {
        return Err(format!("{text:?} is absolute; expected a path relative to where the run works"));
    }
    let names: Vec<&str> = text.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    if names.contains(&"..") {
        return Err(format!("{text:?} contains \"..\"; expected a path that stays below where the run works"));
    }
    if names.is_empty() {
        return Err("is required".into());
    }
    Ok(names.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_form_and_stay_below() {
        for (text, path) in [("a", "a"), ("./a//b/./c", "a/b/c"), ("...", "..."), ("ä b", "ä b"), ("a..b", "a..b")] {
            assert_eq!(relative_path(text).as_deref(), Ok(path));
        }
        for bad in ["", ".", "./", "/a", "..", "a/../b", "../a", "a/..", "a\0b", &"x".repeat(MAX_PATH + 1)] {
            assert!(relative_path(bad).is_err(), "{bad:?}");
        }
    }
}
