//! Building a snapshot: an isolate from the built-in image sees further packages, runs a preload, and is frozen.
//!
//! A build is a run like any other: in the sandbox, with limits, without tools and without a network. What is
//! frozen is trusted as little as any isolate.

use super::kept::KeptTurn;
use super::origin::{Frozen, Origin};
use super::packages::{LeftOut, MAX_BYTES, MAX_FILES, Packages, check_path, is_native};
use super::runtime::Language;
use super::service::{Ended, Interpreter};
use crate::domain::event::{LogLevel, OutputStream, Progress};
use crate::domain::execution::Exit;
use crate::domain::input::Inputs;
use crate::domain::io::{InputRead, InputSource, Meter, OutputSink};
use crate::domain::limits::Limits;
use crate::domain::output::{Content, RichOutput, RichOutputKind};
use crate::engine::DenyAll;
use crate::error::{Error, Result, Violation};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// What a build may use: importing much takes seconds, compiling its sources included.
const LIMITS: Limits = Limits {
    wall_time: Duration::from_secs(300),
    memory_bytes: 2 << 30,
    table_elements: 0,
    stack_bytes: 0,
    output_bytes: 64 << 10,
    host_calls: 0,
    fuel: None,
    scratch_bytes: 64 << 20,
    child_executions: 0,
    child_depth: 0,
};

/// Bytes of a traceback that an error carries: an error travels in a header, which has little room.
const MAX_PROBLEM: usize = 3000;

/// Modules that are told at most.
const MAX_MODULES: usize = 1000;

const SCRIPT: &str = include_str!("python/guest/build.py");

/// A snapshot to build.
#[derive(Clone, Debug, Default)]
pub struct Build {
    /// Python code to run before the freeze.
    pub preload: String,
    /// What tracebacks call it; empty for `preload.py`.
    pub preload_name: String,
    /// Files of packages: paths below a directory that is on `sys.path`, and contents.
    pub packages: Vec<(String, Bytes)>,
}

/// What was built, still in memory.
pub struct Built {
    frozen: Frozen,
    origin: Arc<Origin>,
    files: Vec<(String, Bytes)>,
    /// Packages, each "name version".
    pub packages: Vec<String>,
    /// Modules that were loaded, the topmost names only.
    pub modules: Vec<String>,
    /// What the preload wrote to standard output and standard error; cut after 64 KiB.
    pub output: String,
}

impl Built {
    /// Writes the files of the snapshot into an empty directory, and gives its bytes of memory.
    pub fn write(&self, directory: &Path) -> Result<u64> {
        self.origin.develop(&self.frozen, &self.files, directory)
    }
}

impl Interpreter {
    /// Builds a snapshot on the built-in image.
    ///
    /// # Errors
    /// `InvalidArgument` for files that cannot be packages, and for a preload that fails: with its traceback.
    pub async fn build(self: &Arc<Self>, build: Build) -> Result<Built> {
        if self.artifact().language != Language::Python {
            let text = format!("is {:?}; only snapshots of \"python\" can be built", self.name());
            return Err(Error::invalid("tool", text));
        }
        let packages = checked(build.packages)?;
        let loaded = self.loaded().await?;
        let base = loaded.library.with(packages.files.iter().cloned());
        let origin = Arc::new(loaded.origin.with_base(base));
        let kept = self.keep("build".into(), Some(origin.clone()), LIMITS.memory_bytes, LIMITS.scratch_bytes).await?;
        let heard = Arc::new(Listener::default());
        let turn = KeptTurn {
            name: "<casemate build>".into(),
            code: script(&build.preload, &build.preload_name, &packages).into(),
            environment: BTreeMap::new(),
            inputs: Inputs::default(),
            return_all: false,
            limits: LIMITS,
            input: Arc::new(Nothing),
            output: heard.clone(),
            meter: Arc::new(Meter::default()),
            egress: Arc::new(DenyAll),
            children: None,
        };
        let (kept, ended) = kept.turn(turn).await?;
        let modules = heard.modules.lock().take();
        let (Some(kept), Some(modules), Exit::Exited { code: 0 }) = (kept, modules, &ended.exit) else {
            return Err(failure(&ended));
        };
        let frozen = tokio::task::spawn_blocking(move || kept.whole())
            .await
            .map_err(|error| Error::Internal(format!("freezing panicked: {error}")))??;
        let output = String::from_utf8_lossy(&heard.output.lock()).into_owned();
        Ok(Built { frozen, origin, packages: packages.versions(), files: packages.files, modules, output })
    }
}

