//! The ledger of one execution that outlives the server: what it came from, and which numbers readers have seen.
//!
//! A process in a container goes on when the server is killed, and whoever keeps its output gives it out again. So the
//! bytes are safe; what would be lost is how they were cut into numbered events, and that the execution was accepted
//! at all. Both are written here before anybody hears of them, in one small file per execution. Nothing waits for the
//! disk: a container does not outlive the machine either. Files are used again, for to make one is what costs most.
//!
//! ```text
//! u32 length, u32 crc32, the origin in postcard's form
//! records of 48 bytes: what happened under one number
//! ```

use super::journal::Mark;
use crate::domain::event::{OutputStream, Truncated};
use crate::domain::execution::Origin;
use crate::domain::time::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of a record.
const RECORD: usize = 48;
/// Bytes of an origin at most, as a bound on what is read.
const MAX_ORIGIN: usize = 4 << 20;

/// Empty files that are kept for executions to come.
const SPARE: usize = 64;

/// Where the ledgers of a server are.
#[derive(Debug)]
pub struct Ledgers {
    directory: PathBuf,
    spare: Mutex<Vec<(PathBuf, File)>>,
}

/// The ledger of an execution that runs.
#[derive(Debug)]
pub struct Ledger {
    home: Arc<Ledgers>,
    path: PathBuf,
    file: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Open(File),
    /// Something could not be written: nothing that follows is.
    Broken,
    /// The file belongs to another, or is gone.
    Removed,
}

/// What a ledger says.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What was known from the start.
    pub origin: Origin,
    /// Fingerprint of the call, if it had a request id.
    pub fingerprint: Option<[u8; 32]>,
    /// What readers may have seen and the store may not have, in order.
    pub marks: Vec<Mark>,
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Head {
    origin: Origin,
    fingerprint: Option<[u8; 32]>,
}

impl Ledgers {
    /// Ledgers in a directory, which is made if it is not there.
    pub fn open(directory: PathBuf) -> io::Result<Arc<Ledgers>> {
        std::fs::create_dir_all(&directory)?;
        Ok(Arc::new(Ledgers { directory, spare: Mutex::default() }))
    }

