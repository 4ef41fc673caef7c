//! The tool `files`: what an agent does with files, without a process.

use super::Ground;
use crate::container::files::{NewDirectory, WriteMode};
use crate::domain::event::OutputStream;
use crate::domain::execution::Exit;
use crate::domain::file::{FileInfo, FileKind};
use crate::domain::io::OutputSink;
use crate::error::{Error, Result};
use crate::execution::{Ended, Live};
use crate::tool::Call;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

/// Bytes that are read at most in one call.
const MAX_READ: u64 = 1 << 20;
/// Bytes of a file that is edited at most.
const MAX_EDIT: u64 = 8 << 20;
/// Entries that are listed at most.
const MAX_LISTED: u64 = 1000;

pub(super) const DESCRIPTION: &str = "\
Works on files in a container, without running anything. Paths are absolute or relative to the workspace.
read: text of a file (encoding base64 for bytes), from `offset`, at most `length` bytes. write: replaces or makes a file. \
append: adds to its end. edit: replaces `old` by `new`, which must be there exactly once unless `replace_all`. list: the \
entries of a directory, `depth` levels. stat: what a path is. make_directory, move (to `destination`), remove (a \
directory with all that is in it needs `recursive`).";

const OPERATIONS: [&str; 9] = ["append", "edit", "list", "make_directory", "move", "read", "remove", "stat", "write"];

/// The schema of its parameters.
pub(super) fn schema() -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    let number = |description: &str, least: u64, most: u64| json!({"type": "integer", "minimum": least, "maximum": most, "description": description});
    let flag = |description: &str| json!({"type": "boolean", "default": false, "description": description});
    json!({
        "type": "object",
        "properties": {
            "operation": {"type": "string", "enum": OPERATIONS},
            "path": text("The file or directory; for list the workspace if left out."),
            "content": text("For write and append: what to write."),
            "encoding": {
                "type": "string",
                "enum": ["utf-8", "base64"],
                "default": "utf-8",
                "description": "How content is written in JSON.",
            },
            "offset": number("For read: the first byte.", 0, u64::MAX >> 12),
            "length": number("For read: bytes at most.", 1, MAX_READ),
            "old": text("For edit: the text to replace."),
            "new": text("For edit: the text to put there."),
            "replace_all": flag("For edit: all places, not exactly one."),
            "destination": text("For move: the new path."),
            "replace": flag("For move: over what is there."),
            "depth": number("For list: levels.", 1, 32),
            "recursive": flag("For remove: a directory with all that is in it."),
        },
        "required": ["operation"],
        "additionalProperties": false,
    })
}

fn text<'a>(parameters: &'a Value, key: &str) -> &'a str {
    parameters.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn flag(parameters: &Value, key: &str) -> bool {
    parameters.get(key).and_then(Value::as_bool).unwrap_or_default()
}

/// Tells what an operation lacks, before there is an execution.
pub(super) fn check(call: &Call, parameters: &Value) -> Result<()> {
    if !call.inputs.arguments.is_empty() || !call.stdin.is_empty() || call.keep_stdin_open {
        return Err(Error::invalid("call.arguments", "the tool \"files\" takes neither arguments nor standard input"));
    }
    let operation = text(parameters, "operation");
    let needs: &[&str] = match operation {
        "list" => &[],
        "write" | "append" => &["path", "content"],
        "edit" => &["path", "old", "new"],
        "move" => &["path", "destination"],
        _ => &["path"],
    };
    let missing = needs.iter().find(|key| !parameters.get(**key).is_some_and(Value::is_string));
    if let Some(key) = missing {
        return Err(Error::invalid(format!("call.parameters.{key}"), format!("is required by {operation:?}")));
    }
    if operation == "edit" && text(parameters, "old").is_empty() {
        return Err(Error::invalid("call.parameters.old", "is empty: nothing can be replaced"));
    }
    content(parameters).map(drop)
}

fn content(parameters: &Value) -> Result<Bytes> {
    let content = text(parameters, "content");
    if text(parameters, "encoding") != "base64" {
        return Ok(Bytes::copy_from_slice(content.as_bytes()));
    }
    let decoded = STANDARD.decode(content);
    let decoded =
        decoded.map_err(|problem| Error::invalid("call.parameters.content", format!("is not base64: {problem}")))?;
    Ok(decoded.into())
}

/// Does it. What goes wrong with a file is a result.
pub(super) async fn act(ground: &Ground, parameters: &Value, live: &Live) -> Ended {
    match operate(ground, parameters).await {
        Ok(output) => {
            live.write(OutputStream::Stdout, output.to_string().into());
            Ended::new(Exit::Exited { code: 0 }, "")
        }
        Err(error) => {
            live.write(OutputStream::Stderr, format!("{error}\n").into());
            Ended::new(Exit::Exited { code: 1 }, error.to_string())
        }
    }
}

