//! The keeper of a process: a child of the guest, below which everything stays that the process starts.
//!
//! It takes in orphans (`PR_SET_CHILD_SUBREAPER`), so that whatever a process does to get away, it is still found
//! below its keeper. It is a fork of the guest without a program of its own: it costs no start, and little memory. Once
//! nothing is left below it, it may keep another process, which saves that process the fork.
//!
//! All code that runs between a fork and the program is here. The guest has one thread, so its children may allocate;
//! they must not panic, though, nor ever return. The program's process shares the keeper's memory until it is the
//! program, as `vfork` has it: a copy of what is thrown away at once would cost more than all else.

use std::cell::{Cell, UnsafeCell};
use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr::null;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::orders;
use super::plan::Plan;

/// How often, and after how long, a program is tried again that is still open for writing.
const BUSY_TRIES: u32 = 100;
const BUSY_WAIT: Duration = Duration::from_millis(2);

/// Bytes of a report: its kind, and two numbers.
pub const REPORT: usize = 12;

/// What a keeper says about its process, on a socket that ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// This process is about to execute the program. It says so itself, and so before the program can kill its keeper.
    Forked(i32),
    /// The program runs as this process.
    Started(i32),
    /// It could not be executed: at this step, with this error number.
    Failed(Step, i32),
    /// The process ended, with this status.
    Ended(i32),
    /// Nothing is left below it.
    Free,
}

/// What a process does before it is the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Being forked, with its session, terminal and streams.
    Prepare,
    /// Becoming the user.
    User,
    /// Entering the directory.
    Directory,
    /// Executing the program.
    Execute,
}

impl Report {
    fn encode(self) -> [u8; REPORT] {
        let numbers = match self {
            Self::Started(pid) => [0, pid, 0],
            Self::Failed(step, errno) => [1, step as i32, errno],
            Self::Ended(status) => [2, status, 0],
            Self::Forked(pid) => [3, pid, 0],
            Self::Free => [4, 0, 0],
        };
        let mut bytes = [0; REPORT];
        for (to, number) in bytes.chunks_exact_mut(4).zip(numbers) {
            to.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// Reads one; none if it is no report.
    pub fn decode(bytes: &[u8; REPORT]) -> Option<Self> {
        let number = |at: usize| bytes.get(at..at + 4).and_then(|part| part.try_into().ok()).map(i32::from_le_bytes);
        let step = |number| [Step::Prepare, Step::User, Step::Directory, Step::Execute].into_iter().nth(number);
        match (number(0)?, number(4)?, number(8)?) {
            (0, pid, _) => Some(Self::Started(pid)),
            (1, at, errno) => Some(Self::Failed(step(usize::try_from(at).ok()?)?, errno)),
            (2, status, _) => Some(Self::Ended(status)),
            (3, pid, _) => Some(Self::Forked(pid)),
            (4, ..) => Some(Self::Free),
            _ => None,
        }
    }
}

/// Starts a keeper and its process. Returns the keeper's number, and where its reports are read.
///
/// # Errors
/// No socket, or no process.
pub fn start(plan: &Plan, streams: &[OwnedFd; 3]) -> io::Result<(i32, OwnedFd)> {
    // Keeps messages apart: reports on the way here, orders on the way there.
    let (reports, writer) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    own_signals();
    // A signal that comes before the child has its own dispositions would run the guest's handlers in it.
    let mask = block_signals();
    // SAFETY: the guest has one thread, so the child is a whole process; it never returns from `keep`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let _end = EndHere;
        keep(plan, streams.each_ref().map(AsRawFd::as_raw_fd), &writer);
    }
    let failure = io::Error::last_os_error();
    set_mask(&mask);
    if pid < 0 {
        return Err(failure);
    }
    rustix::io::ioctl_fionbio(&reports, true)?;
    Ok((pid, reports))
}

/// Sends a signal to a process, or to a group if the number is negative.
///
/// # Errors
/// The kernel's.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: takes numbers alone.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// Ends a child whatever happens, so that it never runs on as a second guest.
struct EndHere;

impl Drop for EndHere {
    fn drop(&mut self) {
        exit(127);
    }
}

fn exit(code: c_int) -> ! {
    // SAFETY: ends this process without running anything of the guest's.
    unsafe { libc::_exit(code) }
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn block_signals() -> libc::sigset_t {
    // SAFETY: the sets are plain data on this stack; a zeroed one is valid, and both are written before being read.
    unsafe {
        let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        before
    }
}

fn set_mask(mask: &libc::sigset_t) {
    // SAFETY: the set is valid; where the former one would go, nothing is asked.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, mask, std::ptr::null_mut()) };
}

/// The life of a keeper. Its signals stay blocked: those sent to all processes are not meant for it.
fn keep(plan: &Plan, streams: [RawFd; 3], reports: &OwnedFd) -> ! {
    // SAFETY: takes numbers alone.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        libc::prctl(libc::PR_SET_NAME, c"casemate-keeper".as_ptr(), 0, 0, 0);
    }
    keep_one(plan, streams, reports);
    loop {
        say(reports, Report::Free);
        // Its end is that the guest wants no more of it, or is gone.
        let Some((plan, streams)) = orders::receive(reports) else { exit(0) };
        keep_one(&plan, streams, reports);
    }
}

/// Starts a process, and waits until nothing is left below this one. Closes what the process was given.
fn keep_one(plan: &Plan, streams: [RawFd; 3], reports: &OwnedFd) {
    let birth = Birth {
        plan,
        arguments: pointers(&plan.arguments),
        environment: pointers(&plan.environment),
        streams,
        reports,
        failure: Cell::new(None),
    };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: this process stands still until the child, which runs on a stack that nobody else uses then, is the program
    // or gone; it has one thread, so nobody sees the memory that both share. The child never returns into it.
    let pid = unsafe { libc::clone(be_born, STACK.top(), flags, (&raw const birth).cast_mut().cast()) };
    let error = io::Error::last_os_error();
    // What the guest has open, its connection above all, is not this process's. The program has none of it: all of it is
    // closed when a program is executed.
    close_others(reports.as_raw_fd());
    if pid < 0 {
        return say(reports, Report::Failed(Step::Prepare, error.raw_os_error().unwrap_or(libc::EINVAL)));
    }
    let failed = birth.failure.get().map(|(step, errno)| Report::Failed(step, errno));
    say(reports, failed.unwrap_or(Report::Started(pid)));
    loop {
        let mut status = 0;
        // SAFETY: the kernel writes one number.
        let ended = retry(|| unsafe { libc::waitpid(-1, &raw mut status, 0) } as isize);
        if ended < 0 {
            return; // Nothing is left below.
        }
        if ended == pid as isize && failed.is_none() {
            say(reports, Report::Ended(status));
        }
    }
}

fn retry(mut call: impl FnMut() -> isize) -> isize {
    loop {
        let result = call();
        if result >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return result;
        }
    }
}

