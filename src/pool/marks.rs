//! Notes of leases whose record is not on disk yet: a small file each, written before the borrower is told.
//!
//! A record that is written behind is not there if the server is killed in that moment, and then the next one would
//! take the container for one that nobody used. A file survives the server without any `fsync`; it need not survive
//! the machine, for neither does the container.

use crate::domain::id::ContainerId;
use crate::domain::loan::Loan;
use std::io;
use std::path::{Path, PathBuf};

/// Where the notes are.
pub(super) struct Marks {
    directory: PathBuf,
}

impl Marks {
    pub(super) fn open(directory: &Path) -> io::Result<Marks> {
        std::fs::create_dir_all(directory)?;
        Ok(Marks { directory: directory.to_owned() })
    }

    /// Notes that a container was lent.
    pub(super) fn write(&self, id: ContainerId, loan: &Loan) -> io::Result<()> {
        let mut bytes = postcard::to_allocvec(loan).map_err(io::Error::other)?;
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        std::fs::write(self.path(id), bytes)
    }

    /// It is on record now.
    pub(super) fn remove(&self, id: ContainerId) {
        if let Err(error) = std::fs::remove_file(self.path(id))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(container = %id, %error, "the note of a lease stays");
        }
    }

    /// What was noted. None for a loan that cannot be read: its container was lent, or was about to be.
    pub(super) fn all(&self) -> Vec<(ContainerId, Option<Loan>)> {
        let files = std::fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let ids = files.filter_map(|file| file.file_name().to_str()?.parse().ok());
        ids.map(|id| (id, std::fs::read(self.path(id)).ok().and_then(|bytes| decode(&bytes)))).collect()
    }

    fn path(&self, id: ContainerId) -> PathBuf {
        self.directory.join(id.to_string())
    }
}

fn decode(bytes: &[u8]) -> Option<Loan> {
    let (loan, sum) = bytes.split_last_chunk::<4>()?;
    if crc32fast::hash(loan).to_le_bytes() != *sum {
        return None;
    }
    postcard::from_bytes(loan).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::LeaseId;
    use crate::domain::time::Timestamp;
    use std::time::Duration;

    #[test]
    fn a_note_is_read_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let marks = Marks::open(&folder.path().join("loans")).unwrap();
        let loan = Loan {
            lease: LeaseId::new(),
            principal: "a".into(),
            labels: [("k".to_owned(), "v".to_owned())].into(),
            request_id: None,
            fingerprint: None,
            created: Timestamp(1),
            expires: Timestamp(2),
            waited: Duration::from_millis(3),
        };
        let id = ContainerId::new();
        marks.write(id, &loan).unwrap();
        assert_eq!(marks.all(), [(id, Some(loan))]);
        let text = std::fs::read(marks.path(id)).unwrap();
        std::fs::write(marks.path(id), &text[..text.len() - 1]).unwrap();
        assert_eq!(marks.all(), [(id, None)]);
        marks.remove(id);
        marks.remove(id);
        assert!(marks.all().is_empty());
    }
}
