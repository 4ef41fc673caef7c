//! The files of checkpoints: their form, and how they come to be whole or not at all.
//!
//! A checkpoint is a chain of files: a whole state and what changed since. Each is written aside, flushed and
//! renamed; the session's row in the store, which names them with their digests, is what makes them count. So a
//! crash at any point leaves the older chain valid, and files that no row names are removed at the next start.
//!
//! A file is a header (magic, format, flags, fingerprint of the interpreter, session, turn, lengths of the body as it
//! is and as it is stored), the body (meta, then pieces; compressed with LZ4 where that saves room) and the SHA-256
//! of all that. The row has that digest too.

use super::kernel::Frozen;
use crate::domain::id::SessionId;
use crate::store::sessions::FileRecord;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"CsMtCkpt";
const FORMAT: u32 = 2;
const FLAG_WHOLE: u32 = 1;
const FLAG_COMPRESSED: u32 = 2;
const HEADER: usize = 8 + 4 + 4 + 32 + 16 + 8 + 8 + 8;
const DIGEST: usize = 32;
/// Ends the name of a file that is not whole yet.
const ASIDE: &str = ".part";

/// What a file is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heading {
    /// Fingerprint of the interpreter.
    pub fingerprint: [u8; 32],
    /// The session.
    pub session: SessionId,
    /// The turn after which the state was frozen.
    pub turn: u64,
}

/// The directories of all sessions' checkpoints.
#[derive(Clone, Debug)]
pub struct Files {
    root: PathBuf,
}

impl Files {
    /// Keeps them below `root`, which is made if needed, for nobody else to read.
    pub fn open(root: PathBuf) -> io::Result<Files> {
        make_directory(&root)?;
        Ok(Files { root })
    }

    /// Where a session's files are.
    pub fn directory(&self, session: SessionId) -> PathBuf {
        self.root.join(session.to_string())
    }

    /// Writes a state aside: complete and flushed, but not under its name yet.
    pub fn write_aside(&self, heading: &Heading, frozen: &Frozen) -> io::Result<FileRecord> {
        let directory = self.directory(heading.session);
        make_directory(&directory)?;
        // Never a name that was used before: a file that a row names is not written to again.
        let unique = uuid::Uuid::now_v7().simple();
        let kind = if frozen.whole { "whole" } else { "change" };
        let name = format!("{:010}-{unique}.{kind}", heading.turn);
        let path = directory.join(format!("{name}{ASIDE}"));
        let written = write_file(&path, heading, frozen);
        if written.is_err() {
            // What is left of it would only take room; the next start removes it in any case.
            let _ = fs::remove_file(&path);
        }
        let (size, digest) = written?;
        Ok(FileRecord { name, size, digest, whole: frozen.whole })
    }

    /// Gives a file that was written aside its name, for good.
    pub fn settle(&self, session: SessionId, file: &FileRecord) -> io::Result<()> {
        let directory = self.directory(session);
        fs::rename(directory.join(format!("{}{ASIDE}", file.name)), directory.join(&file.name))?;
        File::open(&directory)?.sync_all()
    }

    /// Reads the states of a chain, each checked against its record and against `fingerprint`. An error says in
    /// one clause why the chain cannot be used.
    pub fn read(&self, heading: &Heading, chain: &[FileRecord]) -> Result<Vec<Frozen>, String> {
        let directory = self.directory(heading.session);
        let mut layers = Vec::with_capacity(chain.len());
        for (at, file) in chain.iter().enumerate() {
            let bytes = match fs::read(directory.join(&file.name)) {
                Ok(bytes) => Bytes::from(bytes),
                Err(error) => return Err(format!("its file {} cannot be read: {error}", file.name)),
            };
            let problem = |why: &str| format!("its file {} {why}", file.name);
            let (found, frozen) = decode(&bytes, file).map_err(|why| problem(&why))?;
            if found.fingerprint != heading.fingerprint {
                return Err(problem("was written by another version of the interpreter"));
            }
            if found.session != heading.session {
                return Err(problem("belongs to another session"));
            }
            if frozen.whole != (at == 0) {
                return Err(problem("is out of place in its chain"));
            }
            if at + 1 == chain.len() && found.turn != heading.turn {
                return Err(problem("is of another turn"));
            }
            layers.push(frozen);
        }
        if layers.is_empty() { Err("it has no files".into()) } else { Ok(layers) }
    }

    /// Removes files, as far as they are there; what remains is removed at the next start.
    pub fn remove(&self, session: SessionId, files: &[FileRecord]) {
        let directory = self.directory(session);
        for file in files {
            for name in [file.name.clone(), format!("{}{ASIDE}", file.name)] {
                let _ = fs::remove_file(directory.join(name));
            }
        }
    }

