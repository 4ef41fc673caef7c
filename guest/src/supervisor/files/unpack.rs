//! Unpacking archives that may be hostile: all or nothing.

use std::io::Write;

use bytes::Bytes;
use casemate_guest::protocol::{Answer, Failure, Format, Limits};
use flate2::write::MultiGzDecoder;
use tokio::task::yield_now;

use super::SLICE;
use super::path::Root;
use super::stage::{Open, Stage};
use super::untar::{Parser, Piece};
use super::unzip;
use crate::supervisor::channel::Channel;

/// Entries of an archive at most, whatever the server allows.
const ENTRIES: u64 = 1 << 20;
/// How many times as large as it came an archive may become, once it is larger than the second.
const RATIO: (u64, u64) = (250, 64 << 20);
/// Entries between pauses.
const PAUSE: u64 = 32;

/// Unpacks an archive.
///
/// # Errors
/// It is not to be trusted, too large or not whole, or something of it is there already. Nothing of it is left then.
pub async fn unpack(
    channel: &Channel,
    root: &[u8],
    path: &[u8],
    format: Format,
    limits: Limits,
) -> Result<Answer, Failure> {
    let mut stage = Stage::new(&Root::open(root)?, path)?;
    let filled = {
        let limits = Limits { entries: limits.entries.min(ENTRIES), ..limits };
        let work = async {
            let answer = Box::pin(fill(channel, &mut stage, format, limits)).await?;
            stage.check().await?;
            Ok(answer)
        };
        tokio::select! {
            biased;
            failure = channel.given_up() => Err(failure),
            filled = work => filled,
        }
    };
    let failure = match filled {
        Ok(answer) => match stage.reveal().await {
            Ok(()) => return Ok(answer),
            Err((left, failure)) => {
                stage = left;
                failure
            }
        },
        Err(failure) => failure,
    };
    stage.discard().await;
    Err(failure)
}

async fn fill(channel: &Channel, stage: &mut Stage, format: Format, limits: Limits) -> Result<Answer, Failure> {
    let mut unpacking =
        Unpacking { stage, limits, parser: Parser::default(), open: None, entries: 0, bytes: 0, came: 0, became: 0 };
    let mut decoder = match format {
        Format::Zip => {
            let (entries, bytes) = Box::pin(unzip::fill(channel, unpacking.stage, limits)).await?;
            return Ok(Answer::Unpacked { entries, bytes });
        }
        Format::Tar => None,
        // What it made is taken out of it at once.
        Format::TarGz => Some(Box::new(MultiGzDecoder::new(Vec::new()))),
    };
    while let Some(bytes) = channel.receive().await {
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
    Ok(Answer::Unpacked { entries: unpacking.entries, bytes: unpacking.bytes })
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
