//! The stable names of errors.

use super::Error;
use crate::domain::file::FileFault;

impl Error {
    /// The stable name of the reason; each has a page under `docs/errors/`.
    pub fn reason(&self) -> Reason {
        match self {
            Error::InvalidArgument(_) => Reason::InvalidArgument,
            Error::ParametersInvalid { .. } => Reason::ParametersInvalid,
            Error::ManifestInvalid { .. } => Reason::ManifestInvalid,
            Error::ModuleInvalid { .. } => Reason::ModuleInvalid,
            Error::ToolNotFound { .. } => Reason::ToolNotFound,
            Error::ToolBroken { .. } => Reason::ToolBroken,
            Error::InterpreterMissing { .. } => Reason::InterpreterMissing,
            Error::ToolsReadOnly { .. } => Reason::ToolsReadOnly,
            Error::ExecutionNotFound { .. } => Reason::ExecutionNotFound,
            Error::ExecutionOver { .. } => Reason::ExecutionOver,
            Error::NotSupported { .. } => Reason::NotSupported,
            Error::RequestIdReused { .. } => Reason::RequestIdReused,
            Error::MessageTooLarge { .. } => Reason::MessageTooLarge,
            Error::Overloaded { .. } => Reason::Overloaded,
            Error::SessionNotFound { .. } => Reason::SessionNotFound,
            Error::SessionClosed { .. } => Reason::SessionClosed,
            Error::TurnMismatch { .. } => Reason::TurnMismatch,
            Error::TargetMismatch { .. } => Reason::TargetMismatch,
            Error::NotStarted { .. } => Reason::NotStarted,
            Error::QuotaReached { .. } => Reason::QuotaReached,
            Error::SnapshotNotFound { .. } => Reason::SnapshotNotFound,
            Error::SnapshotExists { .. } => Reason::SnapshotExists,
            Error::SnapshotUnusable { .. } => Reason::SnapshotUnusable,
            Error::ContainerNotFound { .. } => Reason::ContainerNotFound,
            Error::ContainerExists { .. } => Reason::ContainerExists,
            Error::ContainerNotReady { .. } => Reason::ContainerNotReady,
            Error::ContainerFailed { .. } => Reason::ContainerFailed,
            Error::PolicyDenied { .. } => Reason::PolicyDenied,
            Error::TemplateNotFound { .. } => Reason::TemplateNotFound,
            Error::ImageNotFound { .. } => Reason::ImageNotFound,
            Error::BackendUnavailable { .. } => Reason::BackendUnavailable,
            Error::BackendFull { .. } => Reason::BackendFull,
            Error::Pool(error) => error.reason(),
            Error::ProcessNotStarted { .. } => Reason::ProcessNotStarted,
            Error::StdinGap { .. } => Reason::StdinGap,
            Error::StdinClosed { .. } => Reason::StdinClosed,
            Error::StdinFull { .. } => Reason::StdinFull,
            Error::SequenceOutOfRange { .. } => Reason::SequenceOutOfRange,
            Error::Unauthenticated { .. } => Reason::Unauthenticated,
            Error::PermissionDenied { .. } => Reason::PermissionDenied,
            Error::File { fault, .. } => match fault {
                FileFault::NotFound => Reason::FileNotFound,
                FileFault::Exists => Reason::FileExists,
                FileFault::NoSpace | FileFault::TooMuch(_) => Reason::FileTooLarge,
                FileFault::Shrank { .. } | FileFault::Partly(_) => Reason::FileChanged,
                FileFault::Mismatch(_) => Reason::FileMismatch,
                FileFault::Archive(_) => Reason::ArchiveInvalid,
                FileFault::NotPermitted
                | FileFault::ReadOnly
                | FileFault::IsDirectory
                | FileFault::NotDirectory
                | FileFault::NotEmpty
                | FileFault::NotRegular
                | FileFault::Links
                | FileFault::OtherFileSystem
                | FileFault::Other(_) => Reason::FileRefused,
            },
            Error::OffsetOutOfRange { .. } => Reason::OffsetOutOfRange,
            Error::Unsupervised { .. } => Reason::Unsupervised,
            Error::ShuttingDown => Reason::ShuttingDown,
            Error::StoreUnavailable { .. } => Reason::StoreUnavailable,
            Error::StoreDamaged { .. } => Reason::StoreDamaged,
            Error::Unimplemented { .. } => Reason::Unimplemented,
            Error::Internal(_) => Reason::Internal,
        }
    }
}

