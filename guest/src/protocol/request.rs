//! What a channel is for: the server's requests, and how they end.

use serde::{Deserialize, Serialize};

/// Bytes that either side may send on a new channel before it was granted more. A request that takes no bytes grants
/// none.
pub const WINDOW: u64 = 256 << 10;
/// Channels at a time, of either side's opening.
pub const CHANNELS: usize = 256;
/// Connections to the gate at a time. Further ones wait until one of them ends.
pub const GATE_CONNECTIONS: usize = 128;
/// Paths that are told as left out of an archive, at most.
pub const OMITTED: usize = 1000;
/// Bytes of these together, at most: they have to fit into a frame.
pub const OMITTED_BYTES: usize = 512 << 10;
/// Bytes of a path at most.
pub const PATH_LIMIT: usize = 4096;

/// Bytes as they are in the file system: they need not be text.
pub type Path = Vec<u8>;

/// Work beside processes. Files are touched as the guest's own user.
///
/// A `path` is absolute, and taken beneath `root`: with the root `/work` the path `/a` is `/work/a`. Links that lead out
/// of a root are refused, at the moment of use, so that swapping one for a folder gains nothing. With the root `/`
/// absolute links are links within the container. Nothing is written to `/proc`, `/sys` and `/.casemate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Reads a regular file. Says [`Began`](super::FromGuest::Began) with its state, then its bytes. What is appended
    /// meanwhile is not sent. Files of the kernel, which have no size, are read up to their end.
    Read {
        /// Beneath which the path is.
        root: Path,
        /// Links are followed.
        path: Path,
        /// Where to begin; beyond the end there is nothing.
        offset: u64,
        /// Bytes at most; all if none.
        length: Option<u64>,
    },
    /// Writes a regular file from the channel's bytes. [`Answer::Written`].
    Write {
        /// Beneath which the path is.
        root: Path,
        /// Links are followed up to the last part of it.
        path: Path,
        /// Permissions. If none, those of the file that is there, or else what new files get.
        mode: Option<u32>,
        /// What becomes of a file that is there.
        how: How,
        /// Makes missing folders above it. They stay if the rest fails.
        parents: bool,
        /// Bytes that are to come: more or fewer are a failure.
        size: Option<u64>,
        /// Whether it is to be on the disk, and so is its name, before it is said to be written.
        sync: bool,
    },
    /// Lists a folder, as [`Entries`](super::FromGuest::Entries). The order is that of the paths, part by part and byte
    /// by byte, each folder before what is in it. [`Answer::Listed`].
    List {
        /// Beneath which the path is.
        root: Path,
        /// The folder.
        path: Path,
        /// Levels: 1 for what is in the folder itself. Links are never followed.
        depth: u32,
        /// The last path of the page before, as it was told.
        after: Option<Path>,
        /// Entries at most.
        limit: u32,
    },
    /// [`Answer::Stat`].
    Stat {
        /// Beneath which the path is.
        root: Path,
        /// What it is about.
        path: Path,
        /// Whether the last part is followed if it is a link.
        follow: bool,
    },
    /// [`Answer::Done`].
    MakeDirectory {
        /// Beneath which the path is.
        root: Path,
        /// The folder.
        path: Path,
        /// Permissions; what new folders get if none.
        mode: Option<u32>,
        /// Makes missing folders above it too, and takes one that is there for made.
        parents: bool,
    },
    /// Renames within one file system. [`Answer::Done`].
    Move {
        /// Beneath which both are.
        root: Path,
        /// What is there.
        from: Path,
        /// Where it is to be.
        to: Path,
        /// Whether what is there gives way, as in `rename(2)`.
        replace: bool,
    },
    /// [`Answer::Removed`]. Does not go on into other file systems. What was removed before a failure stays removed.
    Remove {
        /// Beneath which the path is.
        root: Path,
        /// Links are removed themselves.
        path: Path,
        /// Whether a folder is removed with all that is in it.
        recursive: bool,
        /// Whether nothing there is as good.
        allow_missing: bool,
    },
    /// Tells of changes, as [`Events`](super::FromGuest::Events), until the channel is dropped. Says
    /// [`Began`](super::FromGuest::Began) once nothing more is missed.
    Watch {
        /// Beneath which the path is.
        root: Path,
        /// A folder, or something else to watch alone.
        path: Path,
        /// With all folders below, those to come included.
        recursive: bool,
    },
    /// Sends a tar archive (pax) of regular files, folders and links. Names in it are paths without the root and the
    /// first slash. What is none of these, is the kernel's own or may not be read is left out. [`Answer::Packed`].
    Pack {
        /// Beneath which the paths are.
        root: Path,
        /// Folders go with all that is in them. Links are packed as such.
        paths: Vec<Path>,
        /// What there may be at most.
        limits: Limits,
    },
    /// Unpacks the channel's bytes into a folder. All is checked and laid out beside it first, and what is in the way is
    /// looked for, before anything is seen there. The archive is taken as hostile. [`Answer::Unpacked`].
    Unpack {
        /// Beneath which the path is.
        root: Path,
        /// The folder.
        path: Path,
        /// Makes the folder, and missing ones above it.
        parents: bool,
        /// What the bytes are; told by the first of them if none.
        format: Option<Format>,
        /// What becomes of files that are there.
        conflict: Conflict,
        /// Leading parts that are taken off each name. What has no more is skipped.
        strip: u32,
        /// What it may bring at most.
        limits: Limits,
    },
    /// Connects to a port of the container's own, 127.0.0.1 or else `::1`. Says [`Began`](super::FromGuest::Began) once
    /// connected; then bytes go both ways, and each way ends by itself. [`Answer::Done`] once both did.
    Connect {
        /// The port.
        port: u16,
    },
}