/// The files, if they can be packages: every problem is told, up to a number.
fn checked(files: Vec<(String, Bytes)>) -> Result<Packages> {
    const TOLD: usize = 20;
    let mut packages = Packages::default();
    let mut total = 0;
    let mut violations = Vec::new();
    for (path, content) in files {
        let problem = match check_path(&path) {
            Err(problem) => Some(format!("{path:?}: {problem}")),
            Ok(()) if is_native(&path) => Some(LeftOut::Native(path.clone()).to_string()),
            Ok(()) => packages.add(path, content, &mut total).err(),
        };
        violations.extend(problem.map(|problem| Violation::new("packages", problem)));
        if violations.len() >= TOLD || packages.files.len() > MAX_FILES || total > MAX_BYTES {
            break;
        }
    }
    packages.files.sort_by(|a, b| a.0.cmp(&b.0));
    if let Some(pair) = packages.files.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        violations.push(Violation::new("packages", format!("{:?} is there twice", pair[0].0)));
    }
    if violations.is_empty() { Ok(packages) } else { Err(Error::InvalidArgument(violations)) }
}

/// The preload with what surrounds it: one expression without a value, so that it leaves nothing in `__main__`.
fn script(preload: &str, name: &str, packages: &Packages) -> String {
    let name = if name.is_empty() { "preload.py" } else { name };
    let mut tops: Vec<&str> = packages
        .files
        .iter()
        .filter_map(|(path, _)| match path.split_once('/') {
            Some((top, _)) => Some(top),
            None => path.strip_suffix(".py"),
        })
        .filter(|top| !top.contains(['.', '-']))
        .collect();
    tops.dedup();
    // JSON strings and lists are Python strings and lists.
    let [source, name, tops, script] =
        [preload.into(), name.into(), tops.into(), SCRIPT.into()].map(|value: serde_json::Value| value.to_string());
    format!(
        "exec(compile({script}, '<casemate build>', 'exec'), \
         {{'__name__': '_casemate', 'source': {source}, 'name': {name}, 'packages': {tops}}})"
    )
}

fn failure(ended: &Ended) -> Error {
    let text = match (&ended.exception, &ended.exit) {
        (Some(exception), _) => {
            let trace = &exception.traceback;
            // The end of a traceback says what happened.
            let from = trace.ceil_char_boundary(trace.len().saturating_sub(MAX_PROBLEM));
            format!("failed:\n{}", trace[from..].trim_end())
        }
        (None, Exit::Exited { .. }) => "ended the interpreter: a preload must come to its own end".into(),
        (None, _) => format!("did not end well: {}", ended.message),
    };
    Error::invalid("preload", text)
}

/// No standard input.
struct Nothing;

impl InputSource for Nothing {
    fn read(&self, _: usize) -> InputRead {
        InputRead::Eof
    }

    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

/// Hears what a preload says.
#[derive(Default)]
struct Listener {
    output: Mutex<Vec<u8>>,
    modules: Mutex<Option<Vec<String>>>,
}

impl OutputSink for Listener {
    fn write(&self, _: OutputStream, data: Bytes) {
        let mut output = self.output.lock();
        let room = (LIMITS.output_bytes as usize).saturating_sub(output.len());
        output.extend_from_slice(&data[..data.len().min(room)]);
    }

    fn log(&self, _: LogLevel, _: String) {}

    fn progress(&self, _: Progress) {}

    fn rich(&self, output: RichOutput) {
        let json = output.representations.iter().find(|form| form.mime_type == "application/json");
        if output.kind == RichOutputKind::Value
            && let Some(Content::Text(text)) = json.and_then(|form| form.content.as_ref())
            && let Ok(mut modules) = serde_json::from_str::<Vec<String>>(text)
        {
            modules.truncate(MAX_MODULES);
            *self.modules.lock() = Some(modules);
        }
    }
}
