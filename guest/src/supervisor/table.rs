//! All processes, and what the server may ask of them.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use casemate_guest::protocol::{
    Exit, Failure, FromGuest, ProcessId, Settings, Signal, Spec, StartFailure, Terminal, ToGuest, User,
};
use tokio::sync::Notify;

use super::channel::Channels;
use super::keeper;
use super::memory;
use super::network::gate::Gate;
use super::orders;
use super::pipes::{self, Watched};
use super::plan::Plan;
use super::process::Process;
use super::task;
use super::tree;

/// Bytes of a journal where the server does not say, and at most.
const JOURNAL: (u64, u64) = (1 << 20, 64 << 20);
/// Processes where the server does not say, and at most: what fits into one Hello.
const PROCESSES: (u32, u32) = (1024, 4096);
/// Processes after which it is worth while to give memory back.
const MANY: usize = 32;
/// Keepers that wait for another process at most.
const FREE: usize = 4;
/// Bytes of a text about a failure.
const TEXT_LIMIT: usize = 120;

/// Everything the guest knows.
#[derive(Debug, Default)]
pub struct Table {
    /// By name. The borrow never lasts across a wait, nor across a call that starts one.
    pub processes: RefCell<HashMap<ProcessId, Rc<Process>>>,
    /// Keepers that live, those of released processes and those that are free included.
    pub keepers: RefCell<HashSet<i32>>,
    /// Of those, the ones that are free.
    free: RefCell<Vec<(i32, Watched)>>,
    /// What holds for all.
    settings: RefCell<Settings>,
    /// Those that have something to tell, each once.
    pub ready: RefCell<VecDeque<Rc<Process>>>,
    /// How many there were at most since memory was given back.
    most: Cell<usize>,
    /// What is done beside processes.
    pub channels: Channels,
    /// Where processes connect to the server.
    gate: Gate,
    /// What is to be said apart from them.
    pub answers: RefCell<VecDeque<FromGuest>>,
    /// Tells the connection that there is something to say.
    pub news: Notify,
    /// With which code the guest is to end.
    pub finished: Cell<Option<i32>>,
    /// Tells that it is.
    pub finish: Notify,
}

impl Table {
    /// Puts a process in the line of those that have something to tell.
    pub fn tell(&self, process: &Rc<Process>) {
        if !process.queued.replace(true) {
            self.ready.borrow_mut().push_back(Rc::clone(process));
            self.news.notify_one();
        }
    }

    /// Gives memory back, once nothing is left of many processes.
    pub fn rest(&self) {
        let (left, most) = (self.kept() + self.processes.borrow().len(), self.most.get());
        self.most.set(most.max(left));
        if left == 0 && most >= MANY {
            self.most.set(0);
            // They have what the guest had when it forked them.
            self.free.borrow_mut().clear();
            tree::forget();
            memory::trim();
        }
    }

    /// Keepers that keep something.
    fn kept(&self) -> usize {
        self.keepers.borrow().len().saturating_sub(self.free.borrow().len())
    }

    /// A child is over; whether it was a keeper.
    pub fn forget(&self, pid: i32) -> bool {
        self.free.borrow_mut().retain(|(keeper, _)| *keeper != pid);
        self.keepers.borrow_mut().remove(&pid)
    }

    /// Nothing is left below a keeper: it may keep another process, or ends.
    pub fn freed(&self, keeper: i32, reports: Watched) {
        let mut free = self.free.borrow_mut();
        if free.len() < FREE {
            free.push((keeper, reports));
        }
        drop(free);
        self.rest();
    }

    /// Ends the guest.
    pub fn end(&self, code: i32) {
        self.finished.set(self.finished.get().or(Some(code)));
        self.finish.notify_one();
    }

    /// Takes what holds from now on.
    pub fn set(&self, settings: Settings) {
        *self.settings.borrow_mut() = settings;
    }