    /// Removes all a session has.
    pub fn remove_all(&self, session: SessionId) {
        let directory = self.directory(session);
        if let Err(error) = fs::remove_dir_all(&directory)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, directory = %directory.display(), "files of a closed session remain");
        }
    }

    /// Removes every file and directory that `keep` does not name; answers how many.
    pub fn sweep(&self, keep: impl Fn(SessionId) -> Option<Vec<String>>) -> io::Result<usize> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.root)? {
            let path = entry?.path();
            let session = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            let Some(names) = session.and_then(&keep) else {
                removed += 1;
                if path.is_dir() {
                    fs::remove_dir_all(&path)?
                } else {
                    fs::remove_file(&path)?
                }
                continue;
            };
            for file in fs::read_dir(&path)? {
                let file = file?;
                if !file.file_name().to_str().is_some_and(|name| names.iter().any(|kept| kept == name)) {
                    removed += 1;
                    fs::remove_file(file.path())?;
                }
            }
        }
        Ok(removed)
    }
}

/// The most that the file of a state takes.
pub fn largest_size(frozen: &Frozen) -> u64 {
    let pieces: u64 = frozen.pieces.iter().map(|(_, bytes)| 16 + bytes.len() as u64).sum();
    (HEADER + DIGEST + 16) as u64 + frozen.meta.len() as u64 + pieces
}

/// Makes a directory that only its owner can open.
pub fn make_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn write_file(path: &Path, heading: &Heading, frozen: &Frozen) -> io::Result<(u64, [u8; 32])> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = write(&mut file, heading, frozen)?;
    file.sync_all()?;
    Ok(written)
}

/// Writes a state in its form: bytes, and their digest.
fn write(out: &mut impl Write, heading: &Heading, frozen: &Frozen) -> io::Result<(u64, [u8; 32])> {
    let plain = body(frozen);
    let compressed = lz4_flex::block::compress(&plain);
    let (flag, stored) = if compressed.len() < plain.len() { (FLAG_COMPRESSED, &compressed) } else { (0, &plain) };
    let flags = flag | if frozen.whole { FLAG_WHOLE } else { 0 };
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&FORMAT.to_le_bytes());
    header.extend_from_slice(&flags.to_le_bytes());
    header.extend_from_slice(&heading.fingerprint);
    header.extend_from_slice(heading.session.as_bytes());
    header.extend_from_slice(&heading.turn.to_le_bytes());
    header.extend_from_slice(&(plain.len() as u64).to_le_bytes());
    header.extend_from_slice(&(stored.len() as u64).to_le_bytes());
    let digest: [u8; 32] = Sha256::new().chain_update(&header).chain_update(stored).finalize().into();
    out.write_all(&header)?;
    out.write_all(stored)?;
    out.write_all(&digest)?;
    Ok(((HEADER + stored.len() + DIGEST) as u64, digest))
}

fn body(frozen: &Frozen) -> Vec<u8> {
    let mut body = Vec::with_capacity(usize::try_from(largest_size(frozen)).unwrap_or_default());
    body.extend_from_slice(&(frozen.meta.len() as u64).to_le_bytes());
    body.extend_from_slice(&frozen.meta);
    body.extend_from_slice(&(frozen.pieces.len() as u64).to_le_bytes());
    for (place, bytes) in &frozen.pieces {
        body.extend_from_slice(&place.to_le_bytes());
        body.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        body.extend_from_slice(bytes);
    }
    body
}

/// The state in a file; an error is a clause that follows "its file NAME".
fn decode(bytes: &Bytes, record: &FileRecord) -> Result<(Heading, Frozen), String> {
    if bytes.len() as u64 != record.size || bytes.len() < HEADER + DIGEST {
        return Err(format!("has {} bytes instead of {}", bytes.len(), record.size));
    }
    let (content, digest) = bytes.split_at(bytes.len() - DIGEST);
    let found: [u8; 32] = Sha256::digest(content).into();
    if found != record.digest || digest != record.digest {
        return Err("does not match its digest".into());
    }
    let mut rest = Reader { bytes: bytes.slice(..content.len()) };
    // What follows was written by this program, by its digest. It is still read with care: a digest is no proof.
    let parse = |rest: &mut Reader| -> Option<(u32, u32, Heading, Frozen)> {
        if rest.take(8)? != MAGIC[..] {
            return None;
        }
        let (format, flags) = (rest.u32()?, rest.u32()?);
        let fingerprint = rest.take(32)?[..].try_into().ok()?;
        let session = SessionId::from_bytes(rest.take(16)?[..].try_into().ok()?);
        let turn = rest.u64()?;
        let (plain, stored) = (rest.u64()?, rest.u64()?);
        if stored != rest.bytes.len() as u64 {
            return None;
        }
        if flags & FLAG_COMPRESSED != 0 {
            // The form expands by 255 at most; what claims more is damaged.
            let plain = usize::try_from(plain).ok().filter(|plain| plain / 255 <= rest.bytes.len())?;
            rest.bytes = lz4_flex::block::decompress(&rest.bytes, plain).ok()?.into();
        }
        if plain != rest.bytes.len() as u64 {
            return None;
        }
        let meta_size = rest.u64()?;
        let meta = rest.take(meta_size)?;
        let count = rest.u64()?;
        let mut pieces = Vec::new();
        for _ in 0..count {
            let (place, size) = (rest.u64()?, rest.u64()?);
            pieces.push((place, rest.take(size)?));
        }
        let frozen = Frozen { pieces, meta, whole: flags & FLAG_WHOLE != 0 };
        rest.bytes.is_empty().then_some((format, flags, Heading { fingerprint, session, turn }, frozen))
    };
    match parse(&mut rest) {
        Some((FORMAT, flags, heading, frozen)) if flags & !(FLAG_WHOLE | FLAG_COMPRESSED) == 0 => Ok((heading, frozen)),
        Some((format, ..)) => Err(format!("has format {format}; this build reads {FORMAT}")),
        None => Err("is no checkpoint".into()),
    }
}

