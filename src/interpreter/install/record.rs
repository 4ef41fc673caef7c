//! What is installed, as written beside it.

use super::{Artifact, digest_of, image_artifact, place};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write;
use std::path::Path;

const FILE: &str = "installed.json";

/// An installed interpreter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installed {
    /// Name of the package.
    pub package: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the package's file, hex.
    pub digest: String,
    /// What the built-in image belongs to: the artifact and what was frozen into it, hex.
    pub image_artifact: String,
    /// What the compiled code fits: this build and this machine, hex.
    pub code_fingerprint: String,
    /// Name of the compiled code's file.
    pub code: String,
    /// Its size in bytes.
    pub code_bytes: u64,
    /// Its SHA-256, hex.
    pub code_digest: String,
}

impl Installed {
    /// Reads what is in an interpreter's directory. `Err` says what is wrong and what to do.
    pub fn read(directory: &Path) -> Result<Installed, String> {
        let path = directory.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err("it is not installed".into()),
            Err(error) => return Err(format!("{} cannot be read: {error}", path.display())),
        };
        serde_json::from_slice(&text).map_err(|error| format!("{} is damaged: {error}", path.display()))
    }

    /// Whether it is this artifact, made by this build for this machine.
    pub fn fits(&self, artifact: &Artifact, print: &[u8; 32]) -> bool {
        self.digest == artifact.digest
            && self.code_fingerprint == hex::encode(print)
            && self.image_artifact == hex::encode(image_artifact(artifact))
    }

    /// Whether the files are there, as long as they should be. Their content is verified when they are loaded.
    pub fn check(&self, directory: &Path) -> Result<(), String> {
        let code = directory.join(&self.code);
        if self.code.contains('/') || !fs::metadata(&code).is_ok_and(|metadata| metadata.len() == self.code_bytes) {
            return Err(format!("{} is missing or not whole", code.display()));
        }
        super::Image::open(&directory.join("builtin.image")).map(drop)
    }

    pub(super) fn describe(
        artifact: &Artifact,
        print: &[u8; 32],
        directory: &Path,
        code: &Path,
    ) -> Result<Installed, String> {
        let read = |error: std::io::Error| format!("{} cannot be read: {error}", code.display());
        let installed = Installed {
            package: artifact.package.into(),
            version: artifact.version.into(),
            digest: artifact.digest.into(),
            image_artifact: hex::encode(image_artifact(artifact)),
            code_fingerprint: hex::encode(print),
            code: code.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            code_bytes: fs::metadata(code).map_err(read)?.len(),
            code_digest: digest_of(code).map_err(read)?,
        };
        installed.check(directory)?;
        Ok(installed)
    }

    pub(super) fn write(&self, directory: &Path) -> Result<(), String> {
        let path = directory.join(FILE);
        let text = serde_json::to_vec_pretty(self).map_err(|error| error.to_string())?;
        place(&path, |file| file.write_all(&text))
            .map_err(|error| format!("{} cannot be written: {error}", path.display()))
    }
}