    /// Where they are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Begins the ledger of an execution.
    pub fn begin(self: &Arc<Self>, origin: &Origin, fingerprint: Option<&[u8; 32]>) -> io::Result<Ledger> {
        let head = Head { origin: origin.clone(), fingerprint: fingerprint.copied() };
        let body = postcard::to_stdvec(&head).map_err(io::Error::other)?;
        let length = u32::try_from(body.len()).ok().filter(|length| *length as usize <= MAX_ORIGIN);
        let length = length.ok_or_else(|| io::Error::other("an origin that is too long"))?;
        let mut bytes = Vec::with_capacity(8 + body.len());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        let spare = self.spare.lock().pop();
        let (path, mut file) = match spare {
            Some(spare) => spare,
            None => {
                let path = self.directory.join(origin.id.to_string());
                let file = File::options().append(true).create_new(true).open(&path)?;
                (path, file)
            }
        };
        if let Err(error) = file.write_all(&bytes) {
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        Ok(Ledger { home: self.clone(), path, file: Mutex::new(State::Open(file)) })
    }

    /// Goes on with the ledger of an execution that a killed server left.
    pub(super) fn resume(self: &Arc<Self>, entry: &Entry) -> io::Result<Ledger> {
        let file = File::options().append(true).open(&entry.path)?;
        Ok(Ledger { home: self.clone(), path: entry.path.clone(), file: Mutex::new(State::Open(file)) })
    }

    /// All ledgers that a killed server left. One that cannot be read says so in the log; its execution is lost.
    pub(super) fn read_all(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for file in std::fs::read_dir(&self.directory)? {
            let path = file?.path();
            match std::fs::read(&path) {
                // Kept for an execution that was yet to come.
                Ok(bytes) if bytes.is_empty() => {
                    let _ = std::fs::remove_file(&path);
                }
                read => {
                    let entry =
                        |bytes: Vec<u8>| decode_all(&path, &bytes).ok_or_else(|| io::ErrorKind::InvalidData.into());
                    match read.and_then(entry) {
                        Ok(entry) => entries.push(entry),
                        Err(error) => {
                            tracing::error!(path = %path.display(), %error, "a ledger cannot be read; its execution is lost");
                            let _ = std::fs::remove_file(&path);
                        }
                    }
                }
            }
        }
        Ok(entries)
    }
}

impl Entry {
    /// Removes the ledger it was read from, for nobody needs it.
    pub(super) fn discard(&self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Ledger {
    /// Adds what readers are about to see. If that fails, the numbers of this execution are not kept any more: after a
    /// crash a gap stands for all that follows.
    pub fn add(&self, marks: &[Mark]) {
        let mut file = self.file.lock();
        let State::Open(open) = &mut *file else { return };
        let bytes: Vec<u8> = marks.iter().flat_map(encode).collect();
        if let Err(error) = open.write_all(&bytes) {
            tracing::warn!(path = %self.path.display(), %error, "the numbers of an execution's events are not kept");
            *file = State::Broken;
        }
    }

    /// Forgets it: the store has the whole execution.
    pub fn remove(&self) {
        match std::mem::replace(&mut *self.file.lock(), State::Removed) {
            State::Removed => return,
            State::Broken => {}
            State::Open(file) => {
                let mut spare = self.home.spare.lock();
                if spare.len() < SPARE && file.set_len(0).is_ok() {
                    return spare.push((self.path.clone(), file));
                }
            }
        }
        // One that stays is found at the next start, beside a record that is over, and removed then.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn decode_all(path: &Path, bytes: &[u8]) -> Option<Entry> {
    let (head, rest) = bytes.split_at_checked(8)?;
    let number = |at: usize| head.get(at..at + 4).and_then(|part| part.try_into().ok()).map(u32::from_le_bytes);
    let (length, crc) = (number(0)? as usize, number(4)?);
    let (body, records) = rest.split_at_checked(length)?;
    if crc32fast::hash(body) != crc {
        return None;
    }
    let Head { origin, fingerprint } = postcard::from_bytes(body).ok()?;
    let mut marks: Vec<Mark> = Vec::new();
    // A record that was cut off ends what is known. Numbers that are missing in between are of events that the store
    // had when a server went on with this file.
    for record in records.chunks_exact(RECORD) {
        let last = marks.last().map_or(0, Mark::last);
        match decode(record) {
            Some(mark) if mark.first() > last => marks.push(mark),
            _ => break,
        }
    }
    Some(Entry { origin, fingerprint, marks, path: path.to_owned() })
}

fn encode(mark: &Mark) -> [u8; RECORD] {
    let (kind, time, numbers): (u32, Timestamp, [u64; 4]) = match *mark {
        Mark::Started { sequence, time, pid } => (1, time, [sequence, u64::from(pid.cast_unsigned()), 0, 0]),
        Mark::Output { sequence, time, stream, offset, length } => {
            (if stream == OutputStream::Stdout { 2 } else { 3 }, time, [sequence, offset, length, 0])
        }
        Mark::Gap { sequence, time, gap } => {
            (4, time, [sequence, gap.first_sequence, gap.stdout_offset, gap.stderr_offset])
        }
        Mark::Finished { sequence, time } => (5, time, [sequence, 0, 0, 0]),
    };
    let mut record = [0; RECORD];
    record[4..8].copy_from_slice(&kind.to_le_bytes());
    record[8..16].copy_from_slice(&time.0.to_le_bytes());
    for (to, number) in record[16..].chunks_exact_mut(8).zip(numbers) {
        to.copy_from_slice(&number.to_le_bytes());
    }
    let crc = crc32fast::hash(&record[4..]);
    record[..4].copy_from_slice(&crc.to_le_bytes());
    record
}

fn decode(record: &[u8]) -> Option<Mark> {
    let small = |at: usize| record.get(at..at + 4).and_then(|part| part.try_into().ok()).map(u32::from_le_bytes);
    let large = |at: usize| record.get(at..at + 8).and_then(|part| part.try_into().ok()).map(u64::from_le_bytes);
    if small(0)? != crc32fast::hash(record.get(4..)?) {
        return None;
    }
    let (time, sequence) = (Timestamp(large(8)?), large(16)?);
    let output = |stream| Some(Mark::Output { sequence, time, stream, offset: large(24)?, length: large(32)? });
    match small(4)? {
        1 => Some(Mark::Started { sequence, time, pid: u32::try_from(large(24)?).ok()?.cast_signed() }),
        2 => output(OutputStream::Stdout),
        3 => output(OutputStream::Stderr),
        4 => {
            let gap = Truncated { first_sequence: large(24)?, stdout_offset: large(32)?, stderr_offset: large(40)? };
            Some(Mark::Gap { sequence, time, gap })
        }
        5 => Some(Mark::Finished { sequence, time }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::execution::Subject;
    use crate::domain::id::ExecutionId;
    use crate::domain::limits::LimitsPolicy;
    use std::collections::BTreeMap;

    fn origin() -> Origin {
        Origin {
            id: ExecutionId::new(),
            subject: Subject::Process { container: "c".into(), command: vec!["sleep".into(), "1".into()], tty: true },
            principal: "p".into(),
            request_id: None,
            labels: [("a".to_owned(), "b".to_owned())].into(),
            limits: LimitsPolicy::default().defaults,
            created: Timestamp(7),
            session: None,
            parent: None,
            target: "container \"c\"".into(),
        }
    }

    fn marks() -> Vec<Mark> {
        let gap = Truncated { first_sequence: 4, stdout_offset: 70, stderr_offset: 90 };
        vec![
            Mark::Started { sequence: 1, time: Timestamp(1), pid: -5 },
            Mark::Output { sequence: 2, time: Timestamp(2), stream: OutputStream::Stdout, offset: 0, length: 5 },
            Mark::Output { sequence: 3, time: Timestamp(3), stream: OutputStream::Stderr, offset: 0, length: 1 << 40 },
            Mark::Gap { sequence: 9, time: Timestamp(4), gap },
            Mark::Finished { sequence: 10, time: Timestamp(5) },
        ]
    }

    #[test]
    fn what_was_written_is_read_as_far_as_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let ledgers = Ledgers::open(directory.path().into()).unwrap();
        let (origin, marks) = (origin(), marks());
        let ledger = ledgers.begin(&origin, Some(&[9; 32])).unwrap();
        ledger.add(&marks[..2]);
        drop(ledger);
        let ledger = ledgers.resume(&ledgers.read_all().unwrap()[0]).unwrap();
        ledger.add(&marks[2..]);
        let found = ledgers.read_all().unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(format!("{:?}", found[0].origin), format!("{origin:?}"));
        assert_eq!((found[0].fingerprint, &found[0].marks), (Some([9; 32]), &marks));
        let bytes = std::fs::read(&ledger.path).unwrap();
        let whole = bytes.len();
        let read = |bytes: &[u8]| decode_all(&ledger.path, bytes);
        for cut in 0..whole {
            match read(&bytes[..cut]) {
                Some(entry) => assert_eq!(entry.marks, marks[..entry.marks.len()]),
                None => assert!(cut < whole - marks.len() * RECORD),
            }
        }
        let mut flipped = bytes.clone();
        flipped[whole - RECORD - 3] ^= 1;
        assert_eq!(read(&flipped).unwrap().marks, marks[..3]);
        ledger.remove();
        assert!(ledgers.read_all().unwrap().is_empty());
    }

    #[test]
    fn a_file_that_is_used_again_has_nothing_of_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let ledgers = Ledgers::open(directory.path().into()).unwrap();
        let first = ledgers.begin(&origin(), Some(&[9; 32])).unwrap();
        first.add(&marks());
        first.remove();
        let (shorter, marks) = (Origin { labels: BTreeMap::new(), ..origin() }, marks());
        let second = ledgers.begin(&shorter, None).unwrap();
        assert_eq!(second.path, first.path);
        second.add(&marks[..1]);
        // What is told of one that is over reaches nobody.
        first.add(&marks);
        first.remove();
        let found = ledgers.read_all().unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].origin.id, found[0].fingerprint, &*found[0].marks), (shorter.id, None, &marks[..1]));
    }

    #[test]
    fn files_are_not_kept_without_bound_nor_for_the_next_server() {
        let directory = tempfile::tempdir().unwrap();
        let files = || std::fs::read_dir(directory.path()).unwrap().count();
        let ledgers = Ledgers::open(directory.path().into()).unwrap();
        let all: Vec<_> = (0..SPARE + 3).map(|_| ledgers.begin(&origin(), None).unwrap()).collect();
        assert_eq!(files(), SPARE + 3);
        all.iter().for_each(Ledger::remove);
        assert_eq!(files(), SPARE);
        let next = Ledgers::open(directory.path().into()).unwrap();
        assert!(next.read_all().unwrap().is_empty());
        assert_eq!(files(), 0);
    }

    #[test]
    fn a_ledger_that_cannot_be_read_is_put_away() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("x"), b"nonsense").unwrap();
        assert!(Ledgers::open(directory.path().into()).unwrap().read_all().unwrap().is_empty());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
