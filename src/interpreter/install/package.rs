//! Reading a package: a wheel, which is a zip file.

use super::{Artifact, place};
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::Path;
use zip::ZipArchive;

/// A verified package.
pub(super) struct Package {
    path: std::path::PathBuf,
    artifact: &'static Artifact,
}

impl Package {
    pub fn open(path: &Path, artifact: &'static Artifact) -> Result<Package, String> {
        let package = Package { path: path.to_owned(), artifact };
        package.archive()?;
        Ok(package)
    }

    fn archive(&self) -> Result<ZipArchive<BufReader<File>>, String> {
        let file =
            File::open(&self.path).map_err(|error| format!("{} cannot be read: {error}", self.path.display()))?;
        ZipArchive::new(BufReader::new(file)).map_err(|error| format!("{} is no wheel: {error}", self.path.display()))
    }

    /// The content of one file.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, String> {
        let mut archive = self.archive()?;
        let mut file = archive.by_name(name).map_err(|error| format!("{name} is not in the package: {error}"))?;
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(|error| format!("{name} cannot be unpacked: {error}"))?;
        Ok(content)
    }

    /// Puts one file into place, unless it is there in its full length.
    pub fn keep(&self, name: &str, path: &Path) -> Result<(), String> {
        let mut archive = self.archive()?;
        let mut file = archive.by_name(name).map_err(|error| format!("{name} is not in the package: {error}"))?;
        if fs::metadata(path).is_ok_and(|metadata| metadata.len() == file.size()) {
            return Ok(());
        }
        place(path, |to| io::copy(&mut file, to).map(drop))
            .map_err(|error| format!("{} cannot be written: {error}", path.display()))
    }

    /// Copies the licence texts, and counts them: a package that lost some is not the one that was reviewed.
    pub fn keep_licences(&self, directory: &Path) -> Result<(), String> {
        let Some((folder, expected)) = self.artifact.licences else { return Ok(()) };
        let mut archive = self.archive()?;
        fs::create_dir_all(directory).map_err(|error| format!("{} cannot be made: {error}", directory.display()))?;
        let mut found = 0;
        for index in 0..archive.len() {
            let mut file = archive.by_index(index).map_err(|error| error.to_string())?;
            let Ok(path) = file.name().map(std::borrow::Cow::into_owned) else { continue };
            let Some(name) = path.strip_prefix(folder) else { continue };
            // Plain names only, wherever the package says they belong.
            if name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') {
                continue;
            }
            found += 1;
            let path = directory.join(name);
            if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == file.size()) {
                continue;
            }
            place(&path, |to| io::copy(&mut file, to).map(drop))
                .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
        }
        if found == expected {
            return Ok(());
        }
        Err(format!("the package has {found} licence texts, expected {expected}"))
    }
}
