//! How a guest came to its end.

use crate::domain::execution::Exit;
use crate::domain::interruption::Interruption;
use crate::domain::output::{ExceptionInfo, OutputFile, StageResult};

/// How a guest came to its end, and what it left.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// Why.
    pub exit: Exit,
    /// What happened and what to do; empty for a plain success.
    pub message: String,
    /// The exception that ended the program.
    pub exception: Option<ExceptionInfo>,
    /// The files that it made or changed. Of those marked as kept, all pieces are in the journal.
    pub files: Vec<OutputFile>,
    /// Files beyond those in `files`.
    pub unlisted_files: u64,
    /// Its stages, if it ran in stages.
    pub stages: Vec<StageResult>,
    /// Where its session goes on, when the session's live state was lost with it.
    pub session_interruption: Option<Interruption>,
}

impl Ended {
    /// An end with nothing to tell but why.
    pub fn new(exit: Exit, message: impl Into<String>) -> Ended {
        Ended {
            exit,
            message: message.into(),
            exception: None,
            files: Vec::new(),
            unlisted_files: 0,
            stages: Vec::new(),
            session_interruption: None,
        }
    }
}
