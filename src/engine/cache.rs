//! Compiled code on disk, so that a restart compiles nothing.
//!
//! Loading compiled code is running it. So an entry is used only from a directory that is ours alone, and
//! only if it is whole: its header names the module, the compiler and the hash of the code.

use sha2::{Digest, Sha256};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

const MAGIC: &[u8; 16] = b"casemate code\0\0\0";
/// Raised when the header changes; older entries are then compiled anew.
const FORMAT: u32 = 1;
const HEADER: usize = 16 + 4 + 32 + 32 + 8 + 32;
const ENDING: &str = ".cwasm";
const UNFINISHED: &str = ".tmp";

/// Bytes of all entries together; beyond it the least recently used ones go.
const MAX_BYTES: u64 = 4 << 30;

/// A directory of compiled code.
pub(super) struct Cache {
    directory: PathBuf,
    temporary: AtomicU64,
    max_bytes: u64,
}

/// What an entry is for.
#[derive(Clone, Copy)]
pub(super) struct Key<'a> {
    /// SHA-256 of the module.
    pub module: &'a [u8; 32],
    /// See `variant::fingerprint`.
    pub fingerprint: &'a [u8; 32],
}

impl Key<'_> {
    fn file(&self) -> String {
        format!("{}-{}{ENDING}", hex::encode(self.module), hex::encode(&self.fingerprint[..16]))
    }
}

impl Cache {
    /// Opens, or makes, the directory and clears away what a crash left half-written and what other
    /// compilers made. `Err` says why the directory cannot be trusted or used.
    pub fn open(directory: &Path, fingerprints: &[[u8; 32]]) -> Result<Cache, String> {
        let refused = |error: io::Error| format!("{} cannot be used: {error}", directory.display());
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(refused)?;
        let metadata = fs::metadata(directory).map_err(refused)?;
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(format!("{} belongs to another user, who could plant code there", directory.display()));
        }
        if metadata.mode() & 0o077 != 0 {
            fs::set_permissions(directory, Permissions::from_mode(0o700)).map_err(refused)?;
        }
        let ours: Vec<String> =
            fingerprints.iter().map(|print| format!("-{}{ENDING}", hex::encode(&print[..16]))).collect();
        for entry in fs::read_dir(directory).map_err(refused)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let foreign = name.ends_with(ENDING) && !ours.iter().any(|ending| name.ends_with(ending));
            if name.ends_with(UNFINISHED) || foreign {
                // Rubbish that stays does no harm.
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(Cache { directory: directory.to_owned(), temporary: AtomicU64::new(0), max_bytes: MAX_BYTES })
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The code, if there is an entry and it is whole. A damaged one is told in the log and removed.
    pub fn read(&self, key: Key<'_>) -> Option<Vec<u8>> {
        let path = self.directory.join(key.file());
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(path = %path.display(), %error, "compiled code cannot be read; compiling anew");
                }
                return None;
            }
        };
        match read_entry(&mut file, key) {
            Ok(code) => {
                // The time of the last use, for `shrink`; losing it costs one compilation some day.
                let _ = file.set_modified(SystemTime::now());
                Some(code)
            }
            Err(problem) => {
                tracing::warn!(path = %path.display(), problem, "compiled code is damaged; compiling anew");
                let _ = fs::remove_file(&path);
                None
            }
        }
    }

    /// Keeps code. A failure (a full disk) is told in the log: the code in memory serves all the same.
    pub fn write(&self, key: Key<'_>, code: &[u8]) {
        let name = key.file();
        let temporary = format!(".{name}.{}.{}{UNFINISHED}", std::process::id(), self.temporary.fetch_add(1, Relaxed));
        let temporary = self.directory.join(temporary);
        if let Err(error) = write_entry(&temporary, &self.directory.join(&name), key, code) {
            let _ = fs::remove_file(&temporary);
            tracing::warn!(directory = %self.directory.display(), %error, "compiled code cannot be kept on disk; the next start compiles it again");
            return;
        }
        if let Err(error) = self.shrink(&name) {
            tracing::warn!(directory = %self.directory.display(), %error, "the cache of compiled code cannot be looked through");
        }
    }

    /// Removes an entry that turned out unusable.
    pub fn forget(&self, key: Key<'_>) {
        let _ = fs::remove_file(self.directory.join(key.file()));
    }

    fn shrink(&self, newest: &str) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.directory)?.flatten() {
            if entry.file_name() != newest && entry.file_name().to_string_lossy().ends_with(ENDING) {
                let metadata = entry.metadata()?;
                entries.push((metadata.modified()?, metadata.len(), entry.path()));
            }
        }
        let newest = fs::metadata(self.directory.join(newest)).map_or(0, |metadata| metadata.len());
        let mut total = newest + entries.iter().map(|(_, size, _)| size).sum::<u64>();
        entries.sort();
        for (_, size, path) in entries {
            if total <= self.max_bytes {
                break;
            }
            fs::remove_file(path)?;
            total -= size;
        }
        Ok(())
    }
}

