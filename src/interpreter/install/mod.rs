//! Putting interpreters into place: fetch, verify, take apart, compile, preload, freeze.
//!
//! ```text
//! DIR/python/source.whl          the package, as its registry gave it
//!            licences/           the licences of what is in it
//!            python315.zip       the library, read-only
//!            data.zip            further files of the library, stored so that they can be mapped
//!            code-PRINT.cwasm    compiled code, for this build and this machine
//!            start.image         the memory before anything ran
//!            builtin.image       the memory from which fresh isolates start
//!            installed.json      what all that is, with digests; written last
//! ```
//!
//! Each step leaves whole files or none and is skipped when its file is there and right, so a run that was
//! killed goes on where it stopped.

mod artifact;
mod fetch;
mod package;
mod record;

pub use artifact::{ARTIFACTS, Artifact};
pub use record::Installed;

use super::memory::{Image, Slots};
use super::runtime::{Isolate, Language, Runtime};
use super::wasi::Wasi;
use super::{javascript, library, module, python, runtime};
use crate::domain::event::{LogLevel, OutputStream, Progress};
use crate::domain::io::OutputSink;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Memory beyond its start that an interpreter may use while it is preloaded.
const PRELOAD_MEMORY: u64 = 2 << 30;

/// Files that preloading may write on the way.
const PRELOAD_SCRATCH: u64 = 64 << 20;

/// Why an interpreter could not be installed: which step, what went wrong, what to do.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {problem}")]
pub struct Failed {
    /// The step.
    pub step: &'static str,
    /// What went wrong, and what to do.
    pub problem: String,
}

fn failed(step: &'static str) -> impl Fn(String) -> Failed {
    move |problem| Failed { step, problem }
}

/// Where to install, and from what.
pub struct Install<'a> {
    /// The directory of all interpreters.
    pub directory: &'a Path,
    /// The package's file, instead of asking its registry.
    pub from: Option<&'a Path>,
    /// Hears what is being done.
    pub tell: &'a (dyn Fn(&str) + Sync),
}

impl Install<'_> {
    /// Installs one interpreter, or finds that it is.
    pub async fn run(&self, artifact: &'static Artifact) -> Result<Installed, Failed> {
        let directory = self.directory.join(artifact.name);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(|error| failed("prepare")(format!("{} cannot be made: {error}", directory.display())))?;
        let print = runtime::fingerprint().map_err(|error| failed("prepare")(format!("{error:#}")))?;
        if let Ok(installed) = Installed::read(&directory)
            && installed.fits(artifact, &print)
            && installed.check(&directory).is_ok()
        {
            (self.tell)(&format!("{}: {} {} is installed", artifact.name, artifact.package, artifact.version));
            return Ok(installed);
        }
        let began = Instant::now();
        let source = self.source(artifact, &directory)?;
        let package = package::Package::open(&source, artifact).map_err(failed("unpack"))?;
        package.keep_licences(&directory.join("licences")).map_err(failed("licences"))?;
        for kept in artifact.files {
            package.keep(kept.path, &directory.join(kept.name)).map_err(failed("unpack"))?;
        }
        if artifact.language == Language::Python {
            library::store_data(&directory).map_err(failed("unpack"))?;
        }
        let code = directory.join(format!("code-{}.cwasm", hex::encode(&print[..8])));
        self.compile(artifact, &package, &directory, &code).await?;
        self.freeze(artifact, &directory, &code).await?;
        let installed = Installed::describe(artifact, &print, &directory, &code).map_err(failed("record"))?;
        installed.write(&directory).map_err(failed("record"))?;
        sweep(&directory, &code);
        (self.tell)(&format!("{}: ready after {:.0} s", artifact.name, began.elapsed().as_secs_f64()));
        Ok(installed)
    }

    /// The package's file, verified.
    fn source(&self, artifact: &Artifact, directory: &Path) -> Result<PathBuf, Failed> {
        let kept = directory.join("source.whl");
        if digest_of(&kept).is_ok_and(|digest| digest == artifact.digest) {
            return Ok(kept);
        }
        let found = match self.from {
            Some(file) => file.to_owned(),
            None => {
                (self.tell)(&format!("{}: fetching {} {}", artifact.name, artifact.package, artifact.version));
                fetch::fetch(artifact, directory).map_err(failed("fetch"))?
            }
        };
        let digest = digest_of(&found)
            .map_err(|error| failed("verify")(format!("{} cannot be read: {error}", found.display())))?;
        if digest != artifact.digest {
            return Err(failed("verify")(format!(
                "{} has SHA-256 {digest}; {} {} has {}. It is not the package this build was made for: fetch it again",
                found.display(),
                artifact.package,
                artifact.version,
                artifact.digest
            )));
        }
        place(&kept, |file| io::copy(&mut fs::File::open(&found)?, file).map(drop))
            .map_err(|error| failed("verify")(format!("{} cannot be written: {error}", kept.display())))?;
        Ok(kept)
    }

    async fn compile(
        &self,
        artifact: &Artifact,
        package: &package::Package,
        directory: &Path,
        code: &Path,
    ) -> Result<(), Failed> {
        let start = directory.join("start.image");
        let of = hex_array(artifact.digest);
        if code.exists()
            && Image::open(&start).and_then(|image| image.verify().map(|()| image.artifact() == of)) == Ok(true)
        {
            return Ok(());
        }
        (self.tell)(&format!("{}: compiling, which takes a minute or two and up to 3 GiB of memory", artifact.name));
        let wasm = package.read(artifact.module).map_err(failed("unpack"))?;
        let inner = artifact.inner;
        let parts = blocking("take apart", move || module::take_apart(&wasm, inner)).await?;
        let machine = blocking("compile", move || {
            let machine = runtime::compile(&parts.code).map_err(|error| format!("{error:#}"))?;
            Ok((machine, parts.memory))
        });
        let (machine, memory) = machine.await?;
        Image::write(&start, of, &memory).map_err(|error| failed("compile")(error.to_string()))?;
        place(code, |file| file.write_all(&machine))
            .map_err(|error| failed("compile")(format!("{} cannot be written: {error}", code.display())))
    }

    async fn freeze(&self, artifact: &Artifact, directory: &Path, code: &Path) -> Result<(), Failed> {
        let path = directory.join("builtin.image");
        // What is frozen depends on the scripts of this build as well as on the artifact.
        let of = image_artifact(artifact);
        if Image::open(&path).and_then(|image| image.verify().map(|()| image.artifact() == of)) == Ok(true) {
            return Ok(());
        }
        (self.tell)(&format!("{}: preloading", artifact.name));
        let fail = failed("preload");
        let slots = Slots::new(1, true);
        // SAFETY: just compiled, in a directory that only this user can write to.
        let runtime = unsafe { Runtime::load(code, artifact.language, &slots) }.map_err(|e| fail(format!("{e:#}")))?;
        let start = Arc::new(Image::open(&directory.join("start.image")).map_err(&fail)?);
        let said = Arc::new(Listener::default());
        let library = library::open(artifact.language, directory).map_err(&fail)?;
        let mut wasi = Wasi::new(library.world(library.base(), PRELOAD_SCRATCH));
        wasi.connect(None, Some(said.clone()), None);
        let ticking = Ticking::start(runtime.engine().clone());
        let isolate = Isolate::start(&runtime, &start, &"preload".into(), wasi, PRELOAD_MEMORY).await;
        let mut isolate = isolate.map_err(|error| fail(format!("{error:#}")))?;
        let done = match artifact.language {
            Language::Python => python::preload(&mut isolate, said.clone(), None).await,
            Language::JavaScript => javascript::preload(&mut isolate, said.clone()).await,
        };
        drop(ticking);
        done.map_err(|error| fail(format!("{}{error:#}", said.text())))?;
        for line in said.text().lines().filter(|line| line.starts_with("not preloaded")) {
            (self.tell)(&format!("{}: {line}", artifact.name));
        }
        Image::write(&path, of, isolate.memory())
            .map_err(|error| fail(format!("{} cannot be written: {error}", path.display())))
    }
}