async fn operate(ground: &Ground, parameters: &Value) -> Result<Value> {
    let (all, id, viewer) = (&ground.containers, ground.id.as_str(), &ground.viewer);
    let path = text(parameters, "path");
    let number = |key: &str| parameters.get(key).and_then(Value::as_u64);
    match text(parameters, "operation") {
        "read" => {
            let offset = number("offset").unwrap_or(0);
            let (info, data) = ground.read(path, offset, number("length").unwrap_or(MAX_READ)).await?;
            let end = offset + data.len() as u64;
            let base64 = text(parameters, "encoding") == "base64";
            let content = match std::str::from_utf8(&data) {
                Ok(content) if !base64 => content.to_owned(),
                // A piece may begin or end within a character.
                Err(_) if !base64 && is_text(&data) => String::from_utf8_lossy(&data).into_owned(),
                _ => STANDARD.encode(&data),
            };
            let encoding = if base64 || !is_text(&data) { "base64" } else { "utf-8" };
            Ok(json!({
                "path": shown(&info), "content": content, "encoding": encoding, "offset": offset,
                "size": info.size, "complete": offset == 0 && end >= info.size,
            }))
        }
        operation @ ("write" | "append") => {
            let mode = if operation == "write" { WriteMode::Replace } else { WriteMode::Append };
            let data = content(parameters)?;
            let info = ground.write(path, mode, None, data.clone()).await?;
            Ok(json!({"path": shown(&info), "size": info.size, "written": data.len()}))
        }
        "edit" => edit(ground, path, parameters).await,
        "list" => {
            let depth = number("depth").unwrap_or(1);
            let path = if path.is_empty() { ground.place.directory() } else { path };
            let depth = u32::try_from(depth).unwrap_or(u32::MAX);
            let listing = all.list_directory(id, viewer, path, depth, None, MAX_LISTED as usize).await?;
            let entries: Vec<Value> = listing.entries.iter().map(describe).collect();
            Ok(json!({"entries": entries, "complete": listing.next.is_none()}))
        }
        "stat" => Ok(describe(&all.stat_path(id, viewer, path, false).await?)),
        "make_directory" => {
            let new = NewDirectory { path: path.to_owned(), mode: None, parents: true };
            Ok(describe(&all.make_directory(id, viewer, new).await?))
        }
        "move" => {
            let paths = (path, text(parameters, "destination"));
            Ok(describe(&all.move_path(id, viewer, paths, flag(parameters, "replace")).await?))
        }
        "remove" => {
            let how = (flag(parameters, "recursive"), false);
            Ok(json!({"removed": all.remove_path(id, viewer, path, how).await?}))
        }
        other => Err(Error::Internal(format!("an operation {other:?} passed its schema"))),
    }
}

/// Whether bytes are text, but for a character that is cut at either end.
fn is_text(data: &[u8]) -> bool {
    let cut = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(_) => true,
        Err(problem) => problem.error_len().is_none(),
    };
    (0..4.min(data.len() + 1)).any(|skip| data[..skip].iter().all(|byte| byte & 0xc0 == 0x80) && cut(&data[skip..]))
        && !data.contains(&0)
}

async fn edit(ground: &Ground, path: &str, parameters: &Value) -> Result<Value> {
    let (old, new) = (text(parameters, "old"), text(parameters, "new"));
    let (info, data) = ground.read(path, 0, MAX_EDIT + 1).await?;
    if data.len() as u64 > MAX_EDIT {
        let text = format!("{} has {} bytes; at most {MAX_EDIT} can be edited", shown(&info), info.size);
        return Err(Error::invalid("call.parameters.path", text));
    }
    let content = std::str::from_utf8(&data)
        .map_err(|_| Error::invalid("call.parameters.path", format!("{} is not UTF-8 text", shown(&info))))?;
    let places = content.matches(old).count();
    match places {
        0 => return Err(Error::invalid("call.parameters.old", format!("is not in {}", shown(&info)))),
        1 => {}
        _ if flag(parameters, "replace_all") => {}
        _ => {
            let text = format!("is in {} {places} times; say more of what is around it, or replace_all", shown(&info));
            return Err(Error::invalid("call.parameters.old", text));
        }
    }
    let info = ground.write(path, WriteMode::Replace, None, content.replace(old, new).into()).await?;
    Ok(json!({"path": shown(&info), "size": info.size, "replaced": places}))
}

fn shown(info: &FileInfo) -> String {
    String::from_utf8_lossy(&info.path).into_owned()
}

fn describe(info: &FileInfo) -> Value {
    let kind = match info.kind {
        FileKind::File => "file",
        FileKind::Directory => "directory",
        FileKind::Link => "link",
        FileKind::Other => "other",
    };
    let modified = humantime::format_rfc3339_seconds(info.modified.into());
    let mut value = json!({
        "path": shown(info), "kind": kind, "size": info.size, "mode": format!("{:04o}", info.mode & 0o7777),
        "modified": modified.to_string(),
    });
    if !info.target.is_empty() {
        value["target"] = String::from_utf8_lossy(&info.target).into();
    }
    value
}
