//! What a run gives besides its two streams: things to look at, files, and the exception that ended it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

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

/// A place in the caller's code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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