fn say(to: &OwnedFd, report: Report) {
    // If nobody listens the guest is gone, and so is this process.
    let _ = rustix::io::write(to, &report.encode());
}

/// Closes every descriptor but the first three and this one.
fn close_others(kept: RawFd) {
    close_range(3, kept - 1);
    close_from(kept + 1);
}

/// Closes every descriptor from this one on.
pub fn close_from(first: RawFd) {
    close_range(first, c_int::MAX);
}

/// The stack of a process before it is its program. Each keeper has its own, as it has all memory, for one at a time.
#[repr(align(16))]
struct Stack(UnsafeCell<[u8; STACK_SIZE]>);

const STACK_SIZE: usize = 64 << 10;

// SAFETY: nothing but a child's own frames is ever in it, and there is one child at a time that is no program yet.
unsafe impl Sync for Stack {}

static STACK: Stack = Stack(UnsafeCell::new([0; STACK_SIZE]));

impl Stack {
    /// Where it begins: it grows downwards.
    fn top(&self) -> *mut c_void {
        // SAFETY: one past the end of the array, which is where a stack that is empty points.
        unsafe { self.0.get().cast::<u8>().add(STACK_SIZE).cast() }
    }
}

/// What a process needs to become its program.
struct Birth<'a> {
    plan: &'a Plan,
    arguments: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    streams: [RawFd; 3],
    reports: &'a OwnedFd,
    /// Why it did not.
    failure: Cell<Option<(Step, i32)>>,
}

/// The life of a process up to its program.
extern "C" fn be_born(birth: *mut c_void) -> c_int {
    // SAFETY: it is the keeper's, which waits.
    let birth = unsafe { &*birth.cast::<Birth<'_>>() };
    say(birth.reports, Report::Forked(std::process::id().cast_signed()));
    let (step, error) = become_program(birth);
    birth.failure.set(Some((step, error.raw_os_error().unwrap_or(libc::EINVAL))));
    exit(127);
}

fn close_range(from: c_int, to: c_int) {
    if from > to {
        return;
    }
    // SAFETY: this process uses none of these descriptors again, and frees nothing that owns them.
    if unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) } == 0 {
        return;
    }
    // Before Linux 5.9, or under a filter that does not know it. Limits above a million are meant as "no limit".
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1 << 20);
    for fd in from..=to.min(most.min(1 << 20) as c_int) {
        // SAFETY: as above.
        unsafe { libc::close(fd) };
    }
}

