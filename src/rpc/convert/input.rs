//! What a call gives a run besides its parameters: the messages' bounds are checked here, every problem told.

use crate::domain::input::{InputFile, Inputs, relative_path};
use crate::domain::pattern::PathPattern;
use crate::error::{Error, Result, Violation};
use crate::proto::v1;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

const MAX_FILES: usize = 1000;
const MAX_ARGUMENTS: usize = 1024;
const MAX_ARGUMENT_BYTES: usize = 64 << 10;
const MAX_VARIABLES: usize = 256;
const MAX_ENVIRONMENT_BYTES: usize = 64 << 10;
const MAX_STDIN: usize = 1 << 20;
const MAX_RETURN_FILES: usize = 64;
const DEFAULT_MODE: u32 = 0o644;
/// Problems told at most: they travel in the trailers of an answer.
const MAX_PROBLEMS: usize = 16;
/// Characters of one: it quotes what was sent.
const MAX_PROBLEM: usize = 200;

/// Takes out of a call its files, arguments, environment and patterns, and its first bytes of standard input.
pub fn inputs(call: &mut v1::ToolCall) -> Result<(Inputs, Bytes)> {
    let mut problems = Problems::default();
    let stdin = std::mem::take(&mut call.stdin);
    if stdin.len() > MAX_STDIN {
        let hint = "send the rest with WriteStdin, and keep_stdin_open set";
        problems.add("call.stdin", format!("is {} bytes; at most {MAX_STDIN}: {hint}", stdin.len()));
    }
    let inputs = Inputs {
        files: files(std::mem::take(&mut call.files), &mut problems),
        arguments: arguments(std::mem::take(&mut call.arguments), &mut problems),
        environment: environment("call.environment", std::mem::take(&mut call.environment), &mut problems),
        return_files: patterns(&call.return_files, &mut problems),
    };
    problems.none().map(|()| (inputs, stdin))
}

/// Environment variables in a message of its own.
pub fn variables(field: &str, sent: BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    let mut problems = Problems::default();
    let sent = environment(field, sent, &mut problems);
    problems.none().map(|()| sent)
}

#[derive(Default)]
struct Problems {
    told: Vec<Violation>,
}

impl Problems {
    fn add(&mut self, field: impl Into<String>, text: impl Into<String>) {
        if self.told.len() < MAX_PROBLEMS {
            let text: String = text.into();
            self.told.push(Violation::new(field, text.chars().take(MAX_PROBLEM).collect::<String>()));
        }
    }

    fn none(self) -> Result<()> {
        if self.told.is_empty() { Ok(()) } else { Err(Error::InvalidArgument(self.told)) }
    }
}

fn files(sent: Vec<v1::InputFile>, problems: &mut Problems) -> Vec<InputFile> {
    if sent.len() > MAX_FILES {
        problems.add("call.files", format!("are {}; at most {MAX_FILES}", sent.len()));
        return Vec::new();
    }
    let mut files = Vec::with_capacity(sent.len());
    for (at, file) in sent.into_iter().enumerate() {
        let mode = file.mode.unwrap_or(DEFAULT_MODE);
        if mode > 0o777 {
            problems.add(format!("call.files[{at}].mode"), format!("is 0o{mode:o}; expected 0 to 0o777"));
        }
        match relative_path(&file.path) {
            Ok(path) => files.push(InputFile { path, data: file.data, mode }),
            Err(problem) => problems.add(format!("call.files[{at}].path"), problem),
        }
    }
    let mut paths = BTreeSet::new();
    for file in &files {
        if !paths.insert(file.path.as_str()) {
            problems.add("call.files", format!("path {:?} is there twice", file.path));
        }
    }
    for path in &paths {
        // Above a file there are directories only.
        let above = path.match_indices('/').map(|(end, _)| &path[..end]);
        if let Some(file) = above.into_iter().find(|above| paths.contains(above)) {
            problems.add("call.files", format!("{file:?} is a file, so {path:?} cannot be below it"));
        }
    }
    files
}

fn arguments(sent: Vec<String>, problems: &mut Problems) -> Vec<String> {
    if sent.len() > MAX_ARGUMENTS {
        problems.add("call.arguments", format!("are {}; at most {MAX_ARGUMENTS}", sent.len()));
    }
    let bytes: usize = sent.iter().map(String::len).sum();
    if bytes > MAX_ARGUMENT_BYTES {
        problems.add("call.arguments", format!("are {bytes} bytes together; at most {MAX_ARGUMENT_BYTES}"));
    }
    for (at, argument) in sent.iter().enumerate() {
        if argument.contains('\0') {
            problems.add(format!("call.arguments[{at}]"), "contains a NUL byte");
        }
    }
    sent
}

fn environment(field: &str, sent: BTreeMap<String, String>, problems: &mut Problems) -> BTreeMap<String, String> {
    if sent.len() > MAX_VARIABLES {
        problems.add(field, format!("are {}; at most {MAX_VARIABLES}", sent.len()));
    }
    let bytes: usize = sent.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > MAX_ENVIRONMENT_BYTES {
        problems.add(field, format!("are {bytes} bytes together; at most {MAX_ENVIRONMENT_BYTES}"));
    }
    for (name, value) in &sent {
        if name.is_empty() || name.contains(['=', '\0']) {
            problems.add(field, format!("{name:?} is not a variable's name"));
        } else if let Some(steers) = steers(name) {
            problems.add(field, format!("{name:?} steers {steers}, and is set by the server only"));
        }
        if value.contains('\0') {
            problems.add(field, format!("the value of {name:?} contains a NUL byte"));
        }
    }
    sent
}

