//! The task of a process: its output, its input, its wall time, its end.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Duration;

use casemate_guest::protocol::{Exit, StartFailure, Stream};
use tokio::time::{Instant, sleep_until};

use super::keeper::{REPORT, Report, Step};
use super::pipes::{Pipes, Watched};
use super::process::Process;
use super::table::{Table, shortened};
use super::{oom, tree};

/// How long a process waits at a time for a server that is behind.
const PAUSE: Duration = Duration::from_millis(20);
/// How long after the end a terminal may take to hand over what was written to it.
const HANGUP: Duration = Duration::from_millis(50);
/// Bytes taken from a stream at its end at most: as much as a pipe can hold, for something may write on and on.
const LAST: usize = 2 << 20;

const BUFFER: usize = 64 << 10;

thread_local! {
    /// Where output is read before it is in a journal: one for all processes.
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into());
}

struct Task {
    table: Rc<Table>,
    process: Rc<Process>,
    pipes: Pipes,
    kills: u64,
    /// How it ended, and until when its terminal is listened to.
    ending: Option<(Exit, Instant)>,
}

/// Attends to a process until nothing is left of it.
pub async fn attend(
    table: Rc<Table>,
    process: Rc<Process>,
    pipes: Pipes,
    reports: Watched,
    wall: Option<Duration>,
    kills: u64,
) {
    let mut task = Task { table, process, pipes, kills, ending: None };
    let process = Rc::clone(&task.process);
    // A wall time beyond what a clock can say is none.
    let mut wall = wall.and_then(|wall| Instant::now().checked_add(wall));
    let (mut paused, mut hunt): (Option<Instant>, Option<(Instant, Duration)>) = (None, None);
    loop {
        let now = Instant::now();
        if wall.is_some_and(|wall| wall <= now) {
            wall = None;
            task.time_out();
        }
        task.end_input();
        let (doomed, lags, writes) = {
            let state = process.state.borrow();
            (state.doomed && state.keeper.is_some(), state.lags(), !state.input.next().is_empty())
        };
        if doomed && hunt.is_none_or(|(at, _)| at <= now) {
            hunt = task.hunt(hunt.map(|(_, delay)| delay));
        }
        if task.ending.is_some_and(|(_, until)| until <= now || !task.listens()) {
            task.conclude();
        }
        if !lags {
            paused = None;
        } else if paused.is_none() {
            paused = Some(now + PAUSE);
        }
        let may_read = paused.is_none_or(|until| until <= now);
        let next = [wall, hunt.map(|(at, _)| at), paused.filter(|_| !may_read), task.ending.map(|(_, until)| until)];
        let next = next.into_iter().flatten().min();
        tokio::select! {
            biased;
            () = process.wake.notified() => {}
            report = read_report(&reports) => match report {
                Some(report) => task.report(report),
                None => break,
            },
            () = ready(&task.pipes.stdin, true), if writes => task.write(),
            () = ready(&task.pipes.outputs[0], false), if may_read => { task.read(0); paused = None; }
            () = ready(&task.pipes.outputs[1], false), if may_read => { task.read(1); paused = None; }
            () = sleep_until(next.unwrap_or(now)), if next.is_some() => {}
        }
    }
    task.gone();
}

/// Waits for a descriptor, forever if there is none.
async fn ready(fd: &Option<Watched>, write: bool) {
    let Some(fd) = fd else { return std::future::pending().await };
    // The readiness is kept, and cleared by whoever finds that it does not hold.
    let _ = if write { fd.writable().await.map(drop) } else { fd.readable().await.map(drop) };
}

/// The next report; none once the keeper is gone.
async fn read_report(reports: &Watched) -> Option<Report> {
    loop {
        let mut guard = reports.readable().await.ok()?;
        let mut bytes = [0; REPORT];
        // Written in one piece, and read so: a pipe does not split what is this short.
        match guard.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut bytes)?)) {
            Ok(Ok(REPORT)) => return Report::decode(&bytes),
            Ok(Err(error)) if error.kind() == ErrorKind::Interrupted => {}
            Ok(_) => return None,
            Err(_) => {}
        }
    }
}