/// What becomes of a file that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    /// It is emptied and written in place: its owner and other names stay, and readers see what is half-written. A
    /// link is followed. A missing one is made.
    Create,
    /// It is replaced in one step, once all was written. A link is replaced itself.
    Replace,
    /// It is left, and the request fails. The new one appears in one step.
    CreateOnly,
    /// The bytes go behind it. A link is followed; a missing one is made.
    Append,
    /// The bytes go here, over what is there. A link is followed; a missing one is made.
    At(u64),
}

/// An archive's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// Tar: ustar, with the extensions of pax and GNU.
    Tar,
    /// The same, compressed.
    TarGz,
    /// Zip, up to 4 GiB. It is on the disk as a whole before it is unpacked.
    Zip,
}

/// What becomes of a file that is where an archive has one. A folder goes into a folder that is there; it never takes
/// the place of anything else, nor anything else that of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Conflict {
    /// It is replaced, and so is a link.
    Replace,
    /// It is left.
    Skip,
    /// It is left, and the request fails.
    Fail,
}

/// What an archive may bring. The guest has bounds of its own beyond which it does not go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Entries.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// What is known of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// Permissions, with the bits above them.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// Bytes that it takes on its disk.
    pub allocated: u64,
    /// Its owner.
    pub user: u32,
    /// Its group.
    pub group: u32,
    /// Names that it has.
    pub links: u32,
    /// Its number in its file system.
    pub inode: u64,
    /// Nanoseconds since 1970 of its last change.
    pub modified: i64,
    /// Where it leads, if it is a link.
    pub target: Option<Path>,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Directory,
    /// A symbolic link.
    Link,
    /// A pipe with a name.
    Fifo,
    /// A socket.
    Socket,
    /// A device.
    Device,
}

/// One of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Below the listed folder, without a slash before it.
    pub path: Path,
    /// What is known of it.
    pub stat: Stat,
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Below what is watched, without a slash before it; empty for that itself.
    pub path: Path,
    /// What happened.
    pub change: Change,
    /// Whether it is a folder.
    pub directory: bool,
}

/// What happened. Equal changes in a row are told once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// It is there anew. What is in a new folder may be told of twice, but at least once.
    Created,
    /// Its bytes changed.
    Modified,
    /// Somebody who could write to it closed it.
    Written,
    /// Its permissions, owner or times changed.
    Attributes,
    /// It is gone.
    Removed,
    /// It was renamed; where it is now has the same number, if that is watched.
    MovedFrom(u32),
    /// It is there under this name now.
    MovedTo(u32),
    /// Changes were lost, for there were too many: what is there has to be looked at anew.
    Overflow,
}

/// How a request ended well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// There is no more to say.
    Done,
    /// What is known of it.
    Stat(Stat),
    /// Bytes were written.
    Written {
        /// So many.
        bytes: u64,
    },
    /// The list ends.
    Listed {
        /// Whether there is more behind it.
        more: bool,
    },
    /// So many are gone.
    Removed {
        /// Files, folders and links.
        entries: u64,
    },
    /// The archive ends.
    Packed {
        /// What is in it.
        entries: u64,
        /// Bytes of the files in it.
        bytes: u64,
        /// What was left out, as it would be named in it; not more than [`OMITTED`] and [`OMITTED_BYTES`].
        omitted: Vec<Path>,
    },
    /// All that is in the archive is there.
    Unpacked {
        /// Regular files that are new.
        files: u64,
        /// Folders that are new, the target and those above it too.
        directories: u64,
        /// Links that are new, further names of files too.
        links: u64,
        /// Bytes of the files.
        bytes: u64,
        /// Entries that were left away: without a name behind what is stripped, or where something is already.
        skipped: u64,
    },
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// The server gave up, or the connection ended.
    Dropped,
    /// The server sent more than it was granted, or behind its own end.
    Credit,
    /// The number is not the server's, or in use; what used it is given up too.
    Channel,
    /// There are as many of these as there may be.
    TooMany(String),
    /// What was asked makes no sense, in words.
    Invalid(String),
    /// Nothing is there.
    NotFound,
    /// Something is there.
    Exists,
    /// The guest's user may not do this.
    NotPermitted,
    /// A part of the path leads out of its root.
    Escapes,
    /// Not for writing: a folder of the kernel's or of Casemate's, or a file system that is mounted so.
    ReadOnly,
    /// A folder, and none was wanted.
    IsDirectory,
    /// No folder, and one was wanted.
    NotDirectory,
    /// A folder that is not empty.
    NotEmpty,
    /// Neither a regular file nor a folder.
    NotRegular,
    /// Links in a circle, or too many.
    Links,
    /// On two file systems, or beyond the one that was asked for.
    OtherFileSystem,
    /// The disk is full, or what the user may have of it.
    NoSpace,
    /// The file became shorter while it was read.
    Shrank {
        /// Bytes that were sent.
        sent: u64,
    },
    /// Other than the bytes that were announced.
    Size {
        /// Bytes that came, as far as they were looked at.
        came: u64,
    },
    /// The archive was refused, in words. Nothing of it is there.
    Archive(String),
    /// Something is where an archive has something else. Nothing of the archive is there.
    InTheWay {
        /// Where, beneath the root.
        path: Path,
        /// What the archive has there.
        wanted: Kind,
        /// What is there.
        there: Kind,
    },
    /// Some of an archive is there, and the rest is not.
    Partly {
        /// Why, in words.
        why: String,
    },
    /// More bytes than the limits of the request.
    MoreBytes,
    /// More entries than the limits of the request.
    MoreEntries,
    /// Nobody listens at the port.
    Refused,
    /// The connection was cut instead of closed.
    Reset,
    /// Anything else, in words.
    Other(String),
}
