//! Compiling, within bounds.
//!
//! A module decides how much time and memory its compilation takes, and modules come from callers. So it
//! happens in a process of its own, which limits itself before it reads the first byte: when that process
//! dies, one module is refused and the server serves on.

use super::variant::code_config;
use bytes::Bytes;
use rustix::process::{Resource, Rlimit, setrlimit};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

/// Who compiles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// A process: this program, called with the arguments of [`child_main`]. Bounded in time and memory.
    Process(PathBuf),
    /// A thread of this process. Bounded by the size of the module only, so for modules one trusts.
    InProcess,
}

/// Why there is no code.
#[derive(Debug)]
pub(super) enum Failure {
    /// The module's fault.
    Module(String),
    /// The server's.
    Server(String),
}

/// Compiles a few modules at a time.
pub(super) struct Workshop {
    pub compiler: Compiler,
    pub places: Semaphore,
    pub timeout: Duration,
    pub memory: u64,
}

/// The exit code of a child that refuses the module, as opposed to one that cannot work.
const REFUSED: u8 = 3;

/// Bytes of a child's complaint at most.
const MAX_COMPLAINT: usize = 4 << 10;

/// Threads of a child at most: each takes address space, which is what bounds its memory.
const MAX_THREADS: usize = 4;

impl Workshop {
    /// The code of a module or component that counts fuel, or does not.
    pub async fn compile(&self, module: &Bytes, metered: bool) -> Result<Vec<u8>, Failure> {
        // Never closed.
        let _place = self.places.acquire().await.map_err(|error| Failure::Server(error.to_string()))?;
        match &self.compiler {
            Compiler::Process(program) => self.in_process_of_its_own(program, module, metered).await,
            Compiler::InProcess => {
                let module = module.clone();
                let compiled = tokio::task::spawn_blocking(move || precompile(&module, metered)).await;
                compiled.map_err(|error| Failure::Server(format!("the compiler panicked: {error}")))?
            }
        }
    }

    async fn in_process_of_its_own(&self, program: &Path, module: &Bytes, metered: bool) -> Result<Vec<u8>, Failure> {
        let cannot = |error: std::io::Error| Failure::Server(format!("{} cannot be run: {error}", program.display()));
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(MAX_THREADS);
        let mut command = tokio::process::Command::new(program);
        command
            .arg("compile-module")
            .args(["--memory", &self.memory.to_string(), "--seconds", &self.timeout.as_secs().max(1).to_string()])
            .args(metered.then_some("--metered"))
            .env_clear()
            .env("RAYON_NUM_THREADS", threads.to_string())
            // Each arena of the allocator reserves 64 MiB of the address space that is counted.
            .env("MALLOC_ARENA_MAX", "2")
            // And the one of the binary a gigabyte at once.
            .env("MIMALLOC_ARENA_RESERVE", "0")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(cannot)?;
        let (Some(mut stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(Failure::Server("the compiler's process has no streams".into()));
        };
        let (mut code, mut complaint) = (Vec::new(), Vec::new());
        let work = async {
            let send = async move {
                // A child that refuses early does not read to the end; its exit says why.
                let _ = stdin.write_all(module).await;
            };
            let mut stdout = stdout.take(self.memory);
            let receive = stdout.read_to_end(&mut code);
            let listen = read_tail(stderr, &mut complaint);
            let ((), received, ()) = tokio::join!(send, receive, listen);
            received.map_err(cannot)?;
            child.wait().await.map_err(cannot)
        };
        match tokio::time::timeout(self.timeout, work).await {
            Ok(Ok(status)) if status.success() && code.starts_with(b"\x7fELF") => Ok(code),
            Ok(Ok(status)) if status.success() => {
                Err(Failure::Server(format!("{} compile-module wrote no code; is it this program?", program.display())))
            }
            Ok(Ok(status)) => Err(self.explain(status, &String::from_utf8_lossy(&complaint))),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(Failure::Module(self.too_slow())),
        }
    }

    fn explain(&self, status: ExitStatus, complaint: &str) -> Failure {
        let complaint = complaint.trim();
        // The allocator says so, the system, or wasmtime, whichever finds none first.
        let starved = ["memory allocation of", "Cannot allocate memory", "out of memory"];
        let starved = starved.iter().any(|sign| complaint.contains(sign));
        const SIGXCPU: i32 = 24;
        match (status.signal(), status.code()) {
            (Some(SIGXCPU), _) => Failure::Module(self.too_slow()),
            _ if starved => Failure::Module(self.too_large()),
            (_, Some(code)) if code == i32::from(REFUSED) => Failure::Module(complaint.into()),
            // The kernel kills for want of memory too; then there is no complaint.
            (Some(_), _) if complaint.is_empty() => Failure::Module(format!("{} ({status})", self.too_large())),
            _ => Failure::Server(format!("the compiler's process failed ({status}): {complaint}")),
        }
    }

    fn too_slow(&self) -> String {
        let limit = humantime::format_duration(self.timeout);
        format!("compiling it takes longer than {limit}; split it, or raise engine.compile_timeout")
    }

    fn too_large(&self) -> String {
        format!("compiling it needs more than {} MiB; split it, or raise engine.compile_memory", self.memory >> 20)
    }
}

/// Reads to the end, keeping only the last bytes.
async fn read_tail(mut from: impl tokio::io::AsyncRead + Unpin, tail: &mut Vec<u8>) {
    let mut chunk = [0; 1024];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        tail.extend_from_slice(&chunk[..read]);
        if tail.len() > MAX_COMPLAINT {
            tail.drain(..tail.len() - MAX_COMPLAINT);
        }
    }
}

