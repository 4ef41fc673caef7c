//! Reads tar archives piece by piece, as bytes arrive. They may be hostile: what can be read in two ways is refused.

use bytes::{Buf, Bytes};

use super::pax::Pax;
use super::tar::{BLOCK, Head, Kind};

/// Bytes of long names and of records at most.
const META: u64 = 64 << 10;

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// An entry begins.
    Head(Head),
    /// Bytes of the entry that began last.
    Data(Bytes),
    /// All of its bytes were there.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A header follows.
    Header,
    /// Bytes about the next entry follow: these many, then some up to the end of the block.
    Meta(Meta, usize),
    /// Bytes of an entry follow.
    Body(u64, usize),
    /// What fills a block follows.
    Padding(usize),
    /// One empty block was there.
    Ending,
    /// It is over.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meta {
    Records,
    Global,
    Path,
    Target,
}

/// Where the reading is.
#[derive(Debug)]
pub struct Parser {
    state: State,
    /// Bytes of what is read as a whole: a header, or what is about the next entry.
    pending: Vec<u8>,
    /// Bytes of that.
    wanted: usize,
    /// What is known of the next entry.
    pax: Pax,
    long_path: Option<Vec<u8>>,
    long_target: Option<Vec<u8>>,
}

impl Default for Parser {
    fn default() -> Self {
        let (pax, pending) = (Pax::default(), Vec::new());
        Self { state: State::Header, pending, wanted: BLOCK, pax, long_path: None, long_target: None }
    }
}

impl Parser {
    /// Whether the archive is over, as far as it may be.
    pub fn is_whole(&self) -> bool {
        self.state == State::Ended || (self.state == State::Ending && self.pending.is_empty())
    }

    /// Takes bytes; the next piece, or none if there are too few for one.
    ///
    /// # Errors
    /// In words: this is no archive, or not one to be trusted.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Piece>, String> {
        loop {
            if self.state == State::Ended {
                input.clear();
            }
            if let Some(end) = self.ended() {
                return Ok(Some(end));
            }
            if input.is_empty() {
                return Ok(None);
            }
            match self.state {
                State::Ended => {}
                State::Padding(left) => {
                    let passed = left.min(input.len());
                    input.advance(passed);
                    self.state = if passed == left { State::Header } else { State::Padding(left - passed) };
                }
                State::Body(left, padding) => {
                    let length = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    self.state = State::Body(left - length as u64, padding);
                    return Ok(Some(Piece::Data(input.split_to(length))));
                }
                State::Header | State::Meta(..) | State::Ending => {
                    let length = (self.wanted - self.pending.len()).min(input.len());
                    self.pending.extend_from_slice(&input.split_to(length));
                    if self.pending.len() < self.wanted {
                        return Ok(None);
                    }
                    let whole = std::mem::take(&mut self.pending);
                    self.wanted = BLOCK;
                    if let Some(head) = self.take(&whole)? {
                        return Ok(Some(Piece::Head(head)));
                    }
                }
            }
        }
    }

    /// The end of an entry, which needs no more bytes to be known.
    fn ended(&mut self) -> Option<Piece> {
        let State::Body(0, padding) = self.state else { return None };
        self.state = if padding == 0 { State::Header } else { State::Padding(padding) };
        Some(Piece::End)
    }

    fn take(&mut self, whole: &[u8]) -> Result<Option<Head>, String> {
        if let State::Meta(meta, length) = self.state {
            self.state = State::Header;
            let value = whole.get(..length).unwrap_or_default();
            let name = || value.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
            match meta {
                Meta::Records => self.pax.read(value)?,
                Meta::Global => Pax::default().read_global(value)?,
                Meta::Path => self.long_path = Some(name()),
                Meta::Target => self.long_target = Some(name()),
            }
            return Ok(None);
        }
        if whole.iter().all(|byte| *byte == 0) {
            if self.pax != Pax::default() || self.long_path.is_some() || self.long_target.is_some() {
                return Err("ends before the entry that was announced".into());
            }
            self.state = if self.state == State::Ending { State::Ended } else { State::Ending };
            return Ok(None);
        }
        if self.state == State::Ending {
            return Err("goes on behind its end".into());
        }
        self.header(whole)
    }

    fn header(&mut self, block: &[u8]) -> Result<Option<Head>, String> {
        let field = |at: usize, length: usize| block.get(at..at + length).unwrap_or_default();
        let text = |at, length| field(at, length).split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
        check_sum(block)?;
        let letter = field(156, 1).first().copied().unwrap_or_default();
        let stated = number(field(124, 12)).ok_or("has a size that is no number")?;
        let meta = match letter {
            b'x' => Some(Meta::Records),
            b'g' => Some(Meta::Global),
            b'L' => Some(Meta::Path),
            b'K' => Some(Meta::Target),
            _ => None,
        };
        if let Some(meta) = meta {
            if stated > META {
                return Err(format!("has {stated} bytes about one entry; at most {META} may be"));
            }
            let length = stated as usize;
            self.state = State::Meta(meta, length);
            self.wanted = length.next_multiple_of(BLOCK);
            // Nothing to wait for.
            return if self.wanted == 0 {
                self.wanted = BLOCK;
                self.take(&[])
            } else {
                Ok(None)
            };
        }
        let pax = std::mem::take(&mut self.pax);
        let (long_path, long_target) = (self.long_path.take(), self.long_target.take());
        let mut path = text(0, 100);
        // GNU has other things where the prefix is.
        if field(257, 6) == b"ustar\0" && field(345, 1) != b"\0" {
            path = [&text(345, 155)[..], b"/", &path].concat();
        }
        let path = pax.path.or(long_path).unwrap_or(path);
        let target = pax.target.or(long_target).unwrap_or_else(|| text(157, 100));
        let kind = match letter {
            b'0' | 0 | b'7' if path.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Link,
            b'5' => Kind::Directory,
            b'3' | b'4' | b'6' => return Err(format!("has a device or a pipe: {}", shown(&path))),
            b'S' => return Err(format!("has a file with holes: {}", shown(&path))),
            other => return Err(format!("has an entry of an unknown kind {:?}: {}", char::from(other), shown(&path))),
        };
        let size = pax.size.unwrap_or(stated);
        if kind != Kind::File && size != 0 {
            return Err(format!("has bytes for what is no file: {}", shown(&path)));
        }
        let head = Head {
            kind,
            path,
            target,
            mode: number(field(100, 8)).ok_or("has permissions that are no number")? as u32 & 0o7777,
            user: 0,
            group: 0,
            size,
            modified: pax.modified.unwrap_or_else(|| {
                number(field(136, 12)).and_then(|seconds| i64::try_from(seconds).ok()).unwrap_or_default()
            }),
        };
        let padding = (BLOCK - (size % BLOCK as u64) as usize) % BLOCK;
        self.state = State::Body(size, padding);
        Ok(Some(head))
    }
}