/// What a variable of this name would steer besides the program.
fn steers(name: &str) -> Option<&'static str> {
    let upper = name.to_ascii_uppercase();
    if upper.starts_with("CASEMATE_") {
        return Some("the supervisor");
    }
    if name.starts_with("LD_") || name == "GLIBC_TUNABLES" {
        return Some("the loader");
    }
    // Programs read them in small and in capital letters.
    matches!(upper.as_str(), "HTTP_PROXY" | "HTTPS_PROXY" | "FTP_PROXY" | "ALL_PROXY" | "NO_PROXY")
        .then_some("the proxy")
}

fn patterns(sent: &[String], problems: &mut Problems) -> Vec<PathPattern> {
    if sent.len() > MAX_RETURN_FILES {
        problems.add("call.return_files", format!("are {}; at most {MAX_RETURN_FILES}", sent.len()));
        return Vec::new();
    }
    let mut patterns = Vec::with_capacity(sent.len());
    for (at, text) in sent.iter().enumerate() {
        match PathPattern::parse(text) {
            Ok(pattern) => patterns.push(pattern),
            Err(problem) => problems.add(format!("call.return_files[{at}]"), problem),
        }
    }
    patterns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> v1::InputFile {
        v1::InputFile { path: path.into(), ..Default::default() }
    }

    fn fields(change: impl FnOnce(&mut v1::ToolCall)) -> Vec<String> {
        let mut call = v1::ToolCall::default();
        change(&mut call);
        match inputs(&mut call) {
            Ok(_) => Vec::new(),
            Err(Error::InvalidArgument(violations)) => violations.into_iter().map(|found| found.field).collect(),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn what_is_within_bounds_is_taken_as_it_is() {
        let mut call = v1::ToolCall {
            files: vec![v1::InputFile { path: "./a//b".into(), data: "x".into(), mode: Some(0o600) }, file("c")],
            arguments: vec!["-v".into(), String::new()],
            environment: [("A".to_owned(), "1".to_owned())].into(),
            stdin: vec![0; MAX_STDIN].into(),
            return_files: vec!["**/*.png".into()],
            ..Default::default()
        };
        let (taken, stdin) = inputs(&mut call).unwrap();
        assert_eq!(stdin.len(), MAX_STDIN);
        assert_eq!(taken.files[0], InputFile { path: "a/b".into(), data: "x".into(), mode: 0o600 });
        assert_eq!(taken.files[1].mode, DEFAULT_MODE);
        assert_eq!(taken.arguments, ["-v", ""]);
        assert_eq!(taken.environment["A"], "1");
        assert!(taken.return_files[0].matches("x/plot.png"));
    }

    #[test]
    fn every_bound_has_its_refusal() {
        let many = |count: usize| (0..count).map(|number| number.to_string());
        let cases: Vec<(&str, Vec<String>)> = vec![
            ("call.files", fields(|call| call.files = many(MAX_FILES + 1).map(|path| file(&path)).collect())),
            ("call.files[1].path", fields(|call| call.files = vec![file("a"), file("../b")])),
            ("call.files[0].path", fields(|call| call.files = vec![file("")])),
            ("call.files", fields(|call| call.files = vec![file("a/b"), file("a//b")])),
            ("call.files", fields(|call| call.files = vec![file("a"), file("a/b/c")])),
            (
                "call.files[0].mode",
                fields(|call| {
                    call.files = vec![v1::InputFile { mode: Some(0o1777), ..file("a") }];
                }),
            ),
            ("call.arguments", fields(|call| call.arguments = many(MAX_ARGUMENTS + 1).collect())),
            ("call.arguments", fields(|call| call.arguments = vec!["x".repeat(MAX_ARGUMENT_BYTES + 1)])),
            ("call.arguments[0]", fields(|call| call.arguments = vec!["\0".into()])),
            (
                "call.environment",
                fields(|call| {
                    call.environment = many(MAX_VARIABLES + 1).map(|name| (name, String::new())).collect();
                }),
            ),
            (
                "call.environment",
                fields(|call| {
                    call.environment = [("A".to_owned(), "x".repeat(MAX_ENVIRONMENT_BYTES))].into();
                }),
            ),
            ("call.stdin", fields(|call| call.stdin = vec![0; MAX_STDIN + 1].into())),
            ("call.return_files", fields(|call| call.return_files = many(MAX_RETURN_FILES + 1).collect())),
            ("call.return_files[1]", fields(|call| call.return_files = vec!["*".into(), "/x".into()])),
        ];
        for (field, found) in cases {
            assert_eq!(found, [field]);
        }
        for name in ["", "A=B", "A\0", "LD_PRELOAD", "http_proxy", "NO_PROXY", "CASEMATE_TOKEN"] {
            let found = fields(|call| call.environment = [(name.to_owned(), String::new())].into());
            assert_eq!(found, ["call.environment"], "{name:?}");
        }
        assert_eq!(fields(|call| call.return_files = vec!["/".into(); 64]).len(), MAX_PROBLEMS);
    }
}