/// Turns this process into the program. Returns only if it cannot.
fn become_program(birth: &Birth<'_>) -> (Step, io::Error) {
    let (plan, streams) = (birth.plan, birth.streams);
    let prepared = || -> io::Result<()> {
        // SAFETY: numbers alone; the descriptors are open, and above the first three.
        unsafe {
            check(libc::setsid())?;
            for (to, from) in (0..).zip(streams) {
                check(libc::dup2(from, to))?;
            }
            if plan.terminal {
                check(libc::ioctl(0, libc::TIOCSCTTY, 0))?;
            }
        }
        Ok(())
    };
    if let Err(error) = prepared() {
        return (Step::Prepare, error);
    }
    if let Err(error) = become_user(plan) {
        return (Step::User, error);
    }
    if let Some(directory) = &plan.directory {
        // SAFETY: a string that ends with a zero byte.
        if let Err(error) = check(unsafe { libc::chdir(directory.as_ptr()) }) {
            return (Step::Directory, error);
        }
    }
    reset_signals();
    (Step::Execute, execute(birth))
}

fn become_user(plan: &Plan) -> io::Result<()> {
    let Some(ids) = &plan.ids else { return Ok(()) };
    // SAFETY: the list is as long as is said; the rest are numbers. This process has one thread.
    unsafe {
        match check(libc::setgroups(ids.others.len(), ids.others.as_ptr())) {
            // Not permitted in some containers, where the guest has no groups to lose either.
            Err(error) if error.raw_os_error() != Some(libc::EPERM) => return Err(error),
            _ => {}
        }
        check(libc::setresgid(ids.group, ids.group, ids.group))?;
        check(libc::setresuid(ids.user, ids.user, ids.user))?;
    }
    Ok(())
}

/// Signals that do something else in the guest than by default: those it ignores would be ignored in programs, too.
fn own_signals() -> &'static [c_int] {
    static OWN: OnceLock<Vec<c_int>> = OnceLock::new();
    OWN.get_or_init(|| {
        let differs = |signal: &c_int| {
            // SAFETY: only asks, into plain data on this stack.
            unsafe {
                let mut now: libc::sigaction = std::mem::zeroed();
                libc::sigaction(*signal, null(), &raw mut now) == 0 && now.sa_sigaction != libc::SIG_DFL
            }
        };
        (1..=64).filter(differs).collect()
    })
}

fn reset_signals() {
    for signal in own_signals() {
        // SAFETY: the default disposition runs no code of ours.
        unsafe { libc::signal(*signal, libc::SIG_DFL) };
    }
    // SAFETY: a set on this stack, emptied before it is read.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        set_mask(&none);
    }
}

/// A list as the kernel takes it.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([null()]).collect()
}

fn execute(birth: &Birth<'_>) -> io::Error {
    let (arguments, environment) = (&birth.arguments, &birth.environment);
    let mut refused = None;
    for candidate in &birth.plan.candidates {
        let mut error = try_execute(candidate, arguments, environment);
        // What the guest has just written may be open in another child of it, for as long as that takes to close it.
        for _ in 0..BUSY_TRIES {
            if error.raw_os_error() != Some(libc::ETXTBSY) {
                break;
            }
            std::thread::sleep(BUSY_WAIT);
            error = try_execute(candidate, arguments, environment);
        }
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => {}
            // As a shell does: a later folder may have one that may be run.
            Some(libc::EACCES) => refused = refused.or(Some(error)),
            _ => return error,
        }
    }
    refused.unwrap_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
}

fn try_execute(program: &CString, arguments: &[*const c_char], environment: &[*const c_char]) -> io::Error {
    // SAFETY: strings that end with a zero byte, in lists that end with a null pointer; all outlive the call.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read_as_written() {
        for report in [
            Report::Forked(6),
            Report::Started(7),
            Report::Failed(Step::Directory, 2),
            Report::Ended(0x100),
            Report::Free,
        ] {
            assert_eq!(Report::decode(&report.encode()), Some(report));
        }
        assert_eq!(Report::decode(&[9; REPORT]), None);
    }
}