/// A name for people.
pub fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    let short: String = text.chars().take(80).collect();
    format!("{short:?}")
}

fn check_sum(block: &[u8]) -> Result<(), String> {
    let stated = block.get(148..156).and_then(number);
    let counted = |at: usize, byte: u8| if (148..156).contains(&at) { b' ' } else { byte };
    let bytes = || block.iter().enumerate().map(|(at, byte)| counted(at, *byte));
    let unsigned: u64 = bytes().map(u64::from).sum();
    // Some writers took bytes for signed.
    let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
    let fits = stated.is_some_and(|stated| stated == unsigned || i64::try_from(stated) == Ok(signed));
    if fits { Ok(()) } else { Err("has a header that is broken, or is none".into()) }
}

/// A number in octal digits, or GNU's form for large ones.
fn number(field: &[u8]) -> Option<u64> {
    if let Some((0x80, rest)) = field.split_first() {
        let (high, low) = rest.split_at_checked(rest.len().checked_sub(8)?)?;
        let value = u64::from_be_bytes(low.try_into().ok()?);
        return Some(value).filter(|value| high.iter().all(|byte| *byte == 0) && *value <= i64::MAX as u64);
    }
    let end = field.iter().rposition(|byte| !matches!(byte, 0 | b' ')).map_or(0, |at| at + 1);
    let digits = field.get(..end)?;
    let begin = digits.iter().position(|byte| *byte != b' ').unwrap_or(end);
    let digits = std::str::from_utf8(digits.get(begin..)?).ok()?;
    if digits.is_empty() {
        return Some(0);
    }
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    u64::from_str_radix(digits, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head() -> impl Strategy<Value = (Head, Vec<u8>)> {
        let kind = prop_oneof![Just(Kind::File), Just(Kind::Directory), Just(Kind::Link), Just(Kind::HardLink)];
        let body = proptest::collection::vec(any::<u8>(), 0..1500);
        (kind, "[a-zä/]{1,300}z", "[a-z/.]{1,300}", 0u32..0o7777, -5i64..1 << 40, body).prop_map(
            |(kind, path, target, mode, modified, mut body)| {
                if kind != Kind::File {
                    body.clear();
                }
                let target = if matches!(kind, Kind::Link | Kind::HardLink) { target.into() } else { Vec::new() };
                let size = body.len() as u64;
                (Head { kind, path: path.into(), target, mode, user: 0, group: 0, size, modified }, body)
            },
        )
    }

    type Entries = Vec<(Head, Vec<u8>)>;

    /// The entries, and whether that was all.
    fn parse(bytes: &[u8], pieces: &[usize]) -> Result<(Entries, bool), String> {
        let (mut parser, mut found, mut open) = (Parser::default(), Vec::new(), None);
        let (mut rest, mut sizes) = (Bytes::copy_from_slice(bytes), pieces.iter().cycle());
        while !rest.is_empty() {
            let mut input = rest.split_to((*sizes.next().unwrap()).min(rest.len()));
            while let Some(piece) = parser.next(&mut input)? {
                match piece {
                    Piece::Head(head) => open = Some((head, Vec::new())),
                    Piece::Data(bytes) => open.as_mut().unwrap().1.extend_from_slice(&bytes),
                    Piece::End => found.extend(open.take()),
                }
            }
        }
        assert!(open.is_none() || !parser.is_whole());
        Ok((found, parser.is_whole()))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_however_it_arrives(
            entries in proptest::collection::vec(head(), 0..8),
            pieces in proptest::collection::vec(1usize..2000, 1..20),
        ) {
            let mut bytes = Vec::new();
            for (head, body) in &entries {
                bytes.extend(head.encode());
                bytes.extend(body);
                bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
            }
            bytes.resize(bytes.len() + 2 * BLOCK, 0);
            prop_assert_eq!(parse(&bytes, &pieces).unwrap(), (entries, true));
            // Any part of it is not whole.
            let part = bytes.len() / 2;
            prop_assert!(part == BLOCK || !parse(&bytes[..part], &pieces).unwrap().1);
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..3000),
            letter in any::<u8>(),
            pieces in proptest::collection::vec(1usize..700, 1..20),
        ) {
            let _ = parse(&bytes, &pieces);
            // And with a header that is one.
            let head = Head { kind: Kind::File, path: b"x".to_vec(), target: Vec::new(), mode: 0, user: 0, group: 0,
                size: bytes.len() as u64, modified: 0 };
            let mut block = head.encode();
            let sum = |block: &[u8]| block.iter().map(|byte| u64::from(*byte)).sum::<u64>();
            block[156] = letter;
            block[148..156].copy_from_slice(b"        ");
            let text = format!("{:06o}\0 ", sum(&block));
            block[148..156].copy_from_slice(text.as_bytes());
            block.append(&mut bytes);
            let _ = parse(&block, &pieces);
        }
    }

    #[test]
    fn sizes_and_times_that_do_not_fit_are_in_records() {
        for (size, modified) in [((1 << 33) - 1, 0), (1 << 33, (1 << 33) - 1), (1 << 62, 1 << 33), (0, -1)] {
            let (kind, path, target) = (Kind::File, b"large".to_vec(), Vec::new());
            let head = Head { kind, path, target, mode: 0o600, user: 0, group: 0, size, modified };
            let mut bytes = Head { user: 1 << 40, group: 1 << 21, ..head.clone() }.encode().into();
            assert_eq!(Parser::default().next(&mut bytes), Ok(Some(Piece::Head(head))));
        }
    }

    #[test]
    fn numbers_are_octal_or_large() {
        for (field, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"-1\0\0\0\0\0\0", None),
            (b"+1\0\0\0\0\0\0", None),
            (b"9\0\0\0\0\0\0\0", None),
            (b"6 4\0\0\0\0\0", None),
            (b"\x80\0\0\0\0\0\0\x02\0\0\0\0", Some(0x2_0000_0000)),
            (b"\x80\0\0\x01\0\0\0\0\0\0\0\0", None),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ] {
            assert_eq!(number(field), expected, "{field:?}");
        }
    }
}
