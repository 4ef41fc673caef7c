//! What a run gives besides its two streams: things to look at, files, and the exception that ended it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Something to look at, in one or more forms of the same content, the richest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RichOutput {
    /// Why it was produced.
    pub kind: RichOutputKind,
    /// One for each MIME type.
    pub representations: Vec<Representation>,
    /// An output with the same one in the same run replaces this one; empty for none.
    pub display_id: String,
    /// What the program said about the forms, as the text of a JSON object; empty for nothing.
    pub metadata: String,
}

impl RichOutput {
    /// Size of what it holds, in bytes.
    pub fn weight(&self) -> u64 {
        let form =
            |form: &Representation| form.mime_type.len() as u64 + FORM + form.content.as_ref().map_or(0, Content::size);
        (self.display_id.len() + self.metadata.len()) as u64 + self.representations.iter().map(form).sum::<u64>()
    }

    /// Size of the contents of its forms, in bytes.
    pub fn content_size(&self) -> u64 {
        self.representations.iter().filter_map(|form| form.content.as_ref()).map(Content::size).sum()
    }

    /// Keeps the contents that fit into so many bytes together, the plainest forms first, so that there is
    /// something to show in any case; the others tell their size only. Answers the bytes left out.
    pub fn fit(&mut self, room: u64) -> u64 {
        let (mut left, mut out) = (room, 0);
        for form in self.representations.iter_mut().rev() {
            let size = form.content.as_ref().map_or(0, Content::size);
            if size <= left {
                left -= size;
            } else {
                form.content = None;
                out += size;
            }
        }
        out
    }

    /// Within the bounds of the contract: at most [`MAX_FORMS`] forms, whose contents take at most `room` and
    /// [`MAX_RICH_OUTPUT`]. Answers the bytes left out.
    pub fn bound(&mut self, room: u64) -> u64 {
        let before = self.weight();
        // The richest come first and the plain text last, and that one is always wanted.
        while self.representations.len() > MAX_FORMS {
            self.representations.remove(MAX_FORMS - 1);
        }
        if self.metadata.len() > MAX_METADATA {
            self.metadata.clear();
        }
        self.fit(room.min(MAX_RICH_OUTPUT));
        before - self.weight()
    }
}

/// What one form costs besides its content.
const FORM: u64 = 32;
/// Forms of one output at most.
pub const MAX_FORMS: usize = 32;
/// Bytes of what a program says about the forms of one output; more is left out.
pub const MAX_METADATA: usize = 64 << 10;

/// Why a rich output was produced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RichOutputKind {
    /// It is the value of the last expression.
    Value,
    /// The program displayed it.
    Display,
}

/// One form of a rich output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Representation {
    /// MIME type, lower-case, without parameters.
    pub mime_type: String,
    /// The content; `None` when it did not fit.
    pub content: Option<Content>,
    /// Size of the content in bytes, also when it did not fit.
    pub size_bytes: u64,
}

/// The content of a [`Representation`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// For text, SVG and JSON.
    Text(String),
    /// For anything else.
    Data(Bytes),
}

impl Content {
    /// Size in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Content::Text(text) => text.len() as u64,
            Content::Data(data) => data.len() as u64,
        }
    }
}

/// A file that a run made or changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputFile {
    /// Path, relative to the scratch directory.
    pub path: String,
    /// Size in bytes; 0 for anything but a regular file.
    pub size_bytes: u64,
    /// Permission bits.
    pub mode: u32,
    /// Whether the run made it; otherwise it was there and was changed.
    pub created: bool,
    /// Where a symbolic link points to; empty for anything else.
    pub link_target: String,
    /// SHA-256 of the content, hex; set when it was kept.
    pub digest: String,
    /// Whether the content was kept.
    pub kept: bool,
    /// Why a content that was asked for was not kept; empty otherwise.
    pub problem: String,
}

/// A piece of the content of a file that a run left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChunk {
    /// Path, as in [`OutputFile`].
    pub path: String,
    /// Offset of the first byte in the file.
    pub offset: u64,
    /// The bytes; at most [`MAX_FILE_CHUNK`].
    pub data: Bytes,
    /// The file; in its last piece only.
    pub file: Option<OutputFile>,
}

/// A stage of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// The compiler works.
    Compile,
    /// The program runs.
    Run,
}

/// How a stage of a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageResult {
    /// Which one.
    pub stage: Stage,
    /// Exit code; meaningful when no signal ended it and it was not cut off.
    pub exit_code: i32,
    /// Name of the signal that ended it; empty for none.
    pub signal: String,
    /// How long it took.
    pub run_time: Duration,
    /// Where its output begins in that of the run: standard output, standard error.
    pub offsets: [u64; 2],
    /// What a compiler printed, cut; empty for a run.
    pub diagnostics: String,
}

impl StageResult {
    /// Bytes of what a compiler printed at most, where the first errors are.
    pub const MAX_DIAGNOSTICS: usize = 64 << 10;
}

/// Bytes of one piece of a file at most.
pub const MAX_FILE_CHUNK: usize = 256 << 10;

/// Bytes that all forms of one rich output may take together, so that an event fits a message.
pub const MAX_RICH_OUTPUT: u64 = 3 << 20;

/// Files that a result lists at most.
pub const MAX_LISTED_FILES: usize = 1000;

/// An exception that nobody caught and that so ended the run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExceptionInfo {
    /// Type, with its module when that is not a built-in one.
    pub type_name: String,
    /// Its message.
    pub message: String,
    /// The whole traceback as the interpreter prints it.
    pub traceback: String,
    /// The frames in the caller's own code, outermost first.
    pub frames: Vec<ExceptionFrame>,
}

