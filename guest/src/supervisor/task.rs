//! The task of a process: its output, its input, its wall time, its end.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use casemate_guest::protocol::{Exit, StartFailure, Stream};
use tokio::io::Interest;
use tokio::time::{Instant, sleep_until};

use super::keeper::{REPORT, Report, Step};
use super::pipes::{Pipes, Stdin, Watched};
use super::process::Process;
use super::table::{Table, shortened};
use super::{keeper, oom, tree};

/// How long a process waits at a time for a server that is behind.
const PAUSE: Duration = Duration::from_millis(20);
/// How long after the end a terminal may take to hand over what was written to it.
const HANGUP: Duration = Duration::from_millis(50);
/// Bytes taken from a stream at its end at most: as much as a pipe can hold, for something may write on and on.
const LAST: usize = 2 << 20;

/// How long to wait before those are looked for that are left of a killed tree, at first and at last.
const HUNT: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(100)];

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
    /// Its number, before it is known whether the program runs.
    forked: Option<i32>,
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
    let mut task = Task { table, process, pipes, kills, forked: None, ending: None };
    let process = Rc::clone(&task.process);
    // A wall time beyond what a clock can say is none.
    let mut wall = wall.and_then(|wall| Instant::now().checked_add(wall));
    let (mut paused, mut hunt): (Option<Instant>, Option<(Instant, Duration)>) = (None, None);
    let free = loop {
        let now = Instant::now();
        if wall.is_some_and(|wall| wall <= now) {
            wall = None;
            task.time_out();
        }
        task.try_input();
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
        let event = poll_fn(|context| task.poll(context, &reports, writes, may_read));
        tokio::select! {
            biased;
            () = process.wake.notified() => {}
            event = event => match event {
                Event::Report => match read_report(&reports) {
                    Ok(Some(Report::Free)) => break true,
                    Ok(Some(report)) => task.report(report),
                    Ok(None) => {}
                    Err(_) => break false,
                },
                Event::Input => task.write(),
                // Both in turn, so that neither has to wait for the other's end.
                Event::Output => {
                    task.read(0, false);
                    task.read(1, false);
                    paused = None;
                }
            },
            () = sleep_until(next.unwrap_or(now)), if next.is_some() => {}
        }
    };
    let keeper = process.state.borrow().keeper;
    task.gone();
    if let (true, Some(keeper)) = (free, keeper) {
        task.table.freed(keeper, reports);
    }
}

/// What a descriptor is ready for.
enum Event {
    Report,
    Input,
    Output,
}

