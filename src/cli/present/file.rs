//! Files of containers, and their changes.

use super::{Fields, short_size, short_time, time, word};
use crate::cli::output;
use crate::proto::v1::{FileChange, FileChangeKind, FileInfo, FileKind};
use serde_json::Value;

/// A file as JSON.
pub fn json(file: &FileInfo) -> Value {
    Fields::default()
        .set("path", file.path.as_str())
        .set("kind", word(file.kind().as_str_name(), "FILE_KIND_"))
        .set("sizeBytes", file.size_bytes)
        .set("mode", format!("{:04o}", file.mode))
        .set("uid", file.uid)
        .set("gid", file.gid)
        .set("modifyTime", time(&file.modify_time))
        .set("linkTarget", file.link_target.as_str())
        .into_value()
}

/// A table of files.
pub fn table(files: &[FileInfo]) -> String {
    let row = |file: &FileInfo| {
        let kind = match file.kind() {
            FileKind::Directory => "d",
            FileKind::Link => "l",
            FileKind::Other => "o",
            FileKind::File | FileKind::Unspecified => "-",
        };
        let name = match file.kind() {
            FileKind::Link => format!("{} -> {}", file.path, file.link_target),
            FileKind::Directory => format!("{}/", file.path),
            _ => file.path.clone(),
        };
        vec![
            format!("{kind} {:04o}", file.mode),
            format!("{}:{}", file.uid, file.gid),
            short_size(file.size_bytes),
            short_time(&file.modify_time),
            name,
        ]
    };
    output::table(&["MODE", "OWNER", "SIZE", "CHANGED", "PATH"], &files.iter().map(row).collect::<Vec<_>>())
}

/// A change as JSON.
pub fn change_json(change: &FileChange) -> Value {
    Fields::default()
        .set("kind", word(change.kind().as_str_name(), "FILE_CHANGE_KIND_"))
        .set("path", change.path.as_str())
        .set("movedFromPath", change.moved_from_path.as_str())
        .set("directory", change.file_kind() == FileKind::Directory)
        .set("time", time(&change.time))
        .into_value()
}

/// A change as a line.
pub fn change(change: &FileChange) -> String {
    let slash = if change.file_kind() == FileKind::Directory { "/" } else { "" };
    let path = format!("{}{slash}", output::plain(&change.path));
    match change.kind() {
        FileChangeKind::Moved => format!("moved       {} -> {path}", output::plain(&change.moved_from_path)),
        kind => format!("{:<10}  {path}", word(kind.as_str_name(), "FILE_CHANGE_KIND_")),
    }
}
