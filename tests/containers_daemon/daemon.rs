//! The Docker daemon of this machine, to be stopped and started.

use crate::kit;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, test_kill_process, waitpid};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, MutexGuard};

/// Longest time for the daemon to come or go: it stops its containers first.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where a daemon writes the number of the containerd that it started.
const CONTAINERD: &str = "/var/run/docker/containerd/containerd.pid";

/// There is one daemon.
static ONE: Mutex<()> = Mutex::const_new(());

/// The daemon, for one test at a time. A plain one is left behind, whatever happened.
pub struct Daemon {
    /// File with the number of the daemon that runs; whoever started the tests stops that one.
    file: PathBuf,
    /// With what it was started.
    options: Vec<String>,
    _alone: MutexGuard<'static, ()>,
}

impl Daemon {
    /// The daemon, if it is one to be played with; says so if it is not.
    pub async fn take() -> Option<Daemon> {
        let alone = ONE.lock().await;
        let file = std::env::var_os("CASEMATE_DOCKERD_PID").map(PathBuf::from);
        let Some(file) = file.filter(|file| number(file).is_some_and(runs)) else {
            assert!(
                std::env::var_os("CASEMATE_TEST_DOCKER_OWN").is_none(),
                "CASEMATE_DOCKERD_PID names no file with the number of a daemon that runs"
            );
            // Past what the harness keeps to itself of tests that pass.
            let _ = writeln!(
                std::io::stderr(),
                "!! SKIPPED: only a Docker daemon that scripts/docker.sh started is stopped and started \
                 (CASEMATE_DOCKERD_PID names the file with its number)"
            );
            return None;
        };
        kit::docker().then_some(Daemon { file, options: Vec::new(), _alone: alone })
    }

    /// Ends the daemon, and waits until it is gone.
    pub fn stop(&mut self, signal: Signal) {
        self.try_stop(signal).unwrap();
    }

    fn try_stop(&mut self, signal: Signal) -> Result<(), String> {
        let pid = number(&self.file).ok_or("the daemon has no number")?;
        // The next daemon takes one that is still dying for its own, and waits for it in vain.
        let containerd = number(Path::new(CONTAINERD));
        kill_process(pid, signal).map_err(|error| format!("the daemon hears nothing: {error}"))?;
        let deadline = Instant::now() + PATIENCE;
        while runs(pid) || containerd.is_some_and(runs) {
            if Instant::now() > deadline {
                return Err("the daemon does not go".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Starts a daemon in place of the one that was stopped, and waits until it answers.
    pub fn start(&mut self, options: &[&str]) {
        self.try_start(options).unwrap();
    }

    fn try_start(&mut self, options: &[&str]) -> Result<(), String> {
        let log = std::env::temp_dir().join(format!("dockerd.{}.log", std::process::id()));
        let output = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let mut command = Command::new("dockerd");
        command.args(options).stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        // It outlives these tests, and does not hear what their terminal says.
        let child = command.process_group(0).spawn().map_err(|error| format!("no dockerd: {error}"))?;
        let pid = Pid::from_child(&child);
        std::fs::write(&self.file, format!("{}\n", child.id())).unwrap();
        self.options = options.iter().map(|option| option.to_string()).collect();
        let deadline = Instant::now() + PATIENCE;
        while !Command::new("docker").arg("info").output().unwrap().status.success() {
            if !runs(pid) || Instant::now() > deadline {
                return Err(format!("the daemon did not start, see {}", log.display()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Stops the daemon and starts another.
    pub fn restart(&mut self, options: &[&str]) {
        self.stop(Signal::TERM);
        self.start(options);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let there = number(&self.file).is_some_and(runs);
        let stopped = if there && !self.options.is_empty() { self.try_stop(Signal::TERM) } else { Ok(()) };
        let plain = there && self.options.is_empty();
        let restored = stopped.and_then(|()| if plain { Ok(()) } else { self.try_start(&[]) });
        if let Err(problem) = restored {
            let _ = writeln!(std::io::stderr(), "!! there is no plain Docker daemon any more: {problem}");
            assert!(std::thread::panicking(), "{problem}");
        }
    }
}

fn number(file: &Path) -> Option<Pid> {
    Pid::from_raw(std::fs::read_to_string(file).ok()?.trim().parse().ok()?)
}

/// Whether there is such a process. One that ended and that nobody waited for yet is one: a daemon takes it for alive,
/// and does not start beside it.
fn runs(pid: Pid) -> bool {
    // If it was started here, nobody else waits for it.
    let _ = waitpid(Some(pid), WaitOptions::NOHANG);
    test_kill_process(pid).is_ok()
}
