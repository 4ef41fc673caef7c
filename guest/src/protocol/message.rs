//! The messages. New ones go to the end of their list: postcard counts variants.

use serde::{Deserialize, Serialize};

use super::request::{Answer, Failure, Request, Stat};

/// Number of a channel: even where the server opens it, odd where the guest does. It ends with the connection.
pub type Channel = u64;

/// Name of a process: the id of its execution. A process id of the kernel is no name, for it is used again.
pub type ProcessId = [u8; 16];

/// One of the two streams of output. A terminal has one: standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What the server says. Bytes are the payload of the frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToGuest {
    /// First of all, in answer to the guest's own.
    Hello {
        /// [`VERSION`](super::VERSION) of the server.
        version: u16,
        /// What holds for all processes.
        settings: Settings,
    },
    /// Starts a process. One that has this name already is left alone, and told of again: so a start can be
    /// repeated.
    Start {
        /// Its name.
        id: ProcessId,
        /// What to start.
        spec: Box<Spec>,
    },
    /// Asks for a process's output from a position on, and for its end. Replaces what was asked before.
    Attach {
        /// The process.
        id: ProcessId,
        /// Bytes of output, of both streams, that the server has.
        position: u64,
        /// Bytes that may be sent.
        credit: Credit,
    },
    /// Lets more be sent.
    Credit {
        /// The process.
        id: ProcessId,
        /// Bytes beyond those granted so far.
        credit: Credit,
    },
    /// Bytes for standard input, as payload. What the guest has of them already is skipped.
    Stdin {
        /// The process.
        id: ProcessId,
        /// Where they begin in the input.
        offset: u64,
        /// Whether the input ends behind them.
        eof: bool,
    },
    /// The size of the terminal changed.
    Resize {
        /// The process.
        id: ProcessId,
        /// The new size.
        terminal: Terminal,
    },
    /// Sends a signal.
    Signal {
        /// The process.
        id: ProcessId,
        /// Which one, by number.
        signal: i32,
        /// To whom.
        to: Signal,
    },
    /// The server has the end of this process, and all it wants of its output, where a crash cannot take it. The
    /// guest forgets the process; one that still runs is killed with all that it started.
    Release {
        /// The process.
        id: ProcessId,
    },
    /// Asks for a [`FromGuest::Pong`].
    Ping {
        /// To tell the answers apart.
        number: u64,
    },
    /// Ends the container: every process is killed, and the guest ends.
    Shutdown,
    /// Opens a channel. It ends with one [`FromGuest::Done`], whatever happens but the end of the connection.
    Open {
        /// Its number: even, and not in use.
        channel: Channel,
        /// What for.
        request: Box<Request>,
    },
    /// Bytes for a channel, as payload: no more than were granted. Ignored if the channel is not there any more.
    Data {
        /// The channel.
        channel: Channel,
    },
    /// The server has no more bytes for a channel.
    DataEnd {
        /// The channel.
        channel: Channel,
    },
    /// Lets more be sent on a channel, beyond [`WINDOW`](super::WINDOW). A frame is not begun before there is credit for
    /// all of its payload.
    More {
        /// The channel.
        channel: Channel,
        /// Bytes beyond those granted so far.
        credit: Credit,
    },
    /// Gives a channel up: what is half-done is undone, then it ends as [`Failure::Dropped`]. A connection is reset.
    Drop {
        /// The channel.
        channel: Channel,
    },
}

