//! Archives on their way out: packed as they are read.

use super::{Place, absolute};
use crate::container::link::{Conversation, Said};
use crate::container::manager::{Containers, Viewer};
use crate::domain::file::{FileFault, FileInfo};
use crate::error::{Error, Result};
use bytes::Bytes;
use casemate_guest::protocol::{Answer, Failure, Limits, OMITTED, Request};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use std::io::Write;

/// Paths of one download at most, and bytes of these: they go to the supervisor in one message.
const PATHS: (usize, usize) = (1000, 512 << 10);
/// Bytes of paths that are told as left out, at most.
const TOLD: usize = 1 << 20;
/// Bytes that are compressed at once: other calls wait that long.
const SLICE: usize = 32 << 10;

/// What somebody wants to have packed.
#[derive(Clone, Debug)]
pub struct ArchiveDownload {
    /// With all below them; the workspace if none.
    pub paths: Vec<String>,
    /// What names are relative to; empty for the directory of the only path, or the workspace.
    pub base: String,
    /// Whether it is compressed.
    pub gzip: bool,
    /// Bytes of content at most, if somebody cares.
    pub bytes: Option<u64>,
}

/// An archive that is being packed. Dropped, it is not packed on.
pub struct ArchiveReader {
    place: Place,
    conversation: Conversation,
    encoder: Option<Box<GzEncoder<Vec<u8>>>>,
    hash: Sha256,
    /// What is still to be compressed.
    pending: Bytes,
    /// What the supervisor said at the end.
    packed: Option<Packed>,
    /// All was told.
    over: bool,
    /// The bound, and where it is from.
    bytes: (u64, &'static str),
    entries: u64,
}

/// A part of an archive on its way out.
#[derive(Clone, Debug)]
pub enum ArchivePart {
    /// Its next bytes.
    Bytes(Bytes),
    /// What it was, at its end.
    Packed(Packed),
}

/// What was packed.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    /// Entries in the archive.
    pub entries: u64,
    /// Bytes of the files in it.
    pub bytes: u64,
    /// Absolute paths of what was left out.
    pub omitted: Vec<Vec<u8>>,
    /// SHA-256 of the archive.
    pub digest: [u8; 32],
}

impl Containers {
    /// Begins to pack: what is packed, if it is one path, and the archive.
    pub async fn download_archive(
        &self,
        container: &str,
        viewer: &Viewer,
        download: ArchiveDownload,
    ) -> Result<(Option<FileInfo>, ArchiveReader)> {
        let mut place = self.place(container, viewer, "base_path", &download.base).await?;
        let wanted = wanted(&place, &download)?;
        let mut only = None;
        for path in &wanted.paths {
            let one = place.at(path.clone());
            only = Some(one.stat(false).await?).filter(|_| wanted.paths.len() == 1);
        }
        let own = self.config.archive_bytes;
        let bytes = match download.bytes.filter(|bytes| *bytes < own) {
            Some(bytes) => (bytes, "max_bytes"),
            None => (own, "containers.archive_bytes"),
        };
        let entries = self.config.archive_entries;
        let beneath = |path: &Vec<u8>| [b"/", path.get(wanted.base.len()..).unwrap_or_default()].concat();
        let paths = wanted.distinct().map(beneath).collect();
        place.path = wanted.base.clone();
        let request = Request::Pack { root: wanted.base, paths, limits: Limits { entries, bytes: bytes.0 } };
        let conversation = place.ask(request).await?;
        conversation.widen();
        let encoder = download.gzip.then(|| Box::new(GzEncoder::new(Vec::new(), Compression::default())));
        let reader = ArchiveReader {
            place,
            conversation,
            encoder,
            hash: Sha256::new(),
            pending: Bytes::new(),
            packed: None,
            over: false,
            bytes,
            entries,
        };
        Ok((only, reader))
    }
}

