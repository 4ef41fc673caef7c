//! The file behind a snapshot: the memory an interpreter starts with.
//!
//! ```text
//! 4096 bytes  header: magic, format, artifact, length, digest of the memory, digest of the header
//! length      the memory, whole pages
//! ```
//!
//! Mapping an image is trusting it: only the server writes images, into a directory of its own, and
//! [`Image::verify`] compares the digest before the first instance starts from it.

use super::{PAGE, WASM_PAGE};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

const MAGIC: &[u8; 16] = b"casemate image\0\0";
/// Raised when the layout changes; older files are then foreign.
const FORMAT: u32 = 1;
const HEADER: usize = PAGE;
/// Magic, format, artifact, length, digest; then the digest of these.
const FIELDS: usize = 16 + 4 + 32 + 8 + 32;

/// A memory image, mapped for reading. Instances map it once more, copy-on-write.
pub struct Image {
    file: File,
    path: PathBuf,
    len: usize,
    artifact: [u8; 32],
    digest: [u8; 32],
    pristine: NonNull<u8>,
}

// SAFETY: the mapping is read-only and lives as long as the image; nothing is changed through it.
unsafe impl Send for Image {}
// SAFETY: as above.
unsafe impl Sync for Image {}

impl Image {
    /// Writes an image: whole or not at all. `memory` is whole WASM pages; `artifact` the hash of the module
    /// it belongs to.
    pub fn write(path: &Path, artifact: [u8; 32], memory: &[u8]) -> io::Result<()> {
        let digest: [u8; 32] = Sha256::digest(memory).into();
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&FORMAT.to_le_bytes());
        header.extend_from_slice(&artifact);
        header.extend_from_slice(&(memory.len() as u64).to_le_bytes());
        header.extend_from_slice(&digest);
        let own: [u8; 32] = Sha256::digest(&header).into();
        header.extend_from_slice(&own);
        header.resize(HEADER, 0);
        let temporary = path.with_extension("image.new");
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        let written = (|| {
            file.write_all(&header)?;
            // Pages of zeros are holes: an image is sparse where the memory is.
            for (index, page) in memory.chunks(PAGE).enumerate() {
                if page.iter().any(|byte| *byte != 0) {
                    file.seek(SeekFrom::Start((HEADER + index * PAGE) as u64))?;
                    file.write_all(page)?;
                }
            }
            file.set_len((HEADER + memory.len()) as u64)?;
            file.sync_all()?;
            std::fs::rename(&temporary, path)
        })();
        if written.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        written
    }

    /// Opens an image. `Err` says what is wrong with it; its content is not looked at yet, see
    /// [`Image::verify`].
    pub fn open(path: &Path) -> Result<Image, String> {
        let failed = |error: io::Error| format!("{} cannot be read: {error}", path.display());
        let damaged = |what: &str| format!("{} is damaged: {what}", path.display());
        let mut file = File::open(path).map_err(failed)?;
        let mut header = [0; FIELDS + 32];
        file.read_exact(&mut header).map_err(failed)?;
        let (fields, own) = header.split_at(FIELDS);
        let field = |from: usize, length: usize| &fields[from..from + length];
        if field(0, 16) != MAGIC {
            return Err(format!("{} is no memory image", path.display()));
        }
        if Sha256::digest(fields).as_slice() != own {
            return Err(damaged("its header does not match its digest"));
        }
        if field(16, 4) != FORMAT.to_le_bytes() {
            return Err(format!("{} has a format that this build does not know; build it again", path.display()));
        }
        let array = |from: usize| <[u8; 32]>::try_from(field(from, 32)).unwrap_or_default();
        let length = u64::from_le_bytes(<[u8; 8]>::try_from(field(52, 8)).unwrap_or_default());
        let size = file.metadata().map_err(failed)?.len();
        let len = usize::try_from(length)
            .ok()
            .filter(|len| *len > 0 && len % WASM_PAGE == 0 && *len <= super::MAX_MEMORY)
            .ok_or_else(|| damaged("its length is not that of a memory"))?;
        if size != (HEADER + len) as u64 {
            return Err(damaged("it is not as long as its header says"));
        }
        // SAFETY: a new mapping at an address the kernel chooses, of a file that is at least that long.
        let mapped =
            unsafe { mmap(std::ptr::null_mut(), len, ProtFlags::READ, MapFlags::SHARED, &file, HEADER as u64) };
        let pristine = mapped.map_err(|error| failed(error.into()))?;
        let pristine = NonNull::new(pristine.cast()).ok_or_else(|| damaged("it cannot be mapped"))?;
        Ok(Image { file, path: path.to_owned(), len, artifact: array(20), digest: array(60), pristine })
    }

    /// Compares the memory with its digest: reads all of it.
    pub fn verify(&self) -> Result<(), String> {
        let found: [u8; 32] = Sha256::digest(self.memory()).into();
        if found == self.digest {
            return Ok(());
        }
        Err(format!("{} is damaged: its memory does not match its digest", self.path.display()))
    }

    /// The memory, as every instance first sees it.
    pub fn memory(&self) -> &[u8] {
        // SAFETY: `pristine` is a mapping of `len` readable bytes that lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.pristine.as_ptr(), self.len) }
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> usize {
        self.len
    }

    /// Hash of the module it belongs to.
    pub fn artifact(&self) -> [u8; 32] {
        self.artifact
    }

    /// SHA-256 of the memory.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes it takes on disk.
    pub fn disk_bytes(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        self.file.metadata().map_or(0, |metadata| metadata.blocks() * 512)
    }

    /// Maps the memory copy-on-write over the beginning of a reservation.
    ///
    /// # Safety
    /// `at` must be the page-aligned start of a mapping that the caller owns and that is at least
    /// [`Image::memory_bytes`] long; nothing may hold a reference into it.
    pub(super) unsafe fn map_over(&self, at: *mut u8) -> io::Result<()> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::FIXED;
        // SAFETY: replaces the beginning of the caller's own mapping, as promised.
        unsafe { mmap(at.cast(), self.len, access, flags, &self.file, HEADER as u64) }?;
        Ok(())
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, of this length, and no slice of it outlives `self`.
        let _ = unsafe { munmap(self.pristine.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_damage_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.image");
        let mut memory = vec![0; 3 * WASM_PAGE];
        memory[5] = 1;
        memory[2 * WASM_PAGE + 7] = 2;
        Image::write(&path, [9; 32], &memory).unwrap();
        let image = Image::open(&path).unwrap();
        image.verify().unwrap();
        assert_eq!(image.memory(), memory);
        assert_eq!(image.artifact(), [9; 32]);
        assert!(image.disk_bytes() < 10 * PAGE as u64, "sparse where the memory is");
        let whole = std::fs::read(&path).unwrap();
        for at in (0..FIELDS + 32).chain([HEADER, HEADER + 5, whole.len() - 1]) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            let refused = Image::open(&path).and_then(|image| image.verify());
            assert!(refused.is_err(), "byte {at}");
        }
        for length in [0, 100, HEADER, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(Image::open(&path).is_err(), "{length} bytes");
        }
    }
}