/// What the guest says. Bytes are the payload of the frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromGuest {
    /// First of all.
    Hello {
        /// [`VERSION`](super::VERSION) of the guest.
        version: u16,
        /// Its build, for people.
        build: String,
        /// Drawn when it started: another one means that what was known is gone.
        start: [u8; 16],
        /// Processes that were started and not released.
        processes: Vec<Process>,
    },
    /// A process runs.
    Started {
        /// The process.
        id: ProcessId,
        /// Its number in the container.
        pid: u32,
    },
    /// A process could not be started. It has this name all the same, until it is released.
    NotStarted {
        /// The process.
        id: ProcessId,
        /// Why.
        failure: StartFailure,
    },
    /// Output, as payload.
    Output {
        /// The process.
        id: ProcessId,
        /// Which stream.
        stream: Stream,
        /// Where it begins in all output of the process.
        position: u64,
        /// Where it begins in the stream.
        offset: u64,
    },
    /// Output that was not kept, because nobody took it and there was too much: next comes what follows it.
    Truncated {
        /// The process.
        id: ProcessId,
        /// Where the gap begins in all output of the process.
        position: u64,
        /// Where standard output goes on behind it.
        stdout: u64,
        /// Where standard error goes on behind it. The two together are the position behind the gap.
        stderr: u64,
    },
    /// Input was taken.
    StdinAccepted {
        /// The process.
        id: ProcessId,
        /// Bytes taken so far, or thrown away because nobody reads them.
        offset: u64,
        /// Bytes that the guest has, those that wait to be taken included: none of them needs to be sent again.
        held: u64,
        /// Whether nothing more can be written: its end was said, or the process closed it.
        closed: bool,
    },
    /// A process is over, and all of its output was sent.
    Exited {
        /// The process.
        id: ProcessId,
        /// How it ended.
        exit: Exit,
        /// Bytes that it wrote, of both streams.
        position: u64,
    },
    /// Something that was asked cannot be done.
    Refused {
        /// The process it was about.
        id: ProcessId,
        /// What was asked, and why not.
        problem: String,
    },
    /// Answers a [`ToGuest::Ping`].
    Pong {
        /// Its number.
        number: u64,
    },
    /// A request has begun: what follows is its bytes, or its list.
    Began {
        /// The channel.
        channel: Channel,
        /// The file that is read.
        stat: Option<Box<Stat>>,
    },
    /// Bytes of a channel, as payload.
    Data {
        /// The channel.
        channel: Channel,
    },
    /// The guest has no more bytes for a channel.
    DataEnd {
        /// The channel.
        channel: Channel,
    },
    /// Lets more be sent on a channel.
    More {
        /// The channel.
        channel: Channel,
        /// Bytes beyond those granted so far.
        credit: Credit,
    },
    /// A part of a list. The payload, which counts as bytes of the channel, has [`entries`](super::entries).
    Entries {
        /// The channel.
        channel: Channel,
    },
    /// Changes. The payload, which counts as bytes of the channel, has [`events`](super::events).
    Events {
        /// The channel.
        channel: Channel,
    },
    /// The end of a channel, after all else that is said about it.
    Done {
        /// The channel.
        channel: Channel,
        /// How it ended.
        result: Result<Answer, Failure>,
    },
    /// A process connected to the gate: a channel that the guest opens, with bytes both ways as in
    /// [`Request::Connect`]. A server that does not want it drops it.
    Connected {
        /// Its number: odd.
        channel: Channel,
    },
    /// There is no gate, though the settings have one. It is tried again with the next Hello.
    NoGate {
        /// The port.
        port: u16,
        /// Why, in words.
        problem: String,
    },
}

/// Bytes of output that may be sent.
pub type Credit = u64;

/// What holds for all processes of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Bytes of output that are kept for a process whose output nobody takes: a quarter of them from the beginning,
    /// the rest from the end.
    pub journal_bytes: u64,
    /// Processes at most, ended ones that were not released included.
    pub processes: u32,
    /// The process whose end is the end of the container, once it is released.
    pub main: Option<ProcessId>,
    /// A port at which the guest listens on 127.0.0.1: each connection to it becomes a channel. The first one that is
    /// said holds for the life of the guest.
    pub gate: Option<u16>,
}

/// A process to start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The program and its arguments. A program without a slash is looked for in `PATH`.
    pub command: Vec<Vec<u8>>,
    /// All variables, each `NAME=VALUE`.
    pub environment: Vec<Vec<u8>>,
    /// Where it starts.
    pub directory: Vec<u8>,
    /// As whom it runs.
    pub user: User,
    /// With a terminal of this size.
    pub terminal: Option<Terminal>,
    /// Whether standard input stays open behind the bytes that come as payload of the start.
    pub keep_stdin_open: bool,
    /// Milliseconds after which it is killed with all that it started.
    pub wall_time_ms: Option<u64>,
}

/// As whom a process runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum User {
    /// As the guest itself.
    #[default]
    Guest,
    /// `NAME`, `UID`, `NAME:GROUP` or `UID:GID`, by the container's own lists.
    Named(Vec<u8>),
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// Columns.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

/// Whom a signal reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signal {
    /// The process group that the process leads.
    Group,
    /// Every process that it started, directly or not, whatever they did to get away.
    Tree,
}

/// Why a process could not be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartFailure {
    /// There is no such program.
    NotFound,
    /// It may not be run, or is no program.
    NotExecutable(String),
    /// The directory cannot be entered.
    Directory(String),
    /// The user is not known here, or the guest may not become this user.
    User(String),
    /// There are as many processes as there may be.
    TooMany,
    /// Anything else, in words.
    Other(String),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// By itself.
    Code(u8),
    /// By a signal.
    Signal(i32),
    /// Killed by the kernel, because the container had no memory left.
    OutOfMemory,
    /// Killed after its wall time.
    TimedOut,
}

/// A process that the guest knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its name.
    pub id: ProcessId,
    /// Its number in the container, while it runs.
    pub pid: Option<u32>,
    /// How it ended.
    pub exit: Option<Exit>,
    /// Why it never began.
    pub failure: Option<StartFailure>,
    /// Bytes that it wrote so far, of both streams.
    pub position: u64,
    /// Bytes of input that the guest has.
    pub stdin: u64,
    /// Bytes of it that were taken.
    pub stdin_taken: u64,
    /// Whether nothing more can be written.
    pub stdin_closed: bool,
}
