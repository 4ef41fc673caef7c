//! The tools directory: `NAME.wasm` beside an optional `NAME.toml` or `NAME.json`.

use super::manifest::{self, Format};
use crate::domain::manifest::Manifest;
use crate::error::{Error, Result};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Marks files that are being written; never read as tools.
const TEMPORARY: &str = ".casemate-tmp-";

/// The files of one tool, by what tells whether they changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) module: Option<Stamp>,
    pub(super) manifests: Vec<(Format, Stamp)>,
}

/// What changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The content of one tool's files.
pub(super) struct Content {
    pub(super) module: Bytes,
    pub(super) manifest: Manifest,
}

pub(super) struct Directory {
    path: PathBuf,
    max_module: u64,
}

impl Directory {
    /// Makes the directory if it is missing, and removes what a crash left half-written.
    pub(super) fn open(path: PathBuf, max_module: u64) -> Result<Directory> {
        let refuse = |error: io::Error| Error::ToolsReadOnly {
            problem: format!("{}: {error}; make tools.directory readable", path.display()),
        };
        if !path.is_dir() {
            fs::create_dir_all(&path).map_err(refuse)?;
        }
        for entry in fs::read_dir(&path).map_err(refuse)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                // A directory that cannot be written has no leftovers of ours.
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(Directory { path, max_module })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// All tools by name. A manifest without a module is a tool too: one with a problem.
    pub(super) fn scan(&self) -> Result<BTreeMap<String, Files>> {
        let mut tools: BTreeMap<String, Files> = BTreeMap::new();
        let entries = fs::read_dir(&self.path).map_err(|error| Error::ToolsReadOnly {
            problem: format!("{}: {error}; make tools.directory readable", self.path.display()),
        })?;
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Some((stem, kind)) = split(&name) else { continue };
            // Follows links: pointing a name at a file elsewhere is the operator's choice.
            let Ok(metadata) = fs::metadata(entry.path()) else { continue };
            if !metadata.is_file() {
                continue;
            }
            let files = tools.entry(stem.to_owned()).or_default();
            match kind {
                Kind::Module => files.module = Some(stamp(&metadata)),
                Kind::Manifest(format) => files.manifests.push((format, stamp(&metadata))),
            }
        }
        Ok(tools)
    }

    /// Reads one tool's files.
    pub(super) fn read(&self, name: &str, files: &Files) -> Result<Content> {
        let manifest = match files.manifests.as_slice() {
            [] => Manifest::default(),
            [(format, _)] => {
                let text = self.read_file(&self.manifest_path(name, *format), manifest::MAX_BYTES, name)?;
                manifest::parse(name, *format, &text)?
            }
            _ => {
                return Err(Error::ManifestInvalid {
                    tool: name.into(),
                    violations: vec![crate::error::Violation::new(
                        "manifest",
                        format!("both {name}.toml and {name}.json exist; remove one"),
                    )],
                });
            }
        };
        if files.module.is_none() {
            return Err(Error::ModuleInvalid {
                tool: name.into(),
                problem: format!("there is a manifest but no {name}.wasm; add it, or remove the manifest"),
            });
        }
        let module = self.read_file(&self.module_path(name), self.max_module, name)?;
        Ok(Content { module: module.into(), manifest })
    }

    fn read_file(&self, path: &Path, max: u64, tool: &str) -> Result<Vec<u8>> {
        let refuse = |problem: String| Error::ModuleInvalid { tool: tool.into(), problem };
        let unreadable = |error: io::Error| refuse(format!("cannot read {}: {error}", path.display()));
        let file = fs::File::open(path).map_err(unreadable)?;
        let mut bytes = Vec::new();
        file.take(max + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > max {
            return Err(refuse(format!("{} is larger than {max} bytes", path.display())));
        }
        Ok(bytes)
    }

    /// Writes one tool's files; `None` leaves what there is. Each file appears whole or not at all.
    pub(super) fn write(&self, name: &str, module: Option<&[u8]>, manifest: Option<&Manifest>) -> Result<()> {
        let manifest = manifest.map(|manifest| manifest::to_json(name, manifest)).transpose()?;
        let write = || -> io::Result<()> {
            // Both are complete on disk before either takes its name.
            let module = module.map(|bytes| self.write_temporary(name, "wasm", bytes)).transpose()?;
            let manifest = manifest.map(|bytes| self.write_temporary(name, "json", &bytes)).transpose()?;
            if let Some(module) = module {
                module.persist(&self.module_path(name))?;
            }
            if let Some(manifest) = manifest {
                manifest.persist(&self.manifest_path(name, Format::Json))?;
                remove_if_there(&self.manifest_path(name, Format::Toml))?;
            }
            self.sync()
        };
        write().map_err(|error| self.unwritable(&error))
    }

    /// Removes one tool's files, the module first: without it nothing can run.
    pub(super) fn remove(&self, name: &str) -> Result<()> {
        let remove = || -> io::Result<()> {
            remove_if_there(&self.module_path(name))?;
            remove_if_there(&self.manifest_path(name, Format::Toml))?;
            remove_if_there(&self.manifest_path(name, Format::Json))?;
            self.sync()
        };
        remove().map_err(|error| self.unwritable(&error))
    }

    fn write_temporary(&self, name: &str, extension: &str, bytes: &[u8]) -> io::Result<Temporary> {
        let unique = uuid::Uuid::now_v7();
        let path = self.path.join(format!("{TEMPORARY}{name}-{unique}.{extension}"));
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path)?;
        let temporary = Temporary { path, named: false };
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(temporary)
    }

    fn sync(&self) -> io::Result<()> {
        fs::File::open(&self.path)?.sync_all()
    }

    fn unwritable(&self, error: &io::Error) -> Error {
        Error::ToolsReadOnly { problem: format!("{}: {error}; make tools.directory writable", self.path.display()) }
    }

    fn module_path(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.wasm"))
    }

    fn manifest_path(&self, name: &str, format: Format) -> PathBuf {
        let extension = match format {
            Format::Toml => "toml",
            Format::Json => "json",
        };
        self.path.join(format!("{name}.{extension}"))
    }
}

/// A file that goes away unless it gets its name.
struct Temporary {
    path: PathBuf,
    named: bool,
}

impl Temporary {
    fn persist(mut self, to: &Path) -> io::Result<()> {
        fs::rename(&self.path, to)?;
        self.named = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.named {
            let _ = fs::remove_file(&self.path);
        }
    }
}

enum Kind {
    Module,
    Manifest(Format),
}

/// The tool that a file belongs to.
pub(super) fn tool_of(file_name: &str) -> Option<&str> {
    split(file_name).map(|(name, _)| name)
}

fn split(file_name: &str) -> Option<(&str, Kind)> {
    let (stem, extension) = file_name.rsplit_once('.')?;
    let kind = match extension {
        "wasm" => Kind::Module,
        "toml" => Kind::Manifest(Format::Toml),
        "json" => Kind::Manifest(Format::Json),
        _ => return None,
    };
    super::check_name("name", stem).is_ok().then_some((stem, kind))
}

fn stamp(metadata: &fs::Metadata) -> Stamp {
    Stamp {
        inode: metadata.ino(),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