/// Paths to pack, absolute, and what their names are relative to.
struct Wanted {
    base: Vec<u8>,
    paths: Vec<Vec<u8>>,
}

impl Wanted {
    /// Those that are in no other one: nothing is to be in an archive twice.
    fn distinct(&self) -> impl Iterator<Item = &Vec<u8>> {
        let all = self.paths.iter().enumerate();
        let distinct = all.clone().filter(move |(at, path)| {
            // Of equal ones the first.
            all.clone().all(|(other, above)| other == *at || !is_in(path, above) || (*path == above && other > *at))
        });
        distinct.map(|(_, path)| path)
    }
}

fn wanted(place: &Place, download: &ArchiveDownload) -> Result<Wanted> {
    let bytes: usize = download.paths.iter().map(String::len).sum();
    if download.paths.len() > PATHS.0 || bytes > PATHS.1 {
        let text = format!("are {} of {bytes} bytes; at most {} of {} bytes", download.paths.len(), PATHS.0, PATHS.1);
        return Err(Error::invalid("paths", text));
    }
    let workspace = plain(place, "paths", "")?;
    let named = download.paths.iter().enumerate().map(|(at, path)| plain(place, &format!("paths[{at}]"), path));
    let mut paths = named.collect::<Result<Vec<_>>>()?;
    let base = match (&*download.base, &*paths) {
        ("", [only]) => above(only),
        ("", _) => workspace.clone(),
        (base, _) => plain(place, "base_path", base)?,
    };
    if paths.is_empty() {
        paths.push(workspace);
    }
    if let Some(at) = paths.iter().position(|path| !is_in(path, &base)) {
        let (path, base) = (String::from_utf8_lossy(&paths[at]), String::from_utf8_lossy(&base));
        return Err(Error::invalid(
            format!("paths[{at}]"),
            format!("is {path:?}, which is not in {base:?} (base_path)"),
        ));
    }
    Ok(Wanted { base, paths })
}

/// The absolute form of a path without what means nothing in it.
fn plain(place: &Place, field: &str, path: &str) -> Result<Vec<u8>> {
    let path = absolute(&place.entry, field, path)?;
    let parts: Vec<_> = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    if parts.contains(&&b".."[..]) {
        return Err(Error::invalid(field, "has `..` in it, which is no name in an archive"));
    }
    Ok([b"/", &*parts.join(&b'/')].concat())
}

fn above(path: &[u8]) -> Vec<u8> {
    let end = path.iter().rposition(|byte| *byte == b'/').unwrap_or_default();
    path.get(..end.max(1)).unwrap_or_default().to_vec()
}

/// Whether a path is another, or below it.
fn is_in(path: &[u8], other: &[u8]) -> bool {
    match path.strip_prefix(other) {
        Some(rest) => other == b"/" || rest.is_empty() || rest.starts_with(b"/"),
        None => false,
    }
}

impl ArchiveReader {
    /// The next part; none behind the last, which tells what was packed.
    pub async fn next(&mut self) -> Result<Option<ArchivePart>> {
        while !self.over {
            if let Some(bytes) = self.pass()? {
                self.hash.update(&bytes);
                return Ok(Some(ArchivePart::Bytes(bytes)));
            }
            if !self.pending.is_empty() {
                tokio::task::yield_now().await;
                continue;
            }
            if let Some(mut packed) = self.packed.take() {
                packed.digest = std::mem::take(&mut self.hash).finalize().into();
                self.over = true;
                return Ok(Some(ArchivePart::Packed(packed)));
            }
            match self.conversation.next().await {
                Some(Said::Data(data)) => self.pending = data,
                Some(Said::Done(Ok(Answer::Packed { entries, bytes, omitted }))) => {
                    self.place.entry.active();
                    let omitted = told(&self.place.path, &omitted);
                    self.packed = Some(Packed { entries, bytes, omitted, digest: [0; 32] });
                }
                Some(Said::Done(Ok(other))) => {
                    return Err(Error::Internal(format!("a supervisor packed an archive with {other:?}")));
                }
                Some(Said::Done(Err(failure))) => return Err(self.fault(failure)),
                Some(_) => {}
                None => return Err(self.place.gone()),
            }
        }
        Ok(None)
    }

