//! The interpreters of a server: what is installed, loaded once, run many times.

use super::children::Children;
use super::install::{ARTIFACTS, Artifact, Installed};
use super::library::{self, Library};
use super::memory::{Image, SlotFacts, Slots, Spent, Tenant};
use super::origin::Origin;
use super::packages::Packages;
use super::runtime::{Isolate, Language, Runtime, fingerprint};
use super::talk::{Said, Talk, Turn};
use super::wasi::Wasi;
use super::{files, install};
use crate::domain::execution::Exit;
use crate::domain::input::Inputs;
use crate::domain::io::{InputSource, Meter, OutputSink};
use crate::domain::limits::Limits;
use crate::domain::output::{ExceptionInfo, OutputFile};
use crate::domain::time::Timestamp;
use crate::engine::{Egress, Engine};
use crate::error::{Error, Result};
use bytes::Bytes;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::OnceCell;

/// Settings of the interpreters.
#[derive(Clone, Debug)]
pub struct InterpretersConfig {
    /// Where they are installed.
    pub directory: PathBuf,
    /// Memories kept between runs, each for the tenant it served; a few MiB each.
    pub max_idle: usize,
    /// Whether written pages may be found through the kernel's page map.
    pub pagemap: bool,
    /// A directory of further packages that all isolates of Python see.
    pub packages: Option<PathBuf>,
}

/// The interpreters of a server. Cheap to clone.
#[derive(Clone)]
pub struct Interpreters {
    all: Arc<[Arc<Interpreter>]>,
    slots: Slots,
}

impl Interpreters {
    /// Looks at what is installed. Loads nothing yet.
    pub fn open(config: &InterpretersConfig, engine: &Engine) -> Interpreters {
        let slots = Slots::new(config.max_idle, config.pagemap);
        let print = fingerprint().map_err(|error| format!("{error:#}"));
        let open = |artifact: &'static Artifact| {
            let directory = config.directory.join(artifact.name);
            let installed = Installed::read(&directory).and_then(|installed| {
                if !installed.fits(artifact, print.as_ref().map_err(String::clone)?) {
                    return Err("it was installed by another build or for another machine".into());
                }
                installed.check(&directory)?;
                Ok(installed)
            });
            let image = installed.as_ref().ok().and_then(|_| Image::open(&directory.join("builtin.image")).ok());
            Arc::new(Interpreter {
                image_digest: image.map(|image| image.digest()).unwrap_or_default(),
                artifact,
                directory,
                packages: config.packages.clone().filter(|_| artifact.language == Language::Python),
                installed,
                slots: slots.clone(),
                engine: engine.clone(),
                loaded: OnceCell::new(),
            })
        };
        Interpreters { all: ARTIFACTS.iter().map(open).collect(), slots }
    }

    /// All of them, installed or not.
    pub fn all(&self) -> &[Arc<Interpreter>] {
        &self.all
    }

    /// The one of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Interpreter>> {
        self.all.iter().find(|interpreter| interpreter.name() == name)
    }

    /// How their memories stand.
    pub fn slots(&self) -> SlotFacts {
        self.slots.facts()
    }

    /// What all isolates took so far, by its parts.
    pub fn spent(&self) -> Spent {
        self.slots.spent()
    }
}

/// One interpreter.
pub struct Interpreter {
    artifact: &'static Artifact,
    directory: PathBuf,
    packages: Option<PathBuf>,
    installed: std::result::Result<Installed, String>,
    slots: Slots,
    engine: Engine,
    image_digest: [u8; 32],
    loaded: OnceCell<Loaded>,
}

/// Verified and ready.
pub(super) struct Loaded {
    pub runtime: Runtime,
    pub library: Library,
    pub origin: Arc<Origin>,
    /// Why the operator's packages are not there.
    pub problem: Option<String>,
}

/// What one run is given.
pub struct Run {
    /// Whom its memory belongs to.
    pub tenant: Tenant,
    /// What it may use.
    pub limits: Limits,
    /// The code.
    pub code: Bytes,
    /// Files, arguments, environment, and which files to give back.
    pub inputs: Inputs,
    /// Its standard input.
    pub input: Arc<dyn InputSource>,
    /// Takes what it says.
    pub output: Arc<dyn OutputSink>,
    /// Counts what it uses.
    pub meter: Arc<Meter>,
    /// Answers its requests to the network.
    pub egress: Arc<dyn Egress>,
    /// The tools it may call.
    pub children: Option<Arc<dyn Children>>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// Why.
    pub exit: Exit,
    /// One sentence for people; empty for a plain success.
    pub message: String,
    /// The exception that ended it.
    pub exception: Option<ExceptionInfo>,
    /// Files it made or changed.
    pub files: Vec<OutputFile>,
    /// Files beyond those.
    pub unlisted_files: u64,
}