impl Task {
    fn listens(&self) -> bool {
        self.pipes.outputs.iter().any(Option::is_some)
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::Started(pid) => self.process.state.borrow_mut().pid = Some(pid),
            Report::Failed(step, errno) => self.process.state.borrow_mut().failure = Some(failure(step, errno)),
            Report::Ended(status) => {
                let exit = self.exit(status);
                let terminal = self.process.state.borrow().terminal.is_some();
                self.drain();
                self.ending = Some((exit, Instant::now() + if terminal { HANGUP } else { Duration::ZERO }));
            }
        }
        self.table.tell(&self.process);
    }

    fn exit(&self, status: i32) -> Exit {
        let state = self.process.state.borrow();
        if state.timed_out {
            return Exit::TimedOut;
        }
        if libc::WIFEXITED(status) {
            return Exit::Code(libc::WEXITSTATUS(status) as u8);
        }
        let signal = libc::WTERMSIG(status);
        let by_kernel = signal == libc::SIGKILL && !state.killed && oom::kills() > self.kills;
        if by_kernel { Exit::OutOfMemory } else { Exit::Signal(signal) }
    }

    /// Reads once. What comes after the end is thrown away: whoever still writes is not to wait.
    fn read(&mut self, stream: usize) -> usize {
        let Some(fd) = self.pipes.outputs.get(stream).and_then(Option::as_ref) else { return 0 };
        let read = READ.with_borrow_mut(|buffer| {
            let read = fd.try_io(tokio::io::Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut buffer[..])?));
            let mut state = self.process.state.borrow_mut();
            if let (Ok(length), None) = (&read, state.exit) {
                let stream = if stream == 0 { Stream::Stdout } else { Stream::Stderr };
                state.journal.append(stream, buffer.get(..*length).unwrap_or_default());
            }
            read
        });
        match read {
            Ok(length) if length > 0 => {
                self.table.tell(&self.process);
                length
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            // The end; a terminal tells it as an error.
            Ok(_) | Err(_) => {
                self.pipes.outputs[stream] = None;
                0
            }
        }
    }

    /// Takes what is there.
    fn drain(&mut self) {
        for stream in 0..2 {
            let mut taken = 0;
            while taken < LAST {
                match self.read(stream) {
                    0 => break,
                    length => taken += length,
                }
            }
        }
    }

    /// Writes input once.
    fn write(&mut self) {
        let Some(fd) = &self.pipes.stdin else { return };
        let mut state = self.process.state.borrow_mut();
        let write = |fd: &std::os::fd::OwnedFd| Ok(rustix::io::write(fd, state.input.next())?);
        let written: io::Result<usize> = fd.try_io(tokio::io::Interest::WRITABLE, write);
        match written {
            Ok(length) => state.input.wrote(length),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return,
            Err(_) => {
                state.input.close();
                drop(state);
                self.pipes.stdin = None;
                return self.tell_input();
            }
        }
        drop(state);
        self.tell_input();
    }

    /// Passes the end of the input on, once all before it was written.
    fn end_input(&mut self) {
        let mut state = self.process.state.borrow_mut();
        if !state.input.finished() || state.input_ended {
            return;
        }
        state.input_ended = true;
        if let (Some(_), Some(fd)) = (&state.terminal, &self.pipes.stdin) {
            // A terminal has no end but this character.
            let _ = rustix::io::write(fd.get_ref(), &[4]);
        }
        drop(state);
        self.pipes.stdin = None;
        self.table.tell(&self.process);
    }

    fn tell_input(&self) {
        self.process.state.borrow_mut().link.input_due = true;
        self.table.tell(&self.process);
    }

    fn time_out(&self) {
        let mut state = self.process.state.borrow_mut();
        state.doomed = true;
        state.timed_out = state.exit.is_none() && self.ending.is_none();
    }

    /// Kills all below the keeper. Returns when to do so again if any may be left.
    fn hunt(&self, delay: Option<Duration>) -> Option<(Instant, Duration)> {
        let mut state = self.process.state.borrow_mut();
        let delay = delay.map_or(Duration::from_millis(2), |delay| (delay * 2).min(Duration::from_millis(100)));
        let keeper = state.keeper?;
        // Before the first child is there, there is nobody to be found.
        let early = state.pid.is_none() && state.failure.is_none();
        if tree::kill(keeper) || early {
            return Some((Instant::now() + delay, delay));
        }
        // Those that could not be told dead from dying are looked at once more, when the keeper is still there.
        state.doomed = true;
        Some((Instant::now() + delay, delay))
    }

    /// The end, with all output before it.
    fn conclude(&mut self) {
        let Some((exit, _)) = self.ending.take() else { return };
        self.pipes.stdin = None;
        let mut state = self.process.state.borrow_mut();
        state.input.close();
        state.exit = Some(exit);
        drop(state);
        self.table.tell(&self.process);
    }

    /// The keeper is gone, and everything below it.
    fn gone(&mut self) {
        self.drain();
        let unknown = {
            let mut state = self.process.state.borrow_mut();
            state.keeper = None;
            state.terminal = None;
            state.exit.is_none() && state.failure.is_none()
        };
        if unknown && self.ending.is_none() {
            // Somebody killed the keeper; what was below it is the guest's, and dies there.
            self.ending = Some((self.exit(libc::SIGKILL), Instant::now()));
        }
        self.conclude();
        self.table.tell(&self.process);
    }
}

fn failure(step: Step, errno: i32) -> StartFailure {
    let text = io::Error::from_raw_os_error(errno).to_string();
    shortened(match (step, errno) {
        (Step::User, _) => StartFailure::User(text),
        (Step::Directory, _) => StartFailure::Directory(text),
        (Step::Execute, libc::ENOENT | libc::ENOTDIR) => StartFailure::NotFound,
        (Step::Execute, libc::EACCES | libc::ENOEXEC | libc::EPERM) => StartFailure::NotExecutable(text),
        (Step::Prepare | Step::Execute, _) => StartFailure::Other(text),
    })
}
