//! Stripping in a process of its own: a source decides how long the parser computes (type arguments that nest
//! take time by their square and more) and how much stack it uses, and a thread cannot be stopped.

use super::{MAX_SOURCE, Problem, strip};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::sync::OnceLock;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::Semaphore;

/// Wall-clock time for one source.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Address space of a process for one source, in bytes. Its stack is reserved from it.
const MEMORY: u64 = 2 << 30;

/// Processes at a time.
static PLACES: Semaphore = Semaphore::const_new(2);

/// This program, when it is one that can be started for it.
static PROGRAM: OnceLock<Option<&'static Path>> = OnceLock::new();

/// Blanks the types of a source: in a process of its own, bounded in time and memory, where this program is
/// `casemate`; else on a thread of this process, for programs that trust their sources.
pub async fn strip_apart(name: &str, source: &str) -> Result<String, Problem> {
    let program = PROGRAM.get_or_init(|| {
        let path = std::env::current_exe().ok()?;
        // The link to the running file stays right when an update replaces the file.
        path.file_name().is_some_and(|name| name == "casemate").then_some(Path::new("/proc/self/exe"))
    });
    let Some(program) = program else {
        let (name, source) = (name.to_owned(), source.to_owned());
        let work = tokio::task::spawn_blocking(move || strip(&name, &source)).await;
        return work.unwrap_or_else(|error| Err(failed(error)));
    };
    // A child would only say the same.
    if source.len() > MAX_SOURCE {
        return strip(name, source);
    }
    // Never closed.
    let _place = PLACES.acquire().await.map_err(failed)?;
    let work = by_child(program, name, source);
    match tokio::time::timeout(TIMEOUT, work).await {
        Ok(result) => result,
        Err(_) => Err(Problem {
            message: format!(
                "reading it as TypeScript takes longer than {} s; simplify its types, or send it as JavaScript",
                TIMEOUT.as_secs()
            ),
            ..Problem::default()
        }),
    }
}

fn failed(error: impl std::fmt::Display) -> Problem {
    Problem { message: format!("TypeScript cannot be read now ({error}); try again"), ..Problem::default() }
}

async fn by_child(program: &Path, name: &str, source: &str) -> Result<String, Problem> {
    let mut child = Command::new(program)
        .args(["strip-types", "--name", name])
        .env_clear()
        // The allocator of the binary would reserve a gigabyte of the address space at once.
        .env("MIMALLOC_ARENA_RESERVE", "0")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(failed("its process has no streams"));
    };
    let mut answer = Vec::new();
    let send = async move {
        // A child that ends early says why by its answer, or by having none.
        let _ = stdin.write_all(source.as_bytes()).await;
    };
    let mut stdout = stdout.take(2 * MAX_SOURCE as u64);
    let ((), received) = tokio::join!(send, stdout.read_to_end(&mut answer));
    received.map_err(failed)?;
    let status = child.wait().await.map_err(failed)?;
    let text = String::from_utf8(answer).map_err(failed)?;
    let parts = text.split_once('\n').and_then(|(head, code)| Some((serde_json::from_str::<Value>(head).ok()?, code)));
    match parts {
        Some((head, code)) => match head.get("message").and_then(Value::as_str) {
            None => Ok(code.to_owned()),
            Some(message) => {
                Err(Problem { line: place(&head, "line"), column: place(&head, "column"), message: message.to_owned() })
            }
        },
        None => Err(Problem {
            message: format!("its TypeScript is too deeply nested ({status}); simplify it, or send it as JavaScript"),
            ..Problem::default()
        }),
    }
}

fn place(head: &Value, name: &str) -> u32 {
    head.get(name).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok()).unwrap_or_default()
}

/// The child's side: limits itself, reads a source from standard input, and writes one line of JSON, `{}` or the
/// problem, and then the code to standard output.
///
/// [`strip_apart`] calls its program with `strip-types --name NAME`; whoever owns `main` returns what this function
/// returns, before starting a runtime or threads.
pub fn child_main(name: &str) -> ExitCode {
    let bound = |resource, limit| setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) });
    let bounds = [
        bound(Resource::As, MEMORY),
        bound(Resource::Cpu, TIMEOUT.as_secs()),
        bound(Resource::Core, 0),
        bound(Resource::Fsize, 0),
    ];
    if bounds.iter().any(Result::is_err) {
        return ExitCode::FAILURE;
    }
    let mut source = String::new();
    let read = std::io::stdin().lock().take(MAX_SOURCE as u64 + 1).read_to_string(&mut source);
    let result = match read {
        Ok(_) => strip(name, &source),
        Err(error) => Err(failed(error)),
    };
    let (head, code) = match result {
        Ok(code) => (json!({}), code),
        Err(Problem { line, column, message }) => {
            (json!({ "line": line, "column": column, "message": message }), String::new())
        }
    };
    match std::io::stdout().lock().write_all(format!("{head}\n{code}").as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
