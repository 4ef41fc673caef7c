//! Further packages for Python: directories as `pip install --target` makes them, read, checked and bounded.

use bytes::Bytes;
use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// Files of one set of packages at most.
pub const MAX_FILES: usize = 20_000;

/// Bytes of one set of packages at most.
pub const MAX_BYTES: u64 = 256 << 20;

/// Bytes of a path at most, and directories on it.
const MAX_PATH: usize = 1024;
const MAX_DEPTH: usize = 32;

/// The files of some packages.
#[derive(Clone, Debug, Default)]
pub struct Packages {
    /// Path and content of each, by path.
    pub files: Vec<(String, Bytes)>,
    /// When the newest of them changed, in nanoseconds since 1970.
    pub modified: u64,
}

/// What of a directory was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// Native code.
    Native(String),
    /// A link, a device, or whatever else is neither file nor directory.
    NoFile(String),
}

impl std::fmt::Display for LeftOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LeftOut::Native(path) => write!(
                f,
                "{path} is native code, which cannot run in the sandbox; choose a version of the package that is \
                 Python alone: `pip install --only-binary=:all: --platform any --target DIR NAME` finds it if there \
                 is one"
            ),
            LeftOut::NoFile(path) => write!(f, "{path} is neither a file nor a directory; copy what it leads to"),
        }
    }
}

/// Whether a file holds native code, by its name.
pub fn is_native(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    [".so", ".pyd", ".dylib", ".dll"].iter().any(|ending| name.ends_with(ending)) || name.contains(".so.")
}

/// Whether a file is of no use in an isolate: what another Python compiled, and commands.
fn is_useless(path: &str) -> bool {
    path.starts_with("bin/") || path.ends_with(".pyc") || path.split('/').any(|part| part == "__pycache__")
}

/// Says what is wrong with the path of a file.
pub fn check_path(path: &str) -> Result<(), String> {
    let plain =
        |part: &str| !part.is_empty() && part != "." && part != ".." && part.len() <= 255 && !part.contains('\0');
    if path.len() > MAX_PATH || path.split('/').count() > MAX_DEPTH {
        return Err(format!("a path has at most {MAX_PATH} bytes and {MAX_DEPTH} parts"));
    }
    if !path.split('/').all(plain) {
        return Err("expected a path relative to the directory of packages, without \".\" and \"..\"".into());
    }
    Ok(())
}

impl Packages {
    /// Reads a directory. What cannot be taken is told to `left_out`.
    pub fn read(directory: &Path, left_out: &mut dyn FnMut(LeftOut)) -> Result<Packages, String> {
        let mut packages = Packages::default();
        let mut total = 0;
        packages.read_below(directory, "", &mut total, left_out)?;
        packages.files.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(packages)
    }

    fn read_below(
        &mut self,
        directory: &Path,
        above: &str,
        total: &mut u64,
        left_out: &mut dyn FnMut(LeftOut),
    ) -> Result<(), String> {
        let unreadable = |path: &Path, error: std::io::Error| format!("{} cannot be read: {error}", path.display());
        for entry in fs::read_dir(directory).map_err(|error| unreadable(directory, error))? {
            let entry = entry.map_err(|error| unreadable(directory, error))?;
            let at = entry.path();
            let name = entry.file_name();
            let name = name.to_str().ok_or_else(|| format!("{} has a name that is not UTF-8", at.display()))?;
            let path = format!("{above}{name}");
            // Of the entry itself: links are not followed.
            let metadata = entry.metadata().map_err(|error| unreadable(&at, error))?;
            if metadata.is_dir() {
                check_path(&path).map_err(|problem| format!("{path}: {problem}"))?;
                self.read_below(&at, &format!("{path}/"), total, left_out)?;
                continue;
            }
            if is_useless(&path) {
                continue;
            }
            if !metadata.is_file() {
                left_out(LeftOut::NoFile(path));
                continue;
            }
            if is_native(&path) {
                left_out(LeftOut::Native(path));
                continue;
            }
            let content = fs::read(&at).map_err(|error| unreadable(&at, error))?;
            self.add(path, content.into(), total)?;
            let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let modified = modified.and_then(|since| u64::try_from(since.as_nanos()).ok());
            self.modified = self.modified.max(modified.unwrap_or_default());
        }
        Ok(())
    }

    /// Adds a file, within the bounds of number, size and path. `total` counts their bytes.
    pub fn add(&mut self, path: String, content: Bytes, total: &mut u64) -> Result<(), String> {
        check_path(&path).map_err(|problem| format!("{path}: {problem}"))?;
        *total += content.len() as u64;
        if self.files.len() >= MAX_FILES || *total > MAX_BYTES {
            return Err(format!(
                "there are more than {MAX_FILES} files or {} MiB: leave out what is not needed",
                MAX_BYTES >> 20
            ));
        }
        self.files.push((path, content));
        Ok(())
    }

    /// Each package as "name version", by the metadata that installers leave.
    pub fn versions(&self) -> Vec<String> {
        let version = |(path, content): &(String, Bytes)| {
            let (directory, file) = path.split_once('/')?;
            if !directory.ends_with(".dist-info") || file != "METADATA" {
                return None;
            }
            let text = String::from_utf8_lossy(content);
            let field = |name: &str| {
                let line = text.lines().take_while(|line| !line.is_empty()).find_map(|line| line.strip_prefix(name));
                line.map(|value| value.trim().chars().take(100).collect::<String>())
            };
            Some(format!("{} {}", field("Name:")?, field("Version:")?))
        };
        self.files.iter().filter_map(version).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_read_without_what_cannot_be_used() {
        let directory = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("greet/__init__.py", "x = 1");
        write("greet/__pycache__/a.cpython-312.pyc", "x");
        write("greet/fast.cpython-312-x86_64-linux-gnu.so", "x");
        write("bin/greet", "x");
        write("greet-1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: greet\nVersion: 1.2\n\nVersion: 9\n");
        std::os::unix::fs::symlink("/etc/passwd", directory.path().join("secrets")).unwrap();
        let mut left_out = Vec::new();
        let packages = Packages::read(directory.path(), &mut |what| left_out.push(what)).unwrap();
        let paths: Vec<&str> = packages.files.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["greet-1.2.dist-info/METADATA", "greet/__init__.py"]);
        assert_eq!(packages.versions(), ["greet 1.2"]);
        assert!(packages.modified > 0);
        left_out.sort_by_key(ToString::to_string);
        let native = "greet/fast.cpython-312-x86_64-linux-gnu.so".to_owned();
        assert_eq!(left_out, [LeftOut::Native(native), LeftOut::NoFile("secrets".into())]);
    }

    #[test]
    fn paths_stay_below_the_directory() {
        for path in ["a.py", "a/b/c.txt", "a/..b"] {
            assert_eq!(check_path(path), Ok(()), "{path}");
        }
        for path in ["", "/a", "a/", "a//b", ".", "../a", "a/../b", "a/./b", "a\0b", &"x".repeat(256), &"a/".repeat(40)]
        {
            assert!(check_path(path).is_err(), "{path}");
        }
    }

    #[test]
    fn there_is_an_end_to_what_packages_may_hold() {
        let mut packages = Packages::default();
        let mut total = MAX_BYTES - 1;
        packages.add("a".into(), Bytes::from_static(b"x"), &mut total).unwrap();
        assert!(packages.add("b".into(), Bytes::from_static(b"x"), &mut total).is_err());
    }
}
