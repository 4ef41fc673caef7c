//! The read-only files an interpreter sees: its library, mapped rather than read.

use super::memory::Mapped;
use super::packages::Packages;
use super::runtime::Language;
use super::stored;
use super::wasi::{self, Base, Part};
use bytes::Bytes;
use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use zip::ZipArchive;

/// Name of the library in an interpreter's directory.
const LIBRARY: &str = "python315.zip";

/// The files that matplotlib reads by name, in the library.
const DATA: &str = "matplotlib/mpl-data.zip";

/// The same, stored so that they can be mapped.
const STORED: &str = "data.zip";

/// Takes the data files out of the library, unless that was done.
pub(super) fn store_data(directory: &Path) -> Result<(), String> {
    let path = directory.join(STORED);
    if path.exists() {
        return Ok(());
    }
    let library = directory.join(LIBRARY);
    let file = File::open(&library).map_err(|error| format!("{} cannot be read: {error}", library.display()))?;
    let damaged = |error: zip::result::ZipError| format!("{} cannot be unpacked: {error}", library.display());
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
    let mut inner = Vec::new();
    archive
        .by_name(DATA)
        .map_err(damaged)?
        .read_to_end(&mut inner)
        .map_err(|error| format!("{DATA} cannot be unpacked: {error}"))?;
    let mut inner = ZipArchive::new(Cursor::new(inner)).map_err(damaged)?;
    let mut files = Vec::new();
    for index in 0..inner.len() {
        let mut file = inner.by_index(index).map_err(damaged)?;
        // Examples that nothing but matplotlib's own gallery reads.
        let name = file.name().map_err(damaged)?.into_owned();
        if file.is_dir() || name.starts_with("sample_data/") {
            continue;
        }
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(|error| format!("{DATA} cannot be unpacked: {error}"))?;
        files.push((name, content.into()));
    }
    stored::write(&path, files)
}

/// What every isolate of an interpreter sees, whether it runs or is being made.
pub(super) struct Library {
    base: Arc<Base>,
    preopens: Arc<[(String, String)]>,
    environment: Vec<String>,
}

/// Where matplotlib looks for its data, and where that is.
const MATPLOTLIB: (&str, &str) = ("/usr/local/lib/python315.zip/matplotlib/mpl-data", "/usr/share/matplotlib");

/// Maps the files of an interpreter.
pub(super) fn open(language: Language, directory: &Path) -> Result<Library, String> {
    let mut base = Base::default();
    let mut preopens = vec![("/".to_owned(), "/".to_owned())];
    let mut environment = vec!["HOME=/work".to_owned(), "TMPDIR=/tmp".to_owned()];
    base.scratch(wasi::SCRATCH);
    base.scratch("/tmp");
    match language {
        Language::Python => {
            let path = directory.join(LIBRARY);
            let library = Mapped::open(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
            base.file("/usr/local/lib/python315.zip", Bytes::from_owner(library));
            for (name, content) in stored::read(&directory.join(STORED))? {
                base.file(&format!("{}/{name}", MATPLOTLIB.1), content);
            }
            preopens.push((MATPLOTLIB.0.to_owned(), MATPLOTLIB.1.to_owned()));
            environment.push("PYTHONTZPATH=".to_owned());
            // On `sys.path` of every image, after the library, whether there is something in them or not.
            base.mount("/usr/local/lib/snapshot-packages", Part::Snapshot);
            base.mount("/usr/local/lib/site-packages", Part::Packages);
        }
        Language::JavaScript => base.channel("/dev/host"),
    }
    Ok(Library { base: Arc::new(base), preopens: preopens.into(), environment })
}

/// When the files of snapshots changed, in nanoseconds since 1970: any time but that of an empty directory.
const SNAPSHOT_TIME: u64 = 1_000_000_000;

impl Library {
    /// Shows the operator's packages to all isolates.
    pub fn add_packages(&mut self, packages: Packages) {
        let modified = packages.modified.max(SNAPSHOT_TIME);
        Arc::make_mut(&mut self.base).fill(Part::Packages, packages.files, modified);
    }

    /// The files of isolates from a snapshot that has packages of its own.
    pub fn with(&self, packages: impl IntoIterator<Item = (String, Bytes)>) -> Arc<Base> {
        let mut base = (*self.base).clone();
        base.fill(Part::Snapshot, packages, SNAPSHOT_TIME);
        Arc::new(base)
    }

    /// The files of all other isolates.
    pub fn base(&self) -> &Arc<Base> {
        &self.base
    }

    /// The world of a fresh isolate, or of one that comes back.
    pub fn world(&self, base: &Arc<Base>, scratch_bytes: u64) -> wasi::Config {
        wasi::Config {
            arguments: vec!["main".into()],
            environment: self.environment.clone(),
            base: base.clone(),
            preopens: self.preopens.clone(),
            input: None,
            output: None,
            scratch_bytes,
        }
    }
}