/// The next report, if one is there; an error once the keeper is gone.
fn read_report(reports: &Watched) -> io::Result<Option<Report>> {
    let mut bytes = [0; REPORT];
    // Written in one piece, and read so: a pipe does not split what is this short.
    match reports.try_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut bytes)?)) {
        Ok(REPORT) => Report::decode(&bytes).map(Some).ok_or_else(|| ErrorKind::InvalidData.into()),
        Ok(_) => Err(ErrorKind::UnexpectedEof.into()),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Task {
    /// One poll for all descriptors: a future for each would take as much memory as all else of a process. Readiness is
    /// kept until whoever uses it finds that it does not hold.
    fn poll(&self, context: &mut Context<'_>, reports: &Watched, writes: bool, may_read: bool) -> Poll<Event> {
        if reports.poll_read_ready(context).is_ready() {
            return Poll::Ready(Event::Report);
        }
        if let Some(Stdin::Watched(stdin)) = self.pipes.stdin.as_ref().filter(|_| writes)
            && stdin.poll_write_ready(context).is_ready()
        {
            return Poll::Ready(Event::Input);
        }
        // Each is asked, for each has to know whom to wake.
        let ready =
            self.pipes.outputs.iter().flatten().filter(|output| output.poll_read_ready(context).is_ready()).count();
        if may_read && ready > 0 {
            return Poll::Ready(Event::Output);
        }
        Poll::Pending
    }

    fn listens(&self) -> bool {
        self.pipes.outputs.iter().any(Option::is_some)
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::Forked(pid) => {
                self.forked = Some(pid);
                return;
            }
            Report::Started(pid) => self.process.state.borrow_mut().pid = Some(pid),
            Report::Failed(step, errno) => self.process.state.borrow_mut().failure = Some(failure(step, errno)),
            // Taken by whoever reads reports.
            Report::Free => {}
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
    ///
    /// The runtime knows only of what was there when it last asked the kernel. Whoever wants the last there is asks the
    /// kernel itself: a process may have written and ended since.
    fn read(&mut self, stream: usize, ask_kernel: bool) -> usize {
        let Some(fd) = self.pipes.outputs.get(stream).and_then(Option::as_ref) else { return 0 };
        let read = READ.with_borrow_mut(|buffer| {
            let mut once = |fd: &OwnedFd| Ok(rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut buffer[..]))?);
            let read = match ask_kernel {
                true => once(fd.get_ref()),
                false => fd.try_io(Interest::READABLE, once),
            };
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
                match self.read(stream, true) {
                    0 => break,
                    length => taken += length,
                }
            }
        }
    }

    /// Writes input once.
    fn write(&mut self) {
        let Some(stdin) = &self.pipes.stdin else { return };
        let mut state = self.process.state.borrow_mut();
        let write = |fd: &OwnedFd| Ok(rustix::io::write(fd, state.input.next())?);
        let written: io::Result<usize> = match stdin {
            Stdin::Unwatched(fd) => write(fd),
            Stdin::Watched(fd) => fd.try_io(Interest::WRITABLE, write),
        };
        match written {
            Ok(length) => state.input.wrote(length),
            Err(error) if error.kind() == ErrorKind::Interrupted => return,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                drop(state);
                self.pipes.watch_stdin();
                return;
            }
            Err(_) => {
                state.input.close();
                self.pipes.stdin = None;
            }
        }
        state.link.input_due = true;
        drop(state);
        self.table.tell(&self.process);
    }

    /// Writes input as long as it is taken at once: most processes never have to be waited for.
    fn try_input(&mut self) {
        while matches!(self.pipes.stdin, Some(Stdin::Unwatched(_)))
            && !self.process.state.borrow().input.next().is_empty()
        {
            self.write();
        }
    }

    /// Passes the end of the input on, once all before it was written.
    fn end_input(&mut self) {
        let mut state = self.process.state.borrow_mut();
        if !state.input.finished() || state.input_ended {
            return;
        }
        state.input_ended = true;
        if let (Some(terminal), Some(_)) = (&state.terminal, &self.pipes.stdin) {
            // A terminal has no end but this character.
            let _ = rustix::io::write(terminal, &[4]);
        }
        drop(state);
        self.pipes.stdin = None;
        self.table.tell(&self.process);
    }

    fn time_out(&self) {
        let mut state = self.process.state.borrow_mut();
        state.doomed = true;
        state.timed_out = state.exit.is_none() && self.ending.is_none();
    }

    /// Kills all below the keeper. Returns when to do so again if it is still there then, and how long that is.
    fn hunt(&self, delay: Option<Duration>) -> Option<(Instant, Duration)> {
        let (keeper, group) = {
            let state = self.process.state.borrow();
            let over = state.exit.is_some() || self.ending.is_some();
            (state.keeper?, state.pid.filter(|_| !over))
        };
        match (delay, group) {
            // Most processes are one group: no need to look at all others of the container.
            (None, Some(group)) => drop(keeper::kill(-group, libc::SIGKILL)),
            _ => tree::kill(keeper),
        }
        let delay = delay.map_or(HUNT[0], |delay| (delay * 2).min(HUNT[1]));
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

    /// The keeper is gone or free: there is nothing below it any more.
    fn gone(&mut self) {
        self.drain();
        let unknown = {
            let mut state = self.process.state.borrow_mut();
            state.keeper = None;
            state.terminal = None;
            state.pid = state.pid.or(self.forked.filter(|_| state.failure.is_none()));
            if state.pid.is_none() && state.failure.is_none() {
                state.failure = Some(StartFailure::Other("killed before it ran".into()));
            }
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