/// What an image belongs to: the artifact, and what this build freezes into it.
pub(super) fn image_artifact(artifact: &Artifact) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(artifact.digest);
    match artifact.language {
        Language::Python => python::scripts().for_each(|script| hash.update(script)),
        Language::JavaScript => javascript::scripts().for_each(|script| hash.update(script)),
    }
    hash.finalize().into()
}

fn hex_array(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    // The digests are constants of this build; one that is no hex matches nothing.
    let _ = hex::decode_to_slice(text, &mut bytes);
    bytes
}

async fn blocking<T: Send + 'static>(
    step: &'static str,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, Failed> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(failed(step)),
        Err(panic) => Err(failed(step)(panic.to_string())),
    }
}

/// Writes a file whole or not at all.
pub(super) fn place(path: &Path, write: impl FnOnce(&mut fs::File) -> io::Result<()>) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    let written = write(&mut file).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Compares compiled code with its digest: reads all of it.
pub(super) fn verify_code(path: &Path, digest: &str) -> Result<(), String> {
    match digest_of(path) {
        Ok(found) if found == digest => Ok(()),
        Ok(_) => Err(format!("{} is damaged: it does not match its digest", path.display())),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    }
}

fn digest_of(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    io::copy(&mut fs::File::open(path)?, &mut hash)?;
    Ok(hex::encode(hash.finalize()))
}

/// Removes what an earlier version or a killed run left.
fn sweep(directory: &Path, code: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let old_code = name.ends_with(".cwasm") && path != code;
        if old_code || name.ends_with(".new") || name == "download" {
            // What stays does no harm.
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
    }
}

/// Keeps what a preload says, for the error that it may end with.
#[derive(Default)]
struct Listener(parking_lot::Mutex<Vec<u8>>);

impl Listener {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock()).into_owned()
    }
}

impl OutputSink for Listener {
    fn write(&self, stream: OutputStream, data: Bytes) {
        let mut text = self.0.lock();
        if stream == OutputStream::Stderr && text.len() < 64 << 10 {
            text.extend_from_slice(&data);
        }
    }
    fn log(&self, _: LogLevel, _: String) {}
    fn progress(&self, _: Progress) {}
}

/// Advances an engine's clock, or its guests would never yield.
struct Ticking(Option<std::sync::mpsc::Sender<()>>);

impl Ticking {
    fn start(engine: wasmtime::Engine) -> Ticking {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        std::thread::spawn(move || {
            use std::sync::mpsc::RecvTimeoutError::Timeout;
            while stopped.recv_timeout(std::time::Duration::from_millis(10)) == Err(Timeout) {
                engine.increment_epoch();
            }
        });
        Ticking(Some(stop))
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.take();
    }
}
