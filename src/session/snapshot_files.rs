//! The files of a snapshot: their digest, and how they come to disk.

use sha2::{Digest, Sha256};
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What the system counts room on disk in, whatever the file system.
const BLOCK: u64 = 512;

/// The files of a directory by name; anything but files is refused.
fn files_of(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    files.sort();
    match files.iter().find(|path| !path.is_file()) {
        Some(other) => Err(io::Error::other(format!("{} is no file", other.display()))),
        None => Ok(files),
    }
}

/// SHA-256 over names, sizes and contents, and the bytes that all of it takes on disk: memories have holes.
pub(super) fn digest_directory(directory: &Path) -> io::Result<([u8; 32], u64)> {
    let mut hash = Sha256::new();
    let mut total = 0;
    let mut buffer = vec![0; 256 << 10];
    for path in files_of(directory)? {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        let mut file = fs::File::open(&path)?;
        let metadata = file.metadata()?;
        let size = metadata.len();
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
        hash.update(size.to_le_bytes());
        let mut read = 0;
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                count => {
                    hash.update(&buffer[..count]);
                    read += count as u64;
                }
            }
        }
        if read != size {
            return Err(io::Error::other(format!("{} changed while it was read", path.display())));
        }
        total += metadata.blocks() * BLOCK;
    }
    Ok((hash.finalize().into(), total))
}

/// Brings a directory's files to disk, for nobody else to read.
pub(super) fn flush(directory: &Path) -> io::Result<()> {
    for path in files_of(directory)? {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        fs::File::open(&path)?.sync_all()?;
    }
    fs::File::open(directory)?.sync_all()
}
