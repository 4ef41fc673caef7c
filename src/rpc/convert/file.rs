//! Files of containers.

use super::timestamp;
use crate::container::files::{FileWrite, WriteMode};
use crate::domain::file::{FileInfo, FileKind};
use crate::error::{Error, Result};
use crate::proto::v1;
use std::borrow::Cow;

/// What is known of a file.
pub fn info(found: &FileInfo) -> v1::FileInfo {
    let (path, raw_path) = path(&found.path);
    v1::FileInfo {
        path,
        raw_path,
        kind: kind(found.kind).into(),
        size_bytes: found.size,
        mode: found.mode,
        uid: found.user,
        gid: found.group,
        modify_time: Some(timestamp(found.modified)),
        link_target: String::from_utf8_lossy(&found.target).into_owned(),
        allocated_bytes: found.allocated,
    }
}

/// A path as text, and as it is where it is none.
pub fn path(bytes: &[u8]) -> (String, Vec<u8>) {
    match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(text) => (text.to_owned(), Vec::new()),
        Cow::Owned(text) => (text, bytes.to_vec()),
    }
}

/// What a path is.
pub fn kind(kind: FileKind) -> v1::FileKind {
    match kind {
        FileKind::File => v1::FileKind::File,
        FileKind::Directory => v1::FileKind::Directory,
        FileKind::Link => v1::FileKind::Link,
        FileKind::Other => v1::FileKind::Other,
    }
}

/// The kinds that somebody wants to see; none for all.
pub fn kinds(asked: &[i32]) -> Result<Vec<FileKind>> {
    let one = |number: &i32| match v1::FileKind::try_from(*number) {
        Ok(v1::FileKind::File) => Ok(FileKind::File),
        Ok(v1::FileKind::Directory) => Ok(FileKind::Directory),
        Ok(v1::FileKind::Link) => Ok(FileKind::Link),
        Ok(v1::FileKind::Other) => Ok(FileKind::Other),
        Ok(v1::FileKind::Unspecified) | Err(_) => {
            Err(Error::invalid("kinds", format!("{number} is not a kind of this contract")))
        }
    };
    asked.iter().map(one).collect()
}

/// Permission bits that somebody asks for.
pub fn permissions(field: &str, asked: Option<u32>) -> Result<Option<u32>> {
    match asked {
        Some(mode) if mode > 0o777 => Err(Error::invalid(field, format!("is {mode:#o}; expected 0 to 0o777"))),
        asked => Ok(asked),
    }
}

/// A SHA-256 that somebody announces; none for an empty text.
pub fn digest(field: &str, text: &str) -> Result<Option<[u8; 32]>> {
    if text.is_empty() {
        return Ok(None);
    }
    let mut digest = [0; 32];
    let refused = |_| Error::invalid(field, "expected a SHA-256: 64 digits of 0-9 and a-f");
    hex::decode_to_slice(text, &mut digest).map_err(refused)?;
    Ok(Some(digest))
}

/// A file that somebody writes.
pub fn write(header: &v1::WriteFileHeader) -> Result<FileWrite> {
    let mode = match v1::FileWriteMode::try_from(header.write_mode) {
        Ok(v1::FileWriteMode::Unspecified | v1::FileWriteMode::Replace) => WriteMode::Replace,
        Ok(v1::FileWriteMode::Create) => WriteMode::Create,
        Ok(v1::FileWriteMode::Append) => WriteMode::Append,
        Ok(v1::FileWriteMode::AtOffset) => WriteMode::At(header.offset),
        Err(_) => {
            let text = format!("{} is not a mode of this contract", header.write_mode);
            return Err(Error::invalid("header.write_mode", text));
        }
    };
    if header.offset > 0 && !matches!(mode, WriteMode::At(_)) {
        return Err(Error::invalid("header.offset", "is only for AT_OFFSET"));
    }
    Ok(FileWrite {
        path: header.path.clone(),
        mode,
        permissions: permissions("header.mode", header.mode)?,
        parents: header.make_parents,
        size: header.size_bytes,
        digest: digest("header.digest", &header.digest)?,
    })
}
