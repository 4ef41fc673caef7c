//! A server with Docker behind it, and a terminal for its clients.

use crate::kit::{Done, Folder, PATIENCE, Server};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::ptr::{null, null_mut};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel, sync_channel};
use std::time::Instant;

pub const BUSYBOX: &str = "casemate-test/busybox:1";

/// Whether there is a daemon with the images; says so if not.
pub fn docker() -> bool {
    let there = Command::new("docker").args(["image", "inspect", BUSYBOX]).output();
    let there = there.is_ok_and(|output| output.status.success());
    if !there {
        assert!(
            std::env::var_os("CASEMATE_TEST_DOCKER").is_none(),
            "no Docker daemon with the test images: scripts/docker.sh and scripts/test-images.sh make them"
        );
        eprintln!("!! SKIPPED: no Docker daemon with the test images");
    }
    there
}

/// A server whose containers go with it.
pub struct House {
    server: Option<Server>,
}

impl House {
    pub fn open() -> House {
        House::with("")
    }

    /// With further keys of `[containers]`.
    pub fn with(keys: &str) -> House {
        let folder = Folder::new(&[]);
        let path = folder.path().join("casemate.toml");
        let config = std::fs::read_to_string(&path).unwrap();
        let more = format!("[containers]\nimages = [\"docker.io/casemate-test/*\"]\n{keys}\n");
        std::fs::write(path, config + &more).unwrap();
        let house = House { server: Some(folder.serve(&[])) };
        house.until("the backend is met", |house| house.health()["components"]["containers"]["state"] == "up");
        house
    }

    fn health(&self) -> serde_json::Value {
        let address = self.server().ready["http"].as_str().unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    pub fn casemate(&self, arguments: &[&str]) -> Done {
        self.server().casemate(arguments)
    }

    /// Kills the server and starts another in its place.
    pub fn replace_server(&mut self) {
        let server = self.server.take().unwrap();
        self.server = Some(server.replace());
    }

    /// Starts a container whose main process is a shell's command.
    pub fn spawn(&self, name: &str, script: &str) -> String {
        let spawned = ["containers", "spawn", "--name", name, BUSYBOX, "--", "/bin/sh", "-c", script];
        self.casemate(&spawned).expect(0).stdout.trim_end().to_owned()
    }

    /// A container that does nothing by itself.
    pub fn idle(&self, name: &str) -> String {
        self.spawn(name, "sleep 100000")
    }

    pub fn get(&self, name: &str) -> serde_json::Value {
        self.casemate(&["containers", "get", name]).expect(0).json()
    }

    /// Asks until the answer is yes.
    #[track_caller]
    pub fn until(&self, what: &str, mut yes: impl FnMut(&House) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !yes(self) {
            assert!(Instant::now() < deadline, "in vain waited until {what}");
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let Some(server) = &mut self.server else { return };
        // A server that lives would tend what is taken from it.
        let _ = server.process.kill();
        let _ = server.process.wait();
        // Those that were over when the server was killed may be there still, and are known by their mounts alone.
        let all = ["ps", "-a", "--no-trunc", "--format", "{{.Names}}\t{{.Mounts}}"];
        let all = Command::new("docker").args(all).output().map(|output| output.stdout).unwrap_or_default();
        let folder = server.folder.path().to_string_lossy().into_owned();
        for line in String::from_utf8_lossy(&all).lines().filter(|line| line.contains(&folder)) {
            let name = line.split('\t').next().unwrap_or_default();
            let _ = Command::new("docker").args(["rm", "-f", "-v", name]).output();
        }
    }
}

/// A terminal with a command in it. What the command writes is read as it comes.
pub struct Terminal {
    pub child: Child,
    keys: File,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    /// Runs a command, with everything it has on this terminal, which is the one that controls it.
    pub fn run(command: &Command, columns: u16, rows: u16) -> Terminal {
        let (ours, theirs) = pair();
        let mut there = Command::new("setsid");
        there.arg("--ctty").arg(command.get_program()).args(command.get_args());
        there.current_dir(command.get_current_dir().unwrap()).env_clear().env("PATH", "/usr/bin:/bin");
        for (name, value) in command.get_envs() {
            there.env(name, value.unwrap());
        }
        let end = || Stdio::from(theirs.try_clone().unwrap());
        let child = there.stdin(end()).stdout(end()).stderr(end());
        let screen = File::from(ours);
        resize(&screen, columns, rows);
        let child = child.spawn().unwrap();
        // With the last one held by the command, its end is the end of what can be read.
        drop((there, theirs));
        let keys = screen.try_clone().unwrap();
        Terminal { child, keys, screen: drain(screen), seen: String::new() }
    }

    pub fn type_in(&mut self, text: &str) {
        self.keys.write_all(text.as_bytes()).unwrap();
    }

    pub fn resize(&self, columns: u16, rows: u16) {
        resize(&self.keys, columns, rows);
    }

    /// Waits until this text stands on the screen, after what was waited for before, and answers what stood before it.
    #[track_caller]
    pub fn until(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                let before = std::mem::replace(&mut self.seen, rest);
                return before[..at].to_owned();
            }
            match self.screen.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Timeout) => panic!("{text:?} never came, only {:?}", self.seen),
                Err(RecvTimeoutError::Disconnected) => panic!("it ended without {text:?}: {:?}", self.seen),
            }
        }
    }

    /// Whether keys are shown and lines are edited by this terminal, as a shell leaves it.
    pub fn is_cooked(&self) -> bool {
        use rustix::termios::LocalModes;
        let modes = rustix::termios::tcgetattr(&self.keys).unwrap().local_modes;
        modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself, as most tests want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resize(terminal: impl AsFd, columns: u16, rows: u16) {
    tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

/// Both ends of a new terminal.
fn pair() -> (OwnedFd, OwnedFd) {
    let (mut ours, mut theirs) = (-1, -1);
    // SAFETY: both places outlive the call, and null is allowed for what is not wanted.
    let made = unsafe { libc::openpty(&mut ours, &mut theirs, null_mut(), null(), null()) };
    assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
    // Children must not inherit our end: they would keep it open.
    rustix::io::fcntl_setfd(borrow(ours), rustix::io::FdFlags::CLOEXEC).unwrap();
    rustix::io::fcntl_setfd(borrow(theirs), rustix::io::FdFlags::CLOEXEC).unwrap();
    // SAFETY: they are open, and nobody else has them.
    unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) }
}

fn borrow<'a>(fd: i32) -> rustix::fd::BorrowedFd<'a> {
    // SAFETY: only called with what was opened just now, and is not closed before the call is over.
    unsafe { rustix::fd::BorrowedFd::borrow_raw(fd) }
}

/// Reads as it comes, until the other end is closed.
pub fn drain(pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (send, receive) = channel();
    read_all(pipe, move |piece| send.send(piece).is_ok());
    receive
}

/// Reads no more than a little ahead of whoever takes it.
pub fn sip(pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (send, receive) = sync_channel(0);
    read_all(pipe, move |piece| send.send(piece).is_ok());
    receive
}

fn read_all(mut pipe: impl Read + Send + 'static, take: impl Fn(Vec<u8>) -> bool + Send + 'static) {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = pipe.read(&mut buffer) {
            if !take(buffer[..read].to_vec()) {
                return;
            }
        }
    });
}