macro_rules! reasons {
    ($($variant:ident = $name:literal),* $(,)?) => {
        /// Stable reasons, as in `google.rpc.ErrorInfo.reason`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs)] // each reason has a page under docs/errors
        pub enum Reason { $($variant),* }

        impl Reason {
            /// All reasons.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant),*];

            /// The name on the wire.
            pub fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name),* }
            }
        }
    };
}

reasons! {
    InvalidArgument = "INVALID_ARGUMENT",
    ParametersInvalid = "PARAMETERS_INVALID",
    ManifestInvalid = "MANIFEST_INVALID",
    ModuleInvalid = "MODULE_INVALID",
    ToolNotFound = "TOOL_NOT_FOUND",
    ToolBroken = "TOOL_BROKEN",
    InterpreterMissing = "INTERPRETER_MISSING",
    ToolsReadOnly = "TOOLS_READ_ONLY",
    ExecutionNotFound = "EXECUTION_NOT_FOUND",
    ExecutionOver = "EXECUTION_OVER",
    NotSupported = "NOT_SUPPORTED",
    RequestIdReused = "REQUEST_ID_REUSED",
    MessageTooLarge = "MESSAGE_TOO_LARGE",
    Overloaded = "OVERLOADED",
    SessionNotFound = "SESSION_NOT_FOUND",
    SessionClosed = "SESSION_CLOSED",
    TurnMismatch = "TURN_MISMATCH",
    TargetMismatch = "TARGET_MISMATCH",
    NotStarted = "NOT_STARTED",
    QuotaReached = "QUOTA_REACHED",
    SnapshotNotFound = "SNAPSHOT_NOT_FOUND",
    SnapshotExists = "SNAPSHOT_EXISTS",
    SnapshotUnusable = "SNAPSHOT_UNUSABLE",
    ContainerNotFound = "CONTAINER_NOT_FOUND",
    ContainerExists = "CONTAINER_EXISTS",
    ContainerNotReady = "CONTAINER_NOT_READY",
    ContainerFailed = "CONTAINER_FAILED",
    PolicyDenied = "POLICY_DENIED",
    TemplateNotFound = "TEMPLATE_NOT_FOUND",
    ImageNotFound = "IMAGE_NOT_FOUND",
    BackendUnavailable = "BACKEND_UNAVAILABLE",
    BackendFull = "BACKEND_FULL",
    PoolNotFound = "POOL_NOT_FOUND",
    PoolExists = "POOL_EXISTS",
    PoolNotReady = "POOL_NOT_READY",
    PoolExhausted = "POOL_EXHAUSTED",
    WaitTooLong = "WAIT_TOO_LONG",
    LeaseNotFound = "LEASE_NOT_FOUND",
    LeaseOver = "LEASE_OVER",
    EtagMismatch = "ETAG_MISMATCH",
    ProcessNotStarted = "PROCESS_NOT_STARTED",
    FileNotFound = "FILE_NOT_FOUND",
    FileExists = "FILE_EXISTS",
    FileTooLarge = "FILE_TOO_LARGE",
    FileChanged = "FILE_CHANGED",
    FileMismatch = "FILE_MISMATCH",
    FileRefused = "FILE_REFUSED",
    ArchiveInvalid = "ARCHIVE_INVALID",
    OffsetOutOfRange = "OFFSET_OUT_OF_RANGE",
    Unsupervised = "UNSUPERVISED",
    StdinGap = "STDIN_GAP",
    StdinClosed = "STDIN_CLOSED",
    StdinFull = "STDIN_FULL",
    SequenceOutOfRange = "SEQUENCE_OUT_OF_RANGE",
    Unauthenticated = "UNAUTHENTICATED",
    PermissionDenied = "PERMISSION_DENIED",
    ShuttingDown = "SHUTTING_DOWN",
    StoreUnavailable = "STORE_UNAVAILABLE",
    StoreDamaged = "STORE_DAMAGED",
    Unimplemented = "UNIMPLEMENTED",
    Internal = "INTERNAL",
}