impl Interpreter {
    /// Its name, which is that of its tool.
    pub fn name(&self) -> &'static str {
        self.artifact.name
    }

    /// What it is made from.
    pub fn artifact(&self) -> &'static Artifact {
        self.artifact
    }

    /// What is installed, or why nothing usable is.
    pub fn installed(&self) -> std::result::Result<&Installed, &str> {
        self.installed.as_ref().map_err(String::as_str)
    }

    /// Fingerprint of the built-in image: states that were frozen on another one are foreign. Zeros when it is not
    /// installed.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.image_digest
    }

    /// Digest, bytes on disk, bytes of memory and time of the built-in image; `None` when it is not installed.
    pub fn built_in(&self) -> Option<([u8; 32], u64, u64, Timestamp)> {
        let image = Image::open(&self.directory.join("builtin.image")).ok().filter(|_| self.installed.is_ok())?;
        let made = std::fs::metadata(image.path()).and_then(|metadata| metadata.modified()).ok()?;
        Some((image.digest(), image.disk_bytes(), image.memory_bytes() as u64, Timestamp::from(made)))
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) fn slots(&self) -> &Slots {
        &self.slots
    }

    /// The error of a call of one that is not installed.
    pub fn missing(&self) -> Error {
        let problem =
            self.installed.as_ref().err().map_or("its files changed since the server started", String::as_str);
        Error::InterpreterMissing { name: self.name().into(), problem: problem.into() }
    }

    /// Loads it, if that has not happened yet: verifies every byte of its code and its image, which takes a
    /// moment. The first run waits for it; a server loads in the background.
    pub async fn load(&self) -> Result<()> {
        self.loaded().await.map(drop)
    }

    /// Has no memory kept that shows this image: it is not used any more.
    pub fn forget(&self, origin: &Origin) {
        self.slots.forget(origin.image());
    }

    /// Why the operator's packages are missing, once it is loaded.
    pub fn packages_problem(&self) -> Option<&str> {
        self.loaded.get()?.problem.as_deref()
    }

    pub(super) async fn loaded(&self) -> Result<&Loaded> {
        let missing = |problem: &str| Error::InterpreterMissing { name: self.name().into(), problem: problem.into() };
        self.loaded
            .get_or_try_init(|| async {
                let installed = self.installed.clone().map_err(|problem| missing(&problem))?;
                let (directory, slots, artifact) = (self.directory.clone(), self.slots.clone(), self.artifact);
                let packages = self.packages.clone();
                let load = move || load(&directory, packages.as_deref(), &installed, artifact, &slots);
                let loading = tokio::task::spawn_blocking(load);
                let loaded = loading.await.map_err(|error| Error::Internal(format!("loading panicked: {error}")))?;
                let loaded = loaded.map_err(|problem| missing(&problem))?;
                self.engine.adopt(loaded.runtime.engine().clone());
                tracing::info!(interpreter = self.name(), "loaded an interpreter");
                Ok(loaded)
            })
            .await
    }

    /// Runs code in a fresh isolate. Dropping the future ends the run.
    ///
    /// # Errors
    /// Only a run that could not start: [`Error::InterpreterMissing`], or limits that cannot hold it. Whatever
    /// happens later is an [`Ended`].
    pub async fn run(self: &Arc<Self>, run: Run) -> Result<Ended> {
        self.loaded().await?;
        let wall_time = run.limits.wall_time;
        let limits = run.limits;
        let this = self.clone();
        let whole = async move { this.fresh(run).await };
        match self.engine.host(wall_time, whole).await? {
            Some((ended, isolate)) => {
                // Its memory is reset beside the answer, not before it.
                tokio::spawn(async move { drop(isolate) });
                Ok(ended)
            }
            None => Ok(Ended::timed_out(&limits)),
        }
    }

    async fn fresh(&self, run: Run) -> Result<(Ended, Option<Isolate>)> {
        let loaded = self.loaded().await?;
        let mut wasi = Wasi::new(loaded.library.world(loaded.origin.base(), run.limits.scratch_bytes));
        wasi.connect(Some(run.input), Some(run.output.clone()), None);
        if let Err(error) = files::put(&mut wasi, &run.inputs.files) {
            return Ok((Ended::new(Exit::NotStarted, error.to_string()), None));
        }
        let isolate =
            Isolate::start(&loaded.runtime, loaded.origin.image(), &run.tenant, wasi, run.limits.memory_bytes);
        let mut isolate =
            isolate.await.map_err(|error| Error::Internal(format!("an isolate cannot be made: {error:#}")))?;
        let talk = Talk {
            turn: Turn {
                name: "<code>".into(),
                code: run.code,
                arguments: run.inputs.arguments,
                environment: run.inputs.environment,
                reseed: true,
                pristine: true,
                module: false,
            },
            warm: Mutex::default(),
            output: run.output.clone(),
            egress: run.egress,
            children: run.children,
            meter: run.meter.clone(),
            host_calls: run.limits.host_calls,
            said: Mutex::new(Said::default()),
        };
        let turned = isolate.turn(talk).await;
        let mut ended = Ended::of_turn(turned.said, turned.result, turned.denied, &run.limits);
        let left =
            files::give_back(isolate.wasi(), &*run.output, Some(&run.inputs.return_files), run.limits.scratch_bytes);
        (ended.files, ended.unlisted_files) = left;
        run.meter.scratch(isolate.wasi().scratch_peak());
        Ok((ended, Some(isolate)))
    }
}

