//! Archives of files of containers.

use super::file::{digest, path};
use crate::container::files::{Announced, ArchiveConflict, ArchiveDownload, ArchiveFormat, ArchiveUpload};
use crate::container::files::{Packed, Unpacked};
use crate::error::{Error, Result};
use crate::proto::v1;

/// An archive that somebody sends.
pub fn upload(header: &v1::UploadArchiveHeader) -> Result<ArchiveUpload> {
    let conflict = match v1::ArchiveConflict::try_from(header.conflict) {
        Ok(v1::ArchiveConflict::Unspecified | v1::ArchiveConflict::Replace) => ArchiveConflict::Replace,
        Ok(v1::ArchiveConflict::Skip) => ArchiveConflict::Skip,
        Ok(v1::ArchiveConflict::Fail) => ArchiveConflict::Fail,
        Err(_) => return Err(unknown("header.conflict", header.conflict)),
    };
    Ok(ArchiveUpload {
        path: header.path.clone(),
        format: format("header.format", header.format)?,
        conflict,
        parents: header.make_parents,
        strip: header.strip_components,
        announced: announced(header)?,
    })
}

/// What somebody says of an archive before it comes.
pub fn announced(header: &v1::UploadArchiveHeader) -> Result<Announced> {
    Ok(Announced { size: header.size_bytes, digest: digest("header.digest", &header.digest)? })
}

/// What was unpacked.
pub fn unpacked(unpacked: &Unpacked) -> v1::UploadArchiveResponse {
    v1::UploadArchiveResponse {
        files: unpacked.files,
        directories: unpacked.directories,
        links: unpacked.links,
        written_bytes: unpacked.bytes,
        skipped: unpacked.skipped,
        digest: hex::encode(unpacked.digest),
    }
}

/// What somebody wants to have packed.
pub fn download(request: &v1::DownloadArchiveRequest) -> Result<ArchiveDownload> {
    let gzip = match format("format", request.format)? {
        None | Some(ArchiveFormat::Tar) => false,
        Some(ArchiveFormat::TarGz) => true,
        Some(ArchiveFormat::Zip) => return Err(Error::invalid("format", "is ZIP, which is only for uploads")),
    };
    if let Some(at) = request.paths.iter().position(String::is_empty) {
        return Err(Error::invalid(format!("paths[{at}]"), "is empty; name no path for the workspace"));
    }
    Ok(ArchiveDownload {
        paths: request.paths.clone(),
        base: request.base_path.clone(),
        gzip,
        bytes: (request.max_bytes > 0).then_some(request.max_bytes),
    })
}

/// What was packed.
pub fn summary(packed: &Packed) -> v1::DownloadArchiveSummary {
    v1::DownloadArchiveSummary {
        entries: packed.entries,
        content_bytes: packed.bytes,
        omitted_paths: packed.omitted.iter().map(|omitted| path(omitted).0).collect(),
        digest: hex::encode(packed.digest),
    }
}

fn format(field: &str, number: i32) -> Result<Option<ArchiveFormat>> {
    match v1::ArchiveFormat::try_from(number) {
        Ok(v1::ArchiveFormat::Unspecified) => Ok(None),
        Ok(v1::ArchiveFormat::Tar) => Ok(Some(ArchiveFormat::Tar)),
        Ok(v1::ArchiveFormat::TarGz) => Ok(Some(ArchiveFormat::TarGz)),
        Ok(v1::ArchiveFormat::Zip) => Ok(Some(ArchiveFormat::Zip)),
        Err(_) => Err(unknown(field, number)),
    }
}

fn unknown(field: &str, number: i32) -> Error {
    Error::invalid(field, format!("{number} is not a value of this contract"))
}
