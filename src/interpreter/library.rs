//! The read-only files an interpreter sees: its library, mapped rather than read.

use super::install::place;
use super::memory::Mapped;
use super::runtime::Language;
use super::wasi::{self, Base};
use bytes::Bytes;
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Write};
use std::path::Path;
use std::sync::Arc;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

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
    let mut stored = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for index in 0..inner.len() {
        let mut file = inner.by_index(index).map_err(damaged)?;
        // Examples that nothing but matplotlib's own gallery reads.
        let name = file.name().map_err(damaged)?.into_owned();
        if file.is_dir() || name.starts_with("sample_data/") {
            continue;
        }
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(|error| format!("{DATA} cannot be unpacked: {error}"))?;
        stored.start_file(name, options).map_err(damaged)?;
        stored.write_all(&content).map_err(|error| error.to_string())?;
    }
    let stored = stored.finish().map_err(damaged)?.into_inner();
    place(&path, |file| file.write_all(&stored))
        .map_err(|error| format!("{} cannot be written: {error}", path.display()))
}

/// The data files: path and content, mapped.
pub(super) fn data_files(directory: &Path) -> Result<Vec<(String, Bytes)>, String> {
    let path = directory.join(STORED);
    let damaged = |error: zip::result::ZipError| format!("{} is damaged: {error}", path.display());
    let mapped = Mapped::open(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let bytes = Bytes::from_owner(mapped);
    let mut archive = ZipArchive::new(Cursor::new(bytes.clone())).map_err(damaged)?;
    let mut files = Vec::with_capacity(archive.len());
    for index in 0..archive.len() {
        let file = archive.by_index_raw(index).map_err(damaged)?;
        let name = file.name().map_err(damaged)?.into_owned();
        let start = file.data_start().and_then(|start| usize::try_from(start).ok());
        let range = start.zip(usize::try_from(file.size()).ok()).and_then(|(start, size)| {
            let end = start.checked_add(size)?;
            (file.compression() == CompressionMethod::Stored && end <= bytes.len()).then_some(start..end)
        });
        let range = range.ok_or_else(|| format!("{} is damaged: {name}", path.display()))?;
        files.push((name, bytes.slice(range)));
    }
    Ok(files)
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
            for (name, content) in data_files(directory)? {
                base.file(&format!("{}/{name}", MATPLOTLIB.1), content);
            }
            preopens.push((MATPLOTLIB.0.to_owned(), MATPLOTLIB.1.to_owned()));
            environment.push("PYTHONTZPATH=".to_owned());
        }
        Language::JavaScript => base.channel("/dev/host"),
    }
    Ok(Library { base: Arc::new(base), preopens: preopens.into(), environment })
}

impl Library {
    /// The world of a fresh isolate, or of one that comes back.
    pub fn world(&self, scratch_bytes: u64) -> wasi::Config {
        wasi::Config {
            arguments: vec!["main".into()],
            environment: self.environment.clone(),
            base: self.base.clone(),
            preopens: self.preopens.clone(),
            input: None,
            output: None,
            scratch_bytes,
        }
    }
}