impl Ended {
    pub(super) fn new(exit: Exit, message: String) -> Ended {
        Ended::of(crate::engine::Ended { exit, message })
    }

    pub(super) fn timed_out(limits: &Limits) -> Ended {
        Ended::of(crate::engine::Ended::timed_out(limits))
    }

    fn of(ended: crate::engine::Ended) -> Ended {
        Ended { exit: ended.exit, message: ended.message, exception: None, files: Vec::new(), unlisted_files: 0 }
    }

    /// What a turn said, and how it really ended.
    pub(super) fn of_turn(said: Said, result: wasmtime::Result<()>, denied: Option<u64>, limits: &Limits) -> Ended {
        let mut ended = match (result, said.code) {
            (Ok(()), Some(code)) => Ended::of(crate::engine::Ended::plain(i32::from(code))),
            // User code got in the way of the driver, which it can: then nobody knows how it ended.
            (Ok(()), None) => Ended::of(crate::engine::Ended::plain(1)),
            (Err(error), _) => Ended::of(crate::engine::Ended::of_interpreter(&error, denied, limits)),
        };
        if ended.exit == Exit::StackOverflow {
            // The stack is the interpreter's own: limits.stack_bytes does not move it.
            ended.message = "the code recursed, or took apart a structure nested, deeper than the interpreter's stack \
                             allows; nest less, or use a loop"
                .into();
        }
        if let (Exit::Exited { code }, Some(exception)) = (&ended.exit, &said.exception)
            && *code != 0
        {
            ended.message = match exception.message.is_empty() {
                true => exception.type_name.clone(),
                false => format!("{}: {}", exception.type_name, exception.message),
            };
        }
        ended.exception = said.exception;
        ended
    }
}

fn load(
    directory: &Path,
    packages: Option<&Path>,
    installed: &Installed,
    artifact: &Artifact,
    slots: &Slots,
) -> std::result::Result<Loaded, String> {
    let code = directory.join(&installed.code);
    install::verify_code(&code, &installed.code_digest)?;
    let image = Image::open(&directory.join("builtin.image"))?;
    image.verify()?;
    if hex::encode(image.artifact()) != installed.image_artifact {
        return Err(format!("{} belongs to another build", image.path().display()));
    }
    // SAFETY: this is the output of our own compiler, in a directory that is ours alone, and its digest was
    // just compared with the one written down when it was made.
    let runtime = unsafe { Runtime::load(&code, artifact.language, slots) }.map_err(|error| format!("{error:#}"))?;
    let mut library = library::open(artifact.language, directory)?;
    let problem = packages.and_then(|path| add_packages(&mut library, path).err());
    let origin = Arc::new(Origin::built_in(image, &library));
    Ok(Loaded { runtime, library, origin, problem })
}

/// Shows the operator's packages. The files are read rather than mapped: whoever cuts off a file that is mapped
/// here would end the server.
fn add_packages(library: &mut Library, path: &Path) -> std::result::Result<(), String> {
    let mut left_out = |what| tracing::warn!(directory = %path.display(), "left out of interpreters.packages: {what}");
    let packages = Packages::read(path, &mut left_out).map_err(|problem| {
        let text = format!("{} (interpreters.packages) is not used: {problem}; mend it and restart", path.display());
        tracing::error!("{text}");
        text
    })?;
    let names = packages.versions().join(", ");
    tracing::info!(directory = %path.display(), files = packages.files.len(), names, "packages for all isolates");
    library.add_packages(packages);
    Ok(())
}