/// What the fuzz target needs: the form of files, with a digest that is right.
#[cfg(fuzzing)]
pub mod fuzzing {
    use super::*;

    /// The state in bytes that are followed by their digest.
    pub fn decode(content: &[u8]) -> Result<(Heading, Frozen), String> {
        let digest: [u8; 32] = Sha256::digest(content).into();
        let bytes = Bytes::from([content, &digest].concat());
        let record = FileRecord { name: "fuzz".into(), size: bytes.len() as u64, digest, whole: true };
        super::decode(&bytes, &record)
    }

    /// A state in its form, without the digest.
    pub fn encode(heading: &Heading, frozen: &Frozen) -> Vec<u8> {
        let mut bytes = Vec::new();
        let (size, _) = write(&mut bytes, heading, frozen).expect("a vector takes everything");
        assert_eq!(size, bytes.len() as u64);
        bytes.truncate(bytes.len() - DIGEST);
        bytes
    }
}

struct Reader {
    bytes: Bytes,
}

impl Reader {
    fn take(&mut self, size: u64) -> Option<Bytes> {
        let size = usize::try_from(size).ok().filter(|&size| size <= self.bytes.len())?;
        Some(self.bytes.split_to(size))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?[..].try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?[..].try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt;

    fn heading(turn: u64) -> Heading {
        Heading { fingerprint: [7; 32], session: SessionId::new(), turn }
    }

    fn frozen() -> impl Strategy<Value = Frozen> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from);
        (proptest::collection::vec((any::<u64>(), bytes()), 0..8), bytes(), any::<bool>())
            .prop_map(|(pieces, meta, whole)| Frozen { pieces, meta, whole })
    }

    proptest! {
        #[test]
        fn states_come_back_and_any_flipped_bit_is_found(state in frozen(), bit in any::<prop::sample::Index>()) {
            let directory = tempfile::tempdir().unwrap();
            let files = Files::open(directory.path().join("sessions")).unwrap();
            let heading = heading(3);
            let state = Frozen { whole: true, ..state };
            let file = files.write_aside(&heading, &state).unwrap();
            prop_assert!(file.size <= largest_size(&state));
            files.settle(heading.session, &file).unwrap();
            let chain = [file.clone()];
            prop_assert_eq!(files.read(&heading, &chain).unwrap(), vec![state]);
            let path = files.directory(heading.session).join(&file.name);
            let mut bytes = fs::read(&path).unwrap();
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bytes).unwrap();
            prop_assert!(files.read(&heading, &chain).unwrap_err().contains("digest"));
            fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
            prop_assert!(files.read(&heading, &chain).unwrap_err().contains("bytes instead of"));
        }
    }

    #[test]
    fn what_repeats_takes_little_room() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::open(directory.path().join("sessions")).unwrap();
        let state = Frozen { pieces: vec![(4096, vec![7; 1 << 20].into())], whole: true, ..Frozen::default() };
        let file = files.write_aside(&heading(1), &state).unwrap();
        assert!(file.size < 8192, "{}", file.size);
    }

    #[test]
    fn files_are_private_and_what_no_row_names_is_swept() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::open(directory.path().join("sessions")).unwrap();
        let heading = heading(1);
        let state = Frozen { whole: true, ..Frozen::default() };
        let (kept, unnamed) =
            (files.write_aside(&heading, &state).unwrap(), files.write_aside(&heading, &state).unwrap());
        files.settle(heading.session, &kept).unwrap();
        files.settle(heading.session, &unnamed).unwrap();
        files.write_aside(&heading, &state).unwrap();
        files.write_aside(&self::heading(9), &state).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let own = files.directory(heading.session);
        assert_eq!((mode(&own), mode(&own.join(&kept.name))), (0o700, 0o600));
        let names = vec![kept.name.clone()];
        let removed = files.sweep(|session| (session == heading.session).then(|| names.clone())).unwrap();
        assert_eq!(removed, 3);
        assert!(files.read(&heading, std::slice::from_ref(&kept)).is_ok());
        assert!(files.read(&Heading { fingerprint: [8; 32], ..heading }, &[kept]).unwrap_err().contains("another"));
    }
}
