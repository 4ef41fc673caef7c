//! A folder with a configuration and tools, a server in it, and the command run there.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest a test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a command left behind.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// The JSON on standard output.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Each line of standard output as JSON.
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[track_caller]
    pub fn expect(self, code: i32) -> Done {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

/// A folder to work in. The commands see nothing of the environment the tests run in.
pub struct Folder {
    folder: TempDir,
}

impl Folder {
    /// With a configuration from `casemate init` and these guests as tools.
    pub fn new(guests: &[&str]) -> Folder {
        let folder = Folder { folder: TempDir::new().unwrap() };
        std::fs::create_dir(folder.path().join("tools")).unwrap();
        for guest in guests {
            std::fs::write(folder.path().join(format!("tools/{guest}.wasm")), module(guest)).unwrap();
        }
        folder.casemate(&["init"]).expect(0);
        folder
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_casemate"));
        command.args(arguments).current_dir(self.path()).env_clear().stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn casemate(&self, arguments: &[&str]) -> Done {
        finish(self.command(arguments))
    }

    /// Starts a server on free ports and waits until it says that it is ready.
    pub fn serve(self, arguments: &[&str]) -> Server {
        let mut command = self.command(&["serve", "--address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"]);
        command.args(["--ready-file", "ready.json", "--log-format", "text"]).args(arguments);
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = Lines::of(process.stderr.take().unwrap());
        log.until("ready");
        let ready = std::fs::read(self.path().join("ready.json")).unwrap();
        let ready: serde_json::Value = serde_json::from_slice(&ready).unwrap();
        let address = ready["grpc"].as_str().unwrap().to_owned();
        Server { folder: self, process, log, ready, address }
    }
}

/// A module by the name of its source: an example tool, a guest of the tests, or a guest in text form.
pub fn module(name: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let candidates = [root.join(format!("examples/tools/{name}.wasm")), root.join(format!("tests/guests/{name}.wasm"))];
    match candidates.iter().find(|path| path.exists()) {
        Some(path) => std::fs::read(path).unwrap(),
        None => wat::parse_file(root.join(format!("tests/guests/{name}.wat"))).unwrap(),
    }
}

/// Runs a command to its end, or kills it when it takes too long.
pub fn finish(mut command: Command) -> Done {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    collect(child)
}

/// Runs a command that reads `input`.
pub fn finish_with_input(mut command: Command, input: &str) -> Done {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    collect(child)
}

fn collect(mut child: Child) -> Done {
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let status = wait(&mut child);
    let text = |bytes: Receiver<Vec<u8>>| String::from_utf8(bytes.recv().unwrap()).unwrap();
    Done { code: status.code().unwrap(), stdout: text(stdout), stderr: text(stderr) }
}

/// Reads a pipe on a thread, so that a full one holds nobody up.
fn drain(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.unwrap().read_to_end(&mut bytes).unwrap();
        // The test may have failed already.
        let _ = send.send(bytes);
    });
    receive
}

/// Waits for the end of a process, and kills it when that does not come.
#[track_caller]
pub fn wait(child: &mut Child) -> ExitStatus {
    let pid = rustix::process::Pid::from_child(child);
    let (send, receive) = channel();
    std::thread::scope(|scope| {
        scope.spawn(move || send.send(child.wait().unwrap()));
        receive.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            panic!("the process did not end");
        })
    })
}

/// The lines of a pipe as they come.
pub struct Lines(Receiver<String>);

impl Lines {
    pub fn of(pipe: impl Read + Send + 'static) -> Lines {
        let (send, receive) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Lines(receive)
    }

    /// Waits for a line with this text.
    #[track_caller]
    pub fn until(&self, text: &str) -> String {
        let mut seen = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.0.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(RecvTimeoutError::Timeout) => panic!("no line with {text:?} came, only {seen:#?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("it ended without a line with {text:?}: {seen:#?}"),
            }
        }
    }

    /// A line with this text, among those that are here.
    pub fn try_until(&self, text: &str) -> Option<String> {
        self.0.try_iter().find(|line| line.contains(text))
    }

    /// The lines that are left when the pipe is closed.
    pub fn rest(self) -> Vec<String> {
        self.0.into_iter().collect()
    }
}

/// A running server; killed when the test is done with it.
pub struct Server {
    pub folder: Folder,
    pub process: Child,
    pub log: Lines,
    pub ready: serde_json::Value,
    pub address: String,
}

impl Server {
    /// A client command; it finds the token in the folder's configuration.
    pub fn client(&self, arguments: &[&str]) -> Command {
        let mut command = self.folder.command(arguments);
        command.env("CASEMATE_ADDRESS", &self.address);
        command
    }

    pub fn casemate(&self, arguments: &[&str]) -> Done {
        finish(self.client(arguments))
    }

    /// Starts a client command and gives its output as it comes.
    pub fn start(&self, arguments: &[&str]) -> (Child, Lines) {
        spawn(self.client(arguments))
    }

    /// Kills the server and starts another one in its place, with the same data and the same address.
    pub fn replace(self) -> Server {
        let mut old = self;
        old.process.kill().unwrap();
        wait(&mut old.process);
        let mut command = old.folder.command(&["serve", "--address", &old.address, "--http-address", "127.0.0.1:0"]);
        old.process = command.args(["--log-format", "text"]).stderr(Stdio::piped()).spawn().unwrap();
        old.log = Lines::of(old.process.stderr.take().unwrap());
        old.log.until("ready");
        old
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        send_signal(&self.process, signal);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

pub fn spawn(mut command: Command) -> (Child, Lines) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let stdout: ChildStdout = child.stdout.take().unwrap();
    (child, Lines::of(stdout))
}

pub fn send_signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).unwrap();
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, as some tests want.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
