//! Files in a container, as the wire and the supervisor both see them.

use crate::domain::time::Timestamp;

/// What is known of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Its path, absolute, as bytes.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: FileKind,
    /// Bytes of a regular file.
    pub size: u64,
    /// Bytes that it takes on its disk.
    pub allocated: u64,
    /// Permission bits, with those above them.
    pub mode: u32,
    /// Its owner.
    pub user: u32,
    /// Its group.
    pub group: u32,
    /// When its content changed last.
    pub modified: Timestamp,
    /// Where it leads, if it is a link.
    pub target: Vec<u8>,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A device, a FIFO or a socket.
    Other,
}

/// Why something was not done with a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileFault {
    /// Nothing is there.
    #[error("there is nothing; check the path, or make its directory first")]
    NotFound,
    /// Something is there.
    #[error("something is there already; remove it, or ask for it to be replaced")]
    Exists,
    /// The container's user may not do this.
    #[error("the container's user may not do this; look at the modes of the path and its directory")]
    NotPermitted,
    /// Not for writing.
    #[error("it cannot be written: its file system is read-only, or the kernel's; write below the workspace or /tmp")]
    ReadOnly,
    /// A directory, and none was wanted.
    #[error("it is a directory")]
    IsDirectory,
    /// No directory, and one was wanted.
    #[error("it, or something above it, is no directory")]
    NotDirectory,
    /// A directory that is not empty.
    #[error("the directory is not empty; ask for all of it (recursive)")]
    NotEmpty,
    /// Neither a regular file nor a directory.
    #[error("it is neither a regular file nor a directory")]
    NotRegular,
    /// Links in a circle, too many, or out of where they may lead.
    #[error("its links go in a circle, are too many, or lead out of where they may")]
    Links,
    /// On two file systems.
    #[error("it reaches over two file systems; copy it and remove the old one")]
    OtherFileSystem,
    /// The disk is full, or what the user may have of it.
    #[error("there is no room; remove something, or give the workspace more (workspace.size_bytes)")]
    NoSpace,
    /// It became shorter while it was read.
    #[error("it became shorter while it was read, after {sent} bytes; read it again")]
    Shrank {
        /// Bytes that were sent.
        sent: u64,
    },
    /// The bytes are not those that were announced; nothing was written.
    #[error("{0}; nothing was written")]
    Mismatch(String),
    /// The archive was refused; nothing of it was written.
    #[error("the archive was refused: {0}; nothing of it was written")]
    Archive(String),
    /// Some of the archive was put in place, and then something came in its way.
    #[error("some of the archive is there now, and the rest is not: {0}; unpack it again")]
    Partly(String),
    /// There is too much of it.
    #[error("there is too much of it: {0}")]
    TooMuch(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// A change below a path that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    /// The path, absolute, as bytes.
    pub path: Vec<u8>,
    /// What happened.
    pub kind: FileChangeKind,
    /// Whether it is a directory.
    pub directory: bool,
}

/// What happened to a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileChangeKind {
    /// It is new.
    Created,
    /// Its content changed.
    Modified,
    /// A writer closed it.
    Written,
    /// Its owner, mode or times changed.
    Attributes,
    /// It was moved there from this path.
    MovedFrom(Vec<u8>),
    /// It is gone.
    Removed,
}