    /// Does what the server asks.
    pub fn handle(self: &Rc<Self>, message: ToGuest, payload: &Bytes) {
        match message {
            ToGuest::Hello { settings, .. } => {
                self.channels.greet();
                if let Some(port) = settings.gate {
                    self.gate.listen(self, port);
                }
                self.set(settings);
            }
            ToGuest::Start { id, spec } => self.start(id, &spec, payload),
            ToGuest::Attach { id, position, credit } => self.with(id, "attach", |process| {
                let mut state = process.state.borrow_mut();
                let end = state.journal.end().position;
                let place = state.journal.place(position);
                let place = place.ok_or_else(|| format!("position {position}, of {end} there are"))?;
                state.link.attached = Some(place);
                state.link.credit = credit;
                state.link.exit_due = true;
                state.link.start_due |= state.failure.is_some();
                Ok(())
            }),
            ToGuest::Credit { id, credit } => self.with(id, "credit", |process| {
                let link = &mut process.state.borrow_mut().link;
                link.credit = link.credit.saturating_add(credit);
                Ok(())
            }),
            ToGuest::Stdin { id, offset, eof } => self.with(id, "stdin", |process| {
                let mut state = process.state.borrow_mut();
                state.link.input_due = true;
                state.input.offer(offset, payload, eof)
            }),
            ToGuest::Resize { id, terminal } => self.with(id, "resize", |process| resize(process, terminal)),
            ToGuest::Signal { id, signal, to } => self.with(id, "signal", |process| send(process, signal, to)),
            ToGuest::Release { id } => self.release(id),
            ToGuest::Ping { number } => self.answer(FromGuest::Pong { number }),
            ToGuest::Shutdown => self.end(0),
            ToGuest::Open { channel, request } => self.channels.open(self, channel, *request),
            ToGuest::Data { channel } => self.channels.with(channel, |channel| channel.offer(payload)),
            ToGuest::DataEnd { channel } => self.channels.with(channel, |channel| channel.end_input()),
            ToGuest::More { channel, credit } => self.channels.with(channel, |channel| channel.more(credit)),
            ToGuest::Drop { channel } => self.channels.with(channel, |channel| channel.give_up(Failure::Dropped)),
        }
    }

    /// Says something that is about no process that is known.
    pub fn answer(&self, message: FromGuest) {
        self.answers.borrow_mut().push_back(message);
        self.news.notify_one();
    }

    fn with(&self, id: ProcessId, what: &str, act: impl FnOnce(&Rc<Process>) -> Result<(), String>) {
        let process = self.processes.borrow().get(&id).cloned();
        let done = process.as_ref().map_or_else(|| Err("no such process".into()), act);
        if let Err(problem) = done {
            self.answer(FromGuest::Refused { id, problem: format!("{what}: {problem}") });
        }
        if let Some(process) = process {
            process.wake.notify_one();
            self.tell(&process);
        }
    }

    fn start(self: &Rc<Self>, id: ProcessId, spec: &Spec, payload: &Bytes) {
        let known = self.processes.borrow().get(&id).cloned();
        let process = match known {
            Some(process) => process,
            None => {
                let settings = self.settings.borrow();
                let most = bounded(settings.processes.into(), (PROCESSES.0.into(), PROCESSES.1.into())) as usize;
                let journal = bounded(settings.journal_bytes, JOURNAL) as usize;
                // Those that are being killed count too.
                if self.processes.borrow().len().max(self.kept()) >= most {
                    // Not remembered: a name takes memory as well.
                    return self.answer(FromGuest::NotStarted { id, failure: StartFailure::TooMany });
                }
                let process = Rc::new(Process::new(id, journal));
                self.processes.borrow_mut().insert(id, Rc::clone(&process));
                self.rest();
                if let Err(failure) = self.launch(&process, spec, payload) {
                    process.state.borrow_mut().failure = Some(shortened(failure));
                }
                process
            }
        };
        process.state.borrow_mut().link.start_due = true;
        self.tell(&process);
    }

    fn launch(self: &Rc<Self>, process: &Rc<Process>, spec: &Spec, payload: &Bytes) -> Result<(), StartFailure> {
        let other = |error: std::io::Error| StartFailure::Other(error.to_string());
        let plan = Plan::new(spec)?;
        let (mut pipes, streams) = pipes::open(spec.terminal).map_err(other)?;
        if let (User::Named(_), Some(ids), Some(_)) = (&spec.user, &plan.ids, spec.terminal) {
            // So that the user may open its own terminal again; it works without.
            let user = rustix::fs::Uid::from_raw(ids.user);
            let _ = rustix::fs::fchown(&streams[0], Some(user), None);
        }
        {
            let mut state = process.state.borrow_mut();
            state.input.offer(0, payload, !spec.keep_stdin_open).map_err(StartFailure::Other)?;
            state.link.input_due = !payload.is_empty();
            state.terminal = pipes.terminal.take();
        }
        let kills = super::oom::kills();
        let (keeper, reports) = self.keeper(&plan, &streams).map_err(other)?;
        drop(streams);
        process.state.borrow_mut().keeper = Some(keeper);
        let wall = spec.wall_time_ms.map(Duration::from_millis);
        tokio::task::spawn_local(task::attend(Rc::clone(self), Rc::clone(process), pipes, reports, wall, kills));
        Ok(())
    }

