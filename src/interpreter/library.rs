//! The read-only files an interpreter sees: its library, mapped rather than read.

use super::install::place;
use super::memory::Mapped;
use super::runtime::Language;
use super::wasi::Wasi;
use crate::domain::io::{InputSource, OutputSink};
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

/// What every isolate of an interpreter sees.
pub(super) struct Library(std::path::PathBuf);

pub(super) fn open(_: Language, directory: &Path) -> Result<Library, String> {
    Ok(Library(directory.to_owned()))
}

impl Library {
    pub fn isolate(&self, input: Arc<dyn InputSource>, output: Arc<dyn OutputSink>, _scratch: u64) -> Wasi {
        Wasi::host(
            vec![
                (self.0.join("t-lib"), "/usr/local/lib".into()),
                (self.0.join("t-mpl"), "/usr/local/lib/python315.zip/matplotlib/mpl-data".into()),
            ],
            None,
            Some(input),
            output,
        )
    }
}

/// The stand-in.
pub(super) fn for_preload(_: Language, directory: &Path, output: Arc<dyn OutputSink>) -> Result<Wasi, String> {
    let files = data_files(directory)?;
    let lib = directory.join("t-lib");
    std::fs::create_dir_all(&lib).map_err(|e| e.to_string())?;
    let _ = std::fs::hard_link(directory.join(LIBRARY), lib.join(LIBRARY));
    let mpl = directory.join("t-mpl");
    for (name, data) in files {
        let path = mpl.join(name);
        std::fs::create_dir_all(path.parent().ok_or("x")?).map_err(|e| e.to_string())?;
        std::fs::write(path, data).map_err(|e| e.to_string())?;
    }
    let tmp = directory.join("t-tmp");
    std::fs::create_dir_all(&tmp).map_err(|e| e.to_string())?;
    Ok(Wasi::host(
        vec![(lib, "/usr/local/lib".into()), (mpl, "/usr/local/lib/python315.zip/matplotlib/mpl-data".into())],
        Some(tmp),
        None,
        output,
    ))
}
