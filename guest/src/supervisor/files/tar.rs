//! Headers of tar archives: ustar, with pax records for what does not fit.

/// Bytes of a header, and what everything is a multiple of.
pub const BLOCK: usize = 512;
/// Bytes of a name that fit into a header.
const NAME: usize = 100;

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// What follows.
    pub kind: Kind,
    /// Its name.
    pub path: Vec<u8>,
    /// Where it leads, if it is a link.
    pub target: Vec<u8>,
    /// Permissions.
    pub mode: u32,
    /// Its owner.
    pub user: u64,
    /// Its group.
    pub group: u64,
    /// Bytes that follow.
    pub size: u64,
    /// Seconds since 1970.
    pub modified: i64,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Directory,
    /// A symbolic link.
    Link,
    /// Another name of a file before it.
    HardLink,
}

impl Head {
    /// Its blocks.
    pub fn encode(&self) -> Vec<u8> {
        let mut records = Vec::new();
        if self.path.len() > NAME {
            record(&mut records, "path", &self.path);
        }
        if self.target.len() > NAME {
            record(&mut records, "linkpath", &self.target);
        }
        for (key, number, digits) in [("size", self.size, 11), ("uid", self.user, 7), ("gid", self.group, 7)] {
            if number >= 1 << (3 * digits) {
                record(&mut records, key, number.to_string().as_bytes());
            }
        }
        if !(0..1 << 33).contains(&self.modified) {
            record(&mut records, "mtime", self.modified.to_string().as_bytes());
        }
        let mut blocks = Vec::new();
        if !records.is_empty() {
            let head = Self { path: b"pax".to_vec(), target: Vec::new(), size: records.len() as u64, ..self.clone() };
            blocks.extend_from_slice(&head.block(b'x'));
            let end = records.len().next_multiple_of(BLOCK);
            records.resize(end, 0);
            blocks.extend_from_slice(&records);
        }
        let letter = match self.kind {
            Kind::File => b'0',
            Kind::HardLink => b'1',
            Kind::Link => b'2',
            Kind::Directory => b'5',
        };
        blocks.extend_from_slice(&self.block(letter));
        blocks
    }

    fn block(&self, letter: u8) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.path[..self.path.len().min(NAME)]);
        put(100, &octal(self.mode.into(), 7));
        put(108, &octal(self.user, 7));
        put(116, &octal(self.group, 7));
        put(124, &octal(self.size, 11));
        put(136, &octal(u64::try_from(self.modified).unwrap_or_default(), 11));
        put(148, b"        ");
        put(156, &[letter]);
        put(157, &self.target[..self.target.len().min(NAME)]);
        put(257, b"ustar\x0000");
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        let mut checksum = octal(sum, 6);
        checksum.push(0);
        block[148..148 + checksum.len()].copy_from_slice(&checksum);
        block[155] = b' ';
        block
    }
}

/// So many digits; zero if they do not suffice, as a record says it then.
fn octal(number: u64, digits: usize) -> Vec<u8> {
    let number = if number >> (3 * digits) == 0 { number } else { 0 };
    format!("{number:0digits$o}").into_bytes()
}

/// A record has its own length in front, digits included.
fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}