    /// A keeper that was told to start a process: one that is free, or a new one.
    fn keeper(&self, plan: &Plan, streams: &[OwnedFd; 3]) -> std::io::Result<(i32, Watched)> {
        loop {
            let Some((keeper, reports)) = self.free.borrow_mut().pop() else { break };
            if orders::send(&reports, plan, streams) {
                return Ok((keeper, reports));
            }
            // It was killed, or the order is too large for it.
        }
        let (keeper, reports) = keeper::start(plan, streams)?;
        self.keepers.borrow_mut().insert(keeper);
        Ok((keeper, pipes::watch(reports)?))
    }

    fn release(&self, id: ProcessId) {
        let Some(process) = self.processes.borrow_mut().remove(&id) else { return };
        let mut state = process.state.borrow_mut();
        if self.settings.borrow().main == Some(id) {
            if let Some(exit) = state.exit {
                self.end(code(exit));
            } else if state.failure.is_some() {
                self.end(127);
            }
        }
        state.link = super::process::Link::default();
        state.doomed = true;
        state.killed = true;
        process.wake.notify_one();
        drop(state);
        drop(process);
        self.rest();
    }
}

/// The code of a shell for such an end.
pub fn code(exit: Exit) -> i32 {
    match exit {
        Exit::Code(code) => code.into(),
        Exit::Signal(signal) => 128 + signal,
        Exit::OutOfMemory => 128 + libc::SIGKILL,
        Exit::TimedOut => 124,
    }
}

fn bounded(asked: u64, (default, most): (u64, u64)) -> u64 {
    if asked == 0 { default } else { asked.min(most) }
}

/// A failure whose text is short, for all of them are told in one message.
pub fn shortened(failure: StartFailure) -> StartFailure {
    let short = |text: String| text.chars().take(TEXT_LIMIT / 4).collect::<String>();
    let cut = |text: String| if text.len() > TEXT_LIMIT { short(text) } else { text };
    match failure {
        StartFailure::NotExecutable(text) => StartFailure::NotExecutable(cut(text)),
        StartFailure::Directory(text) => StartFailure::Directory(cut(text)),
        StartFailure::User(text) => StartFailure::User(cut(text)),
        StartFailure::Other(text) => StartFailure::Other(cut(text)),
        StartFailure::NotFound | StartFailure::TooMany => failure,
    }
}

fn resize(process: &Rc<Process>, size: Terminal) -> Result<(), String> {
    let state = process.state.borrow();
    let terminal = state.terminal.as_ref().ok_or("it has no terminal")?;
    pipes::resize(terminal, size).map_err(|error| error.to_string())
}

fn send(process: &Rc<Process>, signal: i32, to: Signal) -> Result<(), String> {
    if !(1..=64).contains(&signal) {
        return Err(format!("no signal has the number {signal}"));
    }
    let mut state = process.state.borrow_mut();
    let (Some(keeper), Some(pid)) = (state.keeper, state.pid) else { return Err("it does not run".into()) };
    let before = state.exit.is_none();
    if before && signal == libc::SIGKILL {
        state.killed = true;
    }
    match to {
        Signal::Tree if signal == libc::SIGKILL => state.doomed = true,
        Signal::Tree => tree::signal(keeper, signal),
        Signal::Group if before => keeper::kill(-pid, signal).map_err(|error| error.to_string())?,
        // The number may be another process's by now: only those count that are below the keeper.
        Signal::Group => {
            for member in tree::below(keeper).into_iter().filter(|member| member.group == pid && !member.over) {
                let _ = keeper::kill(member.pid, signal);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_have_the_codes_of_a_shell() {
        assert_eq!([Exit::Code(3), Exit::Signal(15), Exit::OutOfMemory].map(code), [3, 143, 137]);
    }

    #[test]
    fn texts_about_failures_are_short() {
        let StartFailure::Other(text) = shortened(StartFailure::Other("ä".repeat(1000))) else { unreachable!() };
        assert!(text.len() <= TEXT_LIMIT);
    }
}