    /// What the pending bytes are in the archive, as far as that is worth a message.
    fn pass(&mut self) -> Result<Option<Bytes>> {
        let Some(encoder) = &mut self.encoder else {
            return Ok(Some(std::mem::take(&mut self.pending)).filter(|bytes| !bytes.is_empty()));
        };
        let slice = self.pending.split_to(self.pending.len().min(SLICE));
        let failed = |error| Error::Internal(format!("an archive could not be compressed: {error}"));
        encoder.write_all(&slice).map_err(failed)?;
        let last = self.packed.is_some() && self.pending.is_empty();
        if encoder.get_ref().len() < SLICE && !last {
            return Ok(None);
        }
        if last {
            encoder.try_finish().map_err(failed)?;
        }
        let bytes = Bytes::from(std::mem::take(encoder.get_mut()));
        if last {
            self.encoder = None;
        }
        Ok(Some(bytes))
    }

    fn fault(&self, failure: Failure) -> Error {
        let text = match failure {
            Failure::MoreBytes => format!("more than {} bytes of content ({})", self.bytes.0, self.bytes.1),
            Failure::MoreEntries => format!("more than {} entries (containers.archive_entries)", self.entries),
            failure => return self.place.fault(failure),
        };
        self.place.faulty(FileFault::TooMuch(text))
    }
}

/// The absolute paths of what was left out, as many as a message has room for.
fn told(base: &[u8], omitted: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut room = TOLD;
    let paths = omitted.iter().take(OMITTED).map(|name| below(base, name));
    let fits = paths.take_while(|path| {
        let fits = path.len() <= room;
        room = room.saturating_sub(path.len());
        fits
    });
    fits.collect()
}

/// The absolute path of a name in an archive.
fn below(base: &[u8], name: &[u8]) -> Vec<u8> {
    match (base, name) {
        (base, b"") => base.to_vec(),
        (b"/", name) => [b"/", name].concat(),
        (base, name) => [base, b"/", name].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_in_those_above_it_alone() {
        for (path, other, expected) in [
            ("/a/b", "/a", true),
            ("/a", "/a", true),
            ("/ab", "/a", false),
            ("/a", "/", true),
            ("/", "/", true),
            ("/", "/a", false),
        ] {
            assert_eq!(is_in(path.as_bytes(), other.as_bytes()), expected, "{path} {other}");
        }
        for (path, expected) in [("/a/b", "/a"), ("/a", "/"), ("/", "/")] {
            assert_eq!(above(path.as_bytes()), expected.as_bytes());
        }
    }

    #[test]
    fn what_was_left_out_is_told_as_far_as_there_is_room() {
        assert_eq!(told(b"/a", &[b"b".to_vec(), Vec::new()]), [b"/a/b".to_vec(), b"/a".to_vec()]);
        assert_eq!(told(b"/", &[b"b".to_vec()]), [b"/b".to_vec()]);
        let long = vec![b'a'; 4000];
        assert_eq!(told(&long, &vec![b"b".to_vec(); 1000]).len(), TOLD / 4002);
        assert_eq!(told(b"/", &vec![b"b".to_vec(); 2000]).len(), OMITTED);
    }

    #[test]
    fn nothing_is_packed_twice() {
        let paths = ["/a/b", "/a", "/c", "/c", "/ab"].map(|path| path.as_bytes().to_vec()).to_vec();
        let wanted = Wanted { base: b"/".to_vec(), paths };
        let distinct: Vec<_> = wanted.distinct().map(|path| String::from_utf8_lossy(path)).collect();
        assert_eq!(distinct, ["/a", "/c", "/ab"]);
    }
}
