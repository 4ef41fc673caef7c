//! Unpacking archives that may be hostile: all or nothing.

use std::io::Write;

use bytes::{Bytes, BytesMut};
use casemate_guest::protocol::{Answer, Conflict, Failure, Format, Limits};
use flate2::write::MultiGzDecoder;
use tokio::task::yield_now;

use super::SLICE;
use super::path::Root;
use super::reveal;
use super::stage::{Made, Open, Stage};
use super::untar::{Parser, Piece};
use super::unzip;
use crate::supervisor::channel::Channel;

/// Entries of an archive at most, whatever the server allows.
const ENTRIES: u64 = 1 << 20;
/// How many times as large as it came an archive may become, once it is larger than the second.
const RATIO: (u64, u64) = (250, 64 << 20);
/// Bytes by which forms are told apart.
const MAGIC: usize = 4;
/// Entries between pauses.
const PAUSE: u64 = 32;

/// How an archive is to be unpacked.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Whether the folder is made, and missing ones above it.
    pub parents: bool,
    /// What the bytes are, if that is known.
    pub format: Option<Format>,
    /// What becomes of files that are there.
    pub conflict: Conflict,
    /// Leading parts that are taken off each name.
    pub strip: u32,
    /// What it may bring.
    pub limits: Limits,
}

/// Unpacks an archive.
///
/// # Errors
/// It is not to be trusted, too large or not whole, or something is in its way. Nothing of it is left then, unless the
/// failure says so.
pub async fn unpack(channel: &Channel, root: &[u8], path: &[u8], wish: Wish) -> Result<Answer, Failure> {
    let mut stage = Stage::new(&Root::open(root)?, path, wish.parents, wish.strip).await?;
    let filled = {
        let work = async {
            Box::pin(fill(channel, &mut stage, wish)).await?;
            stage.check().await?;
            Box::pin(reveal::look(&stage, wish.conflict)).await
        };
        tokio::select! {
            biased;
            failure = channel.given_up() => Err(failure),
            filled = work => filled,
        }
    };
    // From here on it is not given up: half of it is worse than all.
    let result = match filled {
        Ok(()) => Box::pin(reveal::reveal(&mut stage, wish.conflict)).await,
        Err(failure) => Err(failure),
    };
    let Made { files, directories, links, bytes, skipped } = stage.made;
    stage.discard().await;
    result.map(|()| Answer::Unpacked { files, directories, links, bytes, skipped })
}

/// The bytes of an archive, of which the first may have been looked at.
pub struct Input<'a> {
    channel: &'a Channel,
    first: Option<Bytes>,
}

impl Input<'_> {
    /// The next bytes; none at the end.
    pub async fn receive(&mut self) -> Option<Bytes> {
        match self.first.take() {
            Some(first) => Some(first),
            None => self.channel.receive().await,
        }
    }

    /// What they are, by the first of them.
    async fn format(&mut self) -> Format {
        let mut first = BytesMut::new();
        while first.len() < MAGIC {
            let Some(bytes) = self.channel.receive().await else { break };
            first.extend_from_slice(&bytes);
        }
        let format = match &first[..] {
            [0x1f, 0x8b, ..] => Format::TarGz,
            // An entry, or the end of one without any: a tar may begin with a name in capitals.
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Format::Zip,
            _ => Format::Tar,
        };
        self.first = Some(first.freeze()).filter(|first| !first.is_empty());
        format
    }
}

async fn fill(channel: &Channel, stage: &mut Stage, wish: Wish) -> Result<(), Failure> {
    let limits = Limits { entries: wish.limits.entries.min(ENTRIES), ..wish.limits };
    let mut input = Input { channel, first: None };
    let format = match wish.format {
        Some(format) => format,
        None => input.format().await,
    };
    let mut decoder = match format {
        Format::Zip => return Box::pin(unzip::fill(&mut input, stage, limits)).await,
        Format::Tar => None,
        // What it made is taken out of it at once.
        Format::TarGz => Some(Box::new(MultiGzDecoder::new(Vec::new()))),
    };
    let mut unpacking =
        Unpacking { stage, limits, parser: Parser::default(), open: None, entries: 0, bytes: 0, came: 0, became: 0 };
    while let Some(bytes) = input.receive().await {
        unpacking.came += bytes.len() as u64;
        let Some(decoder) = &mut decoder else {
            unpacking.take(bytes).await?;
            continue;
        };
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            // Takes no more than what becomes 32 KiB.
            let taken = decoder.write(rest).map_err(broken)?;
            rest = rest.get(taken..).unwrap_or_default();
            if taken == 0 && decoder.get_ref().is_empty() {
                return Err(Failure::Archive("goes on behind its end".into()));
            }
            if decoder.get_ref().len() >= SLICE || rest.is_empty() {
                unpacking.take(std::mem::take(decoder.get_mut()).into()).await?;
            }
        }
    }
    if let Some(mut decoder) = decoder {
        decoder.try_finish().map_err(broken)?;
        unpacking.take(std::mem::take(decoder.get_mut()).into()).await?;
    }
    if !unpacking.parser.is_whole() {
        return Err(Failure::Archive("ends too early".into()));
    }
    Ok(())
}

fn broken(error: std::io::Error) -> Failure {
    Failure::Archive(format!("is compressed in a way that cannot be read: {error}"))
}

/// Counts one more entry, by what is announced: no need to take its bytes first.
///
/// # Errors
/// There are more than may be.
pub fn count(entries: &mut u64, bytes: &mut u64, size: u64, limits: Limits) -> Result<(), Failure> {
    (*entries, *bytes) = (*entries + 1, bytes.saturating_add(size));
    if *entries > limits.entries {
        return Err(Failure::Archive(format!("has more than {} entries", limits.entries)));
    }
    if *bytes > limits.bytes {
        return Err(Failure::Archive(format!("has more than {} bytes", limits.bytes)));
    }
    Ok(())
}

/// Refuses what becomes far larger than it came.
///
/// # Errors
/// It does.
pub fn check_ratio(came: u64, became: u64) -> Result<(), Failure> {
    if became > RATIO.1 && became / RATIO.0 > came {
        return Err(Failure::Archive(format!("becomes more than {} times as large", RATIO.0)));
    }
    Ok(())
}

struct Unpacking<'a> {
    stage: &'a mut Stage,
    limits: Limits,
    parser: Parser,
    open: Option<Open>,
    entries: u64,
    bytes: u64,
    /// Bytes as they came, and as they became.
    came: u64,
    became: u64,
}

impl Unpacking<'_> {
    /// Takes bytes of the archive.
    async fn take(&mut self, mut bytes: Bytes) -> Result<(), Failure> {
        self.became += bytes.len() as u64;
        check_ratio(self.came, self.became)?;
        while let Some(piece) = self.parser.next(&mut bytes).map_err(Failure::Archive)? {
            match piece {
                Piece::Head(head) => {
                    count(&mut self.entries, &mut self.bytes, head.size, self.limits)?;
                    self.open = self.stage.add(&head)?;
                }
                Piece::Data(bytes) => {
                    if let Some(open) = &mut self.open {
                        open.write(&bytes)?;
                    }
                }
                Piece::End => {
                    if let Some(open) = self.open.take() {
                        open.close()?;
                    }
                    if self.entries.is_multiple_of(PAUSE) {
                        yield_now().await;
                    }
                }
            }
        }
        yield_now().await;
        Ok(())
    }
}
