//! What zip archives say about themselves. What can be read in two ways is refused, and what is larger than 4 GiB.

use super::tar::{Head, Kind};

/// Bytes of an entry in the directory, without its name.
pub const ENTRY: usize = 46;
/// Bytes of an entry's own header, without its name.
pub const LOCAL: usize = 30;
/// Bytes at the end of an archive in which its directory is told of.
pub const TAIL: u64 = END as u64 + 0xffff;

/// Bytes of the record at the end, without a comment.
const END: usize = 22;

/// Where the directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Where it begins.
    pub offset: u64,
    /// Where it ends.
    pub end: u64,
    /// Its entries.
    pub entries: u64,
}

/// An entry of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whether the bytes are compressed.
    pub deflated: bool,
    /// The check sum of the file.
    pub sum: u32,
    /// Bytes as they are here.
    pub packed: u64,
    /// Bytes of the file.
    pub size: u64,
    /// Where its own header is.
    pub offset: u64,
    /// Bytes of its name.
    pub name: usize,
    /// Bytes behind that.
    pub rest: usize,
    /// Type and permissions, if they are those of Unix.
    mode: Option<u32>,
    /// Seconds since 1970.
    modified: i64,
}

/// Finds the directory by the last bytes of an archive that has so many.
///
/// # Errors
/// In words: there is none.
pub fn directory(tail: &[u8], size: u64) -> Result<Directory, String> {
    let before = size - tail.len() as u64;
    // A comment may look like the record: the one that ends where the archive does is it.
    let fits = |at: &usize| {
        let record = tail.get(*at..).unwrap_or_default();
        record.starts_with(b"PK\x05\x06") && number(record, 20, 2) == Some((record.len() - END) as u64)
    };
    let mut found = (0..=tail.len().saturating_sub(END)).rev().filter(|at| tail.len() >= END && fits(at));
    let at = found.next().ok_or("has no end")?;
    if found.next().is_some() {
        return Err("has two ends".into());
    }
    let record = tail.get(at..).unwrap_or_default();
    let field = |at, length| number(record, at, length).ok_or("has a broken end");
    let (entries, length, offset) = (field(10, 2)?, field(12, 4)?, field(16, 4)?);
    if field(4, 2)? != 0 || field(6, 2)? != 0 || field(8, 2)? != entries {
        return Err("is one part of several".into());
    }
    if entries == 0xffff || length == 0xffff_ffff || offset == 0xffff_ffff {
        return Err("is too large for its form (zip64)".into());
    }
    let end = before + at as u64;
    if offset + length != end {
        return Err("has bytes between its directory and its end, or before its beginning".into());
    }
    Ok(Directory { offset, end, entries })
}

impl Entry {
    /// Reads one without its name.
    ///
    /// # Errors
    /// In words.
    pub fn read(bytes: &[u8; ENTRY]) -> Result<Self, String> {
        let field = |at, length| number(bytes, at, length).unwrap_or_default();
        if !bytes.starts_with(b"PK\x01\x02") {
            return Err("has a broken directory".into());
        }
        if field(8, 2) & 0x2041 != 0 {
            return Err("is encrypted".into());
        }
        let deflated = match field(10, 2) {
            0 => false,
            8 => true,
            other => return Err(format!("is compressed in a way that is not known ({other})")),
        };
        let (packed, size, offset) = (field(20, 4), field(24, 4), field(42, 4));
        if [packed, size, offset].contains(&0xffff_ffff) || field(34, 2) != 0 {
            return Err("is too large for its form (zip64), or one part of several".into());
        }
        if !deflated && packed != size {
            return Err("has two sizes for the same bytes".into());
        }
        // Made on Unix, or where it is taken for that.
        let mode = matches!(field(4, 2) >> 8, 3 | 19).then_some((field(38, 4) >> 16) as u32);
        Ok(Self {
            deflated,
            sum: field(16, 4) as u32,
            packed,
            size,
            offset,
            name: field(28, 2) as usize,
            rest: (field(30, 2) + field(32, 2)) as usize,
            mode: mode.filter(|mode| *mode != 0),
            modified: time(field(14, 2), field(12, 2)),
        })
    }

