//! The pipes, or the terminal, between the guest and a process.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use casemate_guest::protocol::Terminal;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::unix::AsyncFd;

/// A descriptor that the runtime watches.
pub type Watched = AsyncFd<OwnedFd>;

/// Where input is written. It is watched once it was full: few ever are, and watching takes memory.
#[derive(Debug)]
pub enum Stdin {
    /// Was never full.
    Unwatched(OwnedFd),
    /// Was full at least once.
    Watched(Watched),
}

impl Pipes {
    /// Has the runtime watch standard input; closes it if that cannot be.
    pub fn watch_stdin(&mut self) {
        self.stdin = match self.stdin.take() {
            Some(Stdin::Unwatched(fd)) => watch(fd).ok().map(Stdin::Watched),
            other => other,
        };
    }
}

/// The guest's ends.
#[derive(Debug)]
pub struct Pipes {
    /// Where input is written; none once it ended.
    pub stdin: Option<Stdin>,
    /// Where output is read; none once it ended. A terminal has no second one.
    pub outputs: [Option<Watched>; 2],
    /// The terminal, to resize it.
    pub terminal: Option<OwnedFd>,
}

/// Makes the pipes, or the terminal: the guest's ends, and the process's three.
///
/// # Errors
/// Too many open files, or no terminals in this container.
pub fn open(terminal: Option<Terminal>) -> io::Result<(Pipes, [OwnedFd; 3])> {
    let Some(size) = terminal else {
        let [(stdin, write), (stdout, out), (stderr, err)] = [pipe()?, pipe()?, pipe()?];
        let outputs = [Some(watch(stdout)?), Some(watch(stderr)?)];
        return Ok((Pipes { stdin: Some(unwatched(write)?), outputs, terminal: None }, [stdin, out, err]));
    };
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    unlockpt(&master)?;
    resize(&master, size)?;
    // By the descriptor: the path could be another terminal's in another mount.
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    let pipes = Pipes {
        stdin: Some(unwatched(copy(&master)?)?),
        outputs: [Some(watch(copy(&master)?)?), None],
        terminal: Some(master),
    };
    Ok((pipes, [copy(&slave)?, copy(&slave)?, slave]))
}

/// Sets the size of a terminal.
///
/// # Errors
/// The kernel's.
pub fn resize(terminal: &OwnedFd, size: Terminal) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, size)?)
}

/// Has the runtime watch a descriptor.
///
/// # Errors
/// The kernel's.
pub fn watch(fd: OwnedFd) -> io::Result<Watched> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    // SAFETY: the descriptor is owned, and nothing replaces it as long as it is watched.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

fn unwatched(fd: OwnedFd) -> io::Result<Stdin> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    Ok(Stdin::Unwatched(fd))
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC)?)
}

fn copy(fd: impl AsFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3)?)
}