fn header(key: Key<'_>, code: &[u8]) -> [u8; HEADER] {
    let length = (code.len() as u64).to_le_bytes();
    let hash: [u8; 32] = Sha256::digest(code).into();
    let format = FORMAT.to_le_bytes();
    let parts: [&[u8]; 6] = [MAGIC, &format, key.fingerprint, key.module, &length, &hash];
    let mut header = [0; HEADER];
    let mut at = 0;
    for part in parts {
        header[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    header
}

fn read_entry(file: &mut impl Read, key: Key<'_>) -> Result<Vec<u8>, String> {
    let mut found = [0; HEADER];
    file.read_exact(&mut found).map_err(|error| format!("its header cannot be read: {error}"))?;
    let mut code = Vec::new();
    file.read_to_end(&mut code).map_err(|error| error.to_string())?;
    // What the header must be follows from the key and the code, so comparing the whole checks every field.
    if found == header(key, &code) { Ok(code) } else { Err("its content is not what its header says".into()) }
}

fn write_entry(temporary: &Path, path: &Path, key: Key<'_>, code: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    file.write_all(&header(key, code))?;
    file.write_all(code)?;
    file.sync_all()?;
    fs::rename(temporary, path)
}

/// What the fuzz target needs: entries as bytes.
#[cfg(fuzzing)]
pub mod fuzzing {
    use super::{Key, header, read_entry};

    /// The entry of this code.
    pub fn entry(module: &[u8; 32], fingerprint: &[u8; 32], code: &[u8]) -> Vec<u8> {
        [&header(Key { module, fingerprint }, code), code].concat()
    }

    /// The code in an entry, or why it is refused.
    pub fn code_of(mut entry: &[u8], module: &[u8; 32], fingerprint: &[u8; 32]) -> Result<Vec<u8>, String> {
        read_entry(&mut entry, Key { module, fingerprint })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: [u8; 32] = [1; 32];
    const PRINT: [u8; 32] = [2; 32];
    const KEY: Key<'static> = Key { module: &MODULE, fingerprint: &PRINT };

    #[test]
    fn what_is_written_is_read_and_damage_is_noticed_everywhere() {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join("code");
        let cache = Cache::open(&directory, &[PRINT]).unwrap();
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
        assert_eq!(cache.read(KEY), None);
        cache.write(KEY, b"machine code");
        assert_eq!(cache.read(KEY).unwrap(), b"machine code");
        assert_eq!(cache.read(Key { module: &[9; 32], ..KEY }), None);
        let path = directory.join(KEY.file());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            assert_eq!(cache.read(KEY), None, "byte {at}");
            assert!(!path.exists());
        }
        for length in [0, 10, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(cache.read(KEY), None, "{length} bytes");
        }
        cache.write(KEY, b"machine code");
        assert_eq!(cache.read(KEY).unwrap(), b"machine code");
    }

    #[test]
    fn opening_clears_away_what_nobody_can_use() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), &[PRINT]).unwrap();
        cache.write(KEY, b"x");
        cache.write(Key { fingerprint: &[3; 32], ..KEY }, b"x");
        fs::write(dir.path().join(".half.1.2.tmp"), b"x").unwrap();
        fs::write(dir.path().join("README"), b"not ours").unwrap();
        Cache::open(dir.path(), &[PRINT]).unwrap();
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [KEY.file().as_str(), "README"]);
    }

    #[test]
    fn the_least_recently_used_go_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut cache = Cache::open(dir.path(), &[PRINT]).unwrap();
        cache.max_bytes = 3 * (HEADER as u64 + 100);
        let modules: Vec<[u8; 32]> = (0..4).map(|n| [n; 32]).collect();
        let key = |n: usize| Key { module: &modules[n], ..KEY };
        for n in 0..3 {
            cache.write(key(n), &[0; 100]);
            let file = File::open(dir.path().join(key(n).file())).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(n as u64)).unwrap();
        }
        cache.read(key(0)).unwrap();
        cache.write(key(3), &[0; 100]);
        let left: Vec<bool> = (0..4).map(|n| cache.read(key(n)).is_some()).collect();
        assert_eq!(left, [true, false, true, true]);
    }
}