    /// As an entry of any archive; with bytes that a link is to be made of.
    ///
    /// # Errors
    /// In words: it is nothing to be made.
    pub fn head(&self, path: Vec<u8>) -> Result<Head, String> {
        let mode = self.mode.unwrap_or_default();
        let kind = match mode & 0o170_000 {
            0o040_000 => Kind::Directory,
            0o120_000 => Kind::Link,
            0o100_000 | 0 if path.ends_with(b"/") => Kind::Directory,
            0o100_000 | 0 => Kind::File,
            _ => return Err(format!("has a device or a pipe: {}", super::untar::shown(&path))),
        };
        if kind == Kind::Directory && self.size != 0 {
            return Err(format!("has bytes for what is no file: {}", super::untar::shown(&path)));
        }
        let usual = if kind == Kind::Directory { 0o755 } else { 0o644 };
        let mode = self.mode.map_or(usual, |mode| mode & 0o777);
        let (size, modified) = (self.size, self.modified);
        Ok(Head { kind, path, target: Vec::new(), mode, user: 0, group: 0, size, modified })
    }
}

/// Checks an entry's own header: where its bytes begin behind it.
///
/// # Errors
/// In words: it says otherwise than the directory.
pub fn local(bytes: &[u8; LOCAL], entry: &Entry) -> Result<usize, String> {
    let field = |at, length| number(bytes, at, length).unwrap_or_default();
    let same = bytes.starts_with(b"PK\x03\x04")
        && field(8, 2) == if entry.deflated { 8 } else { 0 }
        && field(26, 2) == entry.name as u64;
    if same { Ok(entry.name + field(28, 2) as usize) } else { Err("says two things about an entry".into()) }
}

fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let field = bytes.get(at..at + length)?;
    Some(field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// Seconds since 1970 of a date and a time as in MS-DOS, which knows no zones.
fn time(date: u64, time: u64) -> i64 {
    let (year, month, day) = (1980 + (date >> 9), ((date >> 5) & 15).clamp(1, 12), (date & 31).max(1));
    // Years begin in March here, so that the odd day comes last.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * years + years / 4 - years / 100 + years / 400 + (153 * months + 2) / 5 + day - 1;
    let seconds = (time >> 11) * 3600 + ((time >> 5) & 63) * 60 + (time & 31) * 2;
    (days * 86400 + seconds) as i64 - 719_468 * 86400
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dates_are_days() {
        assert_eq!(time(0x21, 0), 315_532_800);
        assert_eq!(time(((2024 - 1980) << 9) | (2 << 5) | 29, (12 << 11) | (30 << 5) | 5), 1_709_209_810);
        time(0xffff, 0xffff);
        time(0, 0);
    }

    #[test]
    fn the_end_is_found_behind_a_comment_and_once() {
        let end = |entries: u8, comment: &[u8]| {
            let mut bytes = b"PK\x05\x06\0\0\0\0".to_vec();
            bytes.extend([entries, 0, entries, 0, 0, 0, 0, 0, 0, 0, 0, 0, comment.len() as u8, 0]);
            bytes.extend(comment);
            bytes
        };
        assert_eq!(directory(&end(0, b"abc"), 25), Ok(Directory { offset: 0, end: 0, entries: 0 }));
        assert!(directory(&end(1, &end(1, b"")), 44).unwrap_err().contains("two"));
        assert!(directory(&end(0, b"")[..21], 21).is_err());
        assert!(directory(b"", 0).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..200) {
            let mut bytes = bytes;
            let _ = directory(&bytes, bytes.len() as u64);
            if at < bytes.len() {
                bytes.splice(at..at, *b"PK\x05\x06");
            }
            let _ = directory(&bytes, bytes.len() as u64);
            if let Some(entry) = bytes.first_chunk() {
                let mut entry: [u8; ENTRY] = *entry;
                entry[..4].copy_from_slice(b"PK\x01\x02");
                if let Ok(entry) = Entry::read(&entry) {
                    let _ = entry.head(b"a".to_vec());
                }
            }
        }
    }
}