/// Whether the bytes begin like a component, as opposed to a core module.
pub(super) fn is_component(module: &[u8]) -> bool {
    module.get(4..8) == Some(&[0x0d, 0, 1, 0])
}

fn precompile(module: &[u8], metered: bool) -> Result<Vec<u8>, Failure> {
    let engine = wasmtime::Engine::new(&code_config(metered)).map_err(|error| Failure::Server(format!("{error:#}")))?;
    let code =
        if is_component(module) { engine.precompile_component(module) } else { engine.precompile_module(module) };
    code.map_err(|error| Failure::Module(format!("{error:#}")))
}

/// The child's side of [`Compiler::Process`]: limits itself, reads a module from standard input, writes its
/// code to standard output.
///
/// The engine calls its program with `compile-module --memory BYTES --seconds SECONDS [--metered]`; whoever
/// owns `main` reads these and returns what this function returns, before starting a runtime or threads.
/// Exit code 0 means that the code is complete, 3 that the module is refused and standard error says why.
pub fn child_main(metered: bool, memory: u64, seconds: u64) -> ExitCode {
    match child(metered, memory, seconds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Module(problem)) => {
            eprintln!("{problem}");
            ExitCode::from(REFUSED)
        }
        Err(Failure::Server(problem)) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn child(metered: bool, memory: u64, seconds: u64) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::Server(error.to_string());
    let bound = |resource, limit| {
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) }).map_err(|error| failed(error.into()))
    };
    bound(Resource::As, memory)?;
    // All threads together; the parent watches the wall clock.
    bound(Resource::Cpu, seconds.saturating_mul(MAX_THREADS as u64))?;
    bound(Resource::Core, 0)?;
    // It writes to a pipe and to nothing else.
    bound(Resource::Fsize, 0)?;
    let mut module = Vec::new();
    std::io::stdin().lock().read_to_end(&mut module).map_err(failed)?;
    let code = precompile(&module, metered)?;
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&code).and_then(|()| stdout.flush()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workshop(program: &str) -> Workshop {
        Workshop {
            compiler: Compiler::Process(program.into()),
            places: Semaphore::new(1),
            timeout: Duration::from_secs(30),
            memory: 1 << 30,
        }
    }

    #[test]
    fn the_end_of_a_child_is_explained() {
        let workshop = workshop("unused");
        let text = |status: i32, complaint: &str| match workshop.explain(ExitStatus::from_raw(status), complaint) {
            Failure::Module(problem) => format!("module: {problem}"),
            Failure::Server(problem) => format!("server: {problem}"),
        };
        assert_eq!(text(i32::from(REFUSED) << 8, "bad magic\n"), "module: bad magic");
        assert!(
            text(6, "memory allocation of 8192 bytes failed")
                .starts_with("module: compiling it needs more than 1024 MiB")
        );
        assert!(text(9, "").starts_with("module: compiling it needs more than"));
        assert!(text(1 << 8, "out of memory").starts_with("module: compiling it needs more than"));
        assert!(text(24, "").starts_with("module: compiling it takes longer than 30s"));
        assert!(text(1 << 8, "no such verb").starts_with("server: "));
    }

    #[tokio::test]
    async fn a_program_that_is_missing_is_the_servers_fault() {
        let failure = workshop("/missing").compile(&Bytes::from_static(b"\0asm\x01\0\0\0"), false).await.unwrap_err();
        assert!(matches!(failure, Failure::Server(problem) if problem.contains("/missing")));
    }

    #[tokio::test]
    async fn a_program_that_is_not_this_one_is_the_servers_fault() {
        let failure = workshop("/bin/true").compile(&Bytes::from_static(b"\0asm\x01\0\0\0"), false).await.unwrap_err();
        assert!(matches!(failure, Failure::Server(problem) if problem.contains("wrote no code")));
    }

    #[tokio::test]
    async fn a_child_that_takes_too_long_is_killed() {
        // Reads nothing and says nothing: `sleep` is given arguments it refuses, so a shell stands in.
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("slow");
        std::fs::write(&script, "#!/bin/sh\nexec /bin/sleep 60\n").unwrap();
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let slow = Workshop { timeout: Duration::from_millis(50), ..workshop(script.to_str().unwrap()) };
        let failure = slow.compile(&Bytes::from_static(b"x"), false).await.unwrap_err();
        assert!(matches!(failure, Failure::Module(problem) if problem.contains("takes longer than 50ms")));
    }
}