impl ExceptionInfo {
    /// Bytes of a type's name at most; longer ones are cut.
    pub const MAX_TYPE_NAME: usize = 1 << 10;
    /// Bytes of a message at most; longer ones are cut.
    pub const MAX_MESSAGE: usize = 16 << 10;
    /// Bytes of a traceback at most; longer ones are cut in the middle.
    pub const MAX_TRACEBACK: usize = 64 << 10;
    /// Frames at most; the innermost ones, where it happened, are kept.
    pub const MAX_FRAMES: usize = 64;
    /// Characters of a frame's line of source at most.
    pub const MAX_SOURCE: usize = 1000;
    /// Bytes of a frame's file and of its function at most.
    const MAX_NAME: usize = 4096;

    /// Within the bounds of the contract.
    pub fn bound(&mut self) {
        cut_end(&mut self.type_name, Self::MAX_TYPE_NAME);
        cut_end(&mut self.message, Self::MAX_MESSAGE);
        cut_middle(&mut self.traceback, Self::MAX_TRACEBACK);
        let outer = self.frames.len().saturating_sub(Self::MAX_FRAMES);
        self.frames.drain(..outer);
        for frame in &mut self.frames {
            cut_end(&mut frame.file, Self::MAX_NAME);
            cut_end(&mut frame.function, Self::MAX_NAME);
            if let Some((end, _)) = frame.source.char_indices().nth(Self::MAX_SOURCE) {
                frame.source.truncate(end);
            }
        }
    }
}

/// Cuts a text to so many bytes, between characters.
fn cut_end(text: &mut String, bytes: usize) {
    if text.len() > bytes {
        text.truncate(text.floor_char_boundary(bytes));
    }
}

/// Cuts the middle out of a text, so that it takes at most so many bytes and says what is missing.
fn cut_middle(text: &mut String, bytes: usize) {
    /// What the note takes at most.
    const NOTE: usize = 64;
    if text.len() <= bytes {
        return;
    }
    let half = bytes.saturating_sub(NOTE) / 2;
    let head = text.floor_char_boundary(half);
    let tail = text.ceil_char_boundary(text.len() - half);
    let note = format!("\n[... {} bytes left out ...]\n", tail - head);
    text.replace_range(head..tail, &note);
}

/// A place in the caller's code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExceptionFrame {
    /// Path of the file; `<code>` for the code of the call, `<turn N>` for that of an earlier turn.
    pub file: String,
    /// Line, from 1, in what the caller sent.
    pub line: u32,
    /// Column in characters, from 1; 0 when it is not known.
    pub column: u32,
    /// Name of the function; empty at the top level.
    pub function: String,
    /// The line's text.
    pub source: String,
}

/// A call of another tool by a run's code, or the end of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildEvent {
    /// Id of the child's execution; `None` for a call that was refused.
    pub execution: Option<super::id::ExecutionId>,
    /// Name of the tool.
    pub tool: String,
    /// The child's state; `None` for a call that was refused.
    pub state: Option<super::execution::ExecutionState>,
    /// Why it failed or was refused; empty otherwise.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(mime_type: &str, size: usize) -> Representation {
        let content = Content::Data(vec![0; size].into());
        Representation { mime_type: mime_type.into(), size_bytes: content.size(), content: Some(content) }
    }

    #[test]
    fn the_plain_form_is_kept_first_and_sizes_are_told_of_all() {
        let mut output = RichOutput {
            kind: RichOutputKind::Display,
            representations: vec![form("image/png", 2 << 20), form("text/html", 2 << 20), form("text/plain", 10)],
            display_id: String::new(),
            metadata: "x".repeat(MAX_METADATA + 1),
        };
        assert_eq!(output.bound(u64::MAX), (2 << 20) + MAX_METADATA as u64 + 1);
        let kept: Vec<bool> = output.representations.iter().map(|form| form.content.is_some()).collect();
        assert_eq!((kept, output.metadata.as_str()), (vec![false, true, true], ""));
        assert_eq!(output.representations[0].size_bytes, 2 << 20);
        assert_eq!(output.fit(10), 2 << 20);
        assert_eq!(output.bound(0), 10);
        output.representations = (0..100).map(|number| form(&format!("a/{number}"), 1)).collect();
        output.bound(u64::MAX);
        assert_eq!(output.representations.len(), MAX_FORMS);
        assert_eq!(output.representations.last().unwrap().mime_type, "a/99");
    }

    #[test]
    fn an_exception_is_cut_between_characters_and_says_so() {
        let frame = |line| ExceptionFrame { line, source: "ä".repeat(2000), ..ExceptionFrame::default() };
        let mut exception = ExceptionInfo {
            type_name: "E".into(),
            message: "ä".repeat(20_000),
            traceback: format!("Traceback{}ValueError: x", "ä\n".repeat(50_000)),
            frames: (0..100).map(frame).collect(),
        };
        exception.bound();
        assert_eq!(exception.message.len(), ExceptionInfo::MAX_MESSAGE);
        let traceback = &exception.traceback;
        assert!(traceback.len() <= ExceptionInfo::MAX_TRACEBACK && traceback.contains("bytes left out"));
        assert!(traceback.starts_with("Traceback") && traceback.ends_with("ValueError: x"));
        assert_eq!((exception.frames.len(), exception.frames[0].line, exception.frames[63].line), (64, 36, 99));
        assert_eq!(exception.frames[0].source.chars().count(), ExceptionInfo::MAX_SOURCE);
        let short = exception.clone();
        exception.bound();
        assert_eq!(exception, short);
    }
}
