//! Unpacking zip archives. What is in one is said at its end, so it is on the disk first.

use std::os::fd::OwnedFd;

use bytes::Bytes;
use casemate_guest::protocol::{Failure, Limits, PATH_LIMIT};
use flate2::{Crc, Decompress, FlushDecompress, Status};
use tokio::task::yield_now;

use super::SLICE;
use super::read::read_at;
use super::stage::{Open, Stage};
use super::tar::Kind;
use super::unpack::{Input, check_ratio, count};
use super::untar::shown;
use super::write::write_all;
use super::zip::{self, Directory, ENTRY, Entry, LOCAL};

/// Bytes that an archive may be larger than what it brings.
const MORE: u64 = 64 << 20;

/// Unpacks into a stage.
///
/// # Errors
/// It is not to be trusted, or not whole.
pub async fn fill(input: &mut Input<'_>, stage: &mut Stage, limits: Limits) -> Result<(), Failure> {
    // It has no name, so nothing is left of it however this ends.
    let file = stage.nameless()?;
    let mut size = 0;
    while let Some(bytes) = input.receive().await {
        write_all(&file, &bytes, size)?;
        size += bytes.len() as u64;
        if size > limits.bytes.saturating_add(MORE) {
            return Err(Failure::Archive(format!("has more than {} bytes", limits.bytes)));
        }
        yield_now().await;
    }
    let archive = Archive { file, size };
    let directory = archive.directory().await?;
    let (mut bytes, mut entries) = (0, 0);
    let (mut at, mut behind) = (directory.offset, 0);
    while at < directory.end {
        let entry = Entry::read(&archive.read(at)?).map_err(Failure::Archive)?;
        if entry.name > PATH_LIMIT {
            return Err(Failure::Archive(format!("has a name of {} bytes, which is too long", entry.name)));
        }
        let name = archive.read_some(at + ENTRY as u64, entry.name)?;
        at += (ENTRY + entry.name + entry.rest) as u64;
        count(&mut entries, &mut bytes, entry.size, limits)?;
        // In order, and none in another: or a few bytes could be a file again and again.
        let own = archive.read::<LOCAL>(entry.offset)?;
        let start = entry.offset + LOCAL as u64 + zip::local(&own, &entry).map_err(Failure::Archive)? as u64;
        let whole = entry.offset >= behind && start + entry.packed <= directory.offset;
        if !whole || archive.read_some(entry.offset + LOCAL as u64, entry.name)? != name {
            let text = "says two things about an entry, or has one within another";
            return Err(Failure::Archive(format!("{text}: {}", shown(&name))));
        }
        behind = start + entry.packed;
        archive.unpack(stage, &entry, name.to_vec(), start, bytes).await?;
    }
    if at != directory.end || entries != directory.entries {
        return Err(Failure::Archive("has a broken directory".into()));
    }
    Ok(())
}

struct Archive {
    file: OwnedFd,
    size: u64,
}

impl Archive {
    async fn directory(&self) -> Result<Directory, Failure> {
        let length = self.size.min(zip::TAIL);
        let mut tail = Vec::new();
        while (tail.len() as u64) < length {
            let (at, left) = (self.size - length + tail.len() as u64, (length - tail.len() as u64) as usize);
            tail.extend_from_slice(&self.read_some(at, left.min(SLICE))?);
            yield_now().await;
        }
        zip::directory(&tail, self.size).map_err(Failure::Archive)
    }

    /// Exactly so many bytes.
    fn read_some(&self, at: u64, length: usize) -> Result<Bytes, Failure> {
        let bytes = read_at(&self.file, at, length)?;
        if bytes.len() == length { Ok(bytes) } else { Err(Failure::Archive("ends too early".into())) }
    }

    fn read<const LENGTH: usize>(&self, at: u64) -> Result<[u8; LENGTH], Failure> {
        let bytes = self.read_some(at, LENGTH)?;
        bytes.first_chunk().copied().ok_or_else(|| Failure::Archive("ends too early".into()))
    }

    async fn unpack(
        &self,
        stage: &mut Stage,
        entry: &Entry,
        path: Vec<u8>,
        start: u64,
        all: u64,
    ) -> Result<(), Failure> {
        check_ratio(self.size, all)?;
        let mut head = entry.head(path).map_err(Failure::Archive)?;
        if head.kind == Kind::Link {
            if head.size > PATH_LIMIT as u64 {
                return Err(Failure::Archive("has a link that is too long".into()));
            }
            let mut target = Vec::new();
            self.inflate(entry, start, |bytes| {
                target.extend_from_slice(bytes);
                Ok(())
            })
            .await?;
            (head.target, head.size) = (target, 0);
            return stage.add(&head).map(drop);
        }
        let mut open: Option<Open> = stage.add(&head)?;
        self.inflate(entry, start, |bytes| open.as_mut().map_or(Ok(()), |open| open.write(bytes))).await?;
        open.map_or(Ok(()), Open::close)
    }

    /// Calls for all bytes of a file, and checks that they are those.
    async fn inflate(
        &self,
        entry: &Entry,
        start: u64,
        mut call: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (mut decoder, mut buffer) = (Decompress::new(false), vec![0; SLICE]);
        let (mut sum, mut at, end) = (Crc::new(), start, start + entry.packed);
        let (mut made, mut over) = (0, !entry.deflated);
        let mut take = |bytes: &[u8]| {
            made += bytes.len() as u64;
            if made > entry.size {
                return Err(Failure::Archive("has more bytes in an entry than it says".into()));
            }
            sum.update(bytes);
            call(bytes)
        };
        while at < end {
            let input = self.read_some(at, usize::try_from(end - at).unwrap_or(SLICE).min(SLICE))?;
            at += input.len() as u64;
            if !entry.deflated {
                take(&input)?;
            }
            let mut input = if entry.deflated { &input[..] } else { &[] };
            loop {
                if over {
                    if !input.is_empty() {
                        return Err(Failure::Archive("has bytes behind an entry".into()));
                    }
                    break;
                }
                let before = (decoder.total_in(), decoder.total_out());
                let status = decoder.decompress(input, &mut buffer, FlushDecompress::None);
                let status =
                    status.map_err(|_| Failure::Archive("is compressed in a way that cannot be read".into()))?;
                let taken = (decoder.total_in() - before.0) as usize;
                let length = (decoder.total_out() - before.1) as usize;
                input = input.get(taken..).unwrap_or_default();
                take(buffer.get(..length).unwrap_or_default())?;
                over = status == Status::StreamEnd;
                if !over && taken == 0 && length == 0 {
                    // It wants more than is here.
                    break;
                }
                yield_now().await;
            }
            yield_now().await;
        }
        if over && made == entry.size && sum.sum() == entry.sum {
            Ok(())
        } else {
            Err(Failure::Archive("has a file that is not as it says".into()))
        }
    }
}
