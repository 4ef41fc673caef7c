//! Files into an isolate, and files out of it.

use super::wasi::{Change, Wasi};
use crate::domain::input::InputFile;
use crate::domain::io::OutputSink;
use crate::domain::output::{FileChunk, MAX_FILE_CHUNK, MAX_LISTED_FILES, OutputFile};
use crate::domain::pattern::PathPattern;
use crate::error::{Error, Result, Violation};
use bytes::Bytes;
use sha2::{Digest, Sha256};

/// Puts files into the scratch directory and notes where things stand, so that what changes after is known.
pub(super) fn put(wasi: &mut Wasi, files: &[InputFile]) -> Result<()> {
    let mut violations = Vec::new();
    for (index, file) in files.iter().enumerate() {
        if let Err(problem) = wasi.put(&file.path, &file.data, file.mode) {
            violations.push(Violation::new(format!("call.files[{index}]"), format!("{:?}: {problem}", file.path)));
        }
    }
    wasi.mark();
    if violations.is_empty() { Ok(()) } else { Err(Error::InvalidArgument(violations)) }
}

/// What the run made or changed since the mark: the listed files, and how many more there are. Those that
/// match a pattern go to the sink in pieces, within `budget` bytes; no pattern means all.
pub(super) fn give_back(
    wasi: &Wasi,
    output: &dyn OutputSink,
    patterns: Option<&[PathPattern]>,
    budget: u64,
) -> (Vec<OutputFile>, u64) {
    let (mut changes, unlisted) = wasi.changes(MAX_LISTED_FILES);
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    let mut left = budget;
    let mut files = Vec::new();
    for change in changes {
        let wanted = patterns.is_some_and(|patterns| {
            patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(&change.path))
        });
        let mut file = OutputFile {
            path: change.path.clone(),
            size_bytes: change.size,
            mode: change.mode,
            created: change.created,
            link_target: change.link_target.clone(),
            ..OutputFile::default()
        };
        if wanted && file.link_target.is_empty() {
            keep(wasi, &change, &mut file, &mut left, output);
        }
        files.push(file);
    }
    (files, unlisted)
}

fn keep(wasi: &Wasi, change: &Change, file: &mut OutputFile, left: &mut u64, output: &dyn OutputSink) {
    if change.size > *left {
        file.problem = format!("its {} bytes are more than what is left of limits.scratch_bytes, {left}", change.size);
        return;
    }
    let Some(content) = wasi.content(change) else {
        file.problem = "it cannot be read".into();
        return;
    };
    *left -= content.len() as u64;
    file.kept = true;
    file.digest = hex::encode(Sha256::digest(&content));
    let mut offset = 0;
    let mut rest: Bytes = content;
    loop {
        let data = rest.split_to(rest.len().min(MAX_FILE_CHUNK));
        let last = rest.is_empty();
        let length = data.len() as u64;
        output.file(FileChunk { path: file.path.clone(), offset, data, file: last.then(|| file.clone()) });
        offset += length;
        if last {
            return;
        }
    }
}
