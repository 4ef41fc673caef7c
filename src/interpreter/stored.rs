//! Many files in one that can be mapped: a zip archive whose files are stored as they are.

use super::install::place;
use super::memory::Mapped;
use bytes::Bytes;
use std::io::{Cursor, Write};
use std::path::Path;
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// Writes files, by their paths: all of them or none.
pub(super) fn write(path: &Path, files: impl IntoIterator<Item = (String, Bytes)>) -> Result<(), String> {
    let failed = |error: ZipError| format!("{} cannot be written: {error}", path.display());
    let mut stored = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, content) in files {
        stored.start_file(name, options).map_err(failed)?;
        stored.write_all(&content).map_err(|error| failed(error.into()))?;
    }
    let stored = stored.finish().map_err(failed)?.into_inner();
    place(path, |file| file.write_all(&stored)).map_err(|error| failed(error.into()))
}

/// The files: path and content, mapped. In the order they were written.
pub(super) fn read(path: &Path) -> Result<Vec<(String, Bytes)>, String> {
    let damaged = |error: ZipError| format!("{} is damaged: {error}", path.display());
    let mapped = Mapped::open(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
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
