//! What a journal kept, put together for an answer.

use super::Journal;
use crate::domain::event::{Event, EventKind, OutputStream};
use crate::domain::output::{FileChunk, RichOutput};
use bytes::{Bytes, BytesMut};
use std::sync::Arc;

impl Journal {
    /// All of one stream that is kept, and whether a part of it is missing.
    pub fn collect(&self, stream: OutputStream) -> (Bytes, bool) {
        self.collect_from(stream, 0)
    }

    /// As [`Journal::collect`], from an offset on.
    pub fn collect_from(&self, stream: OutputStream, from: u64) -> (Bytes, bool) {
        let mut inner = self.inner.lock();
        inner.seal();
        let pieces: Vec<Bytes> = inner
            .head
            .iter()
            .chain(&inner.tail)
            .filter_map(|event| match &event.kind {
                EventKind::Output { stream: of, offset, data } if *of == stream => {
                    let before = usize::try_from(from.saturating_sub(*offset)).unwrap_or(usize::MAX);
                    (before < data.len()).then(|| data.slice(before..))
                }
                _ => None,
            })
            .collect();
        let bytes = match pieces.as_slice() {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => {
                let mut joined = BytesMut::with_capacity(many.iter().map(Bytes::len).sum());
                many.iter().for_each(|piece| joined.extend_from_slice(piece));
                joined.freeze()
            }
        };
        let missing = (bytes.len() as u64) < inner.written[stream as usize].saturating_sub(from);
        (bytes, missing)
    }

    /// The rich outputs that are kept, in order.
    pub fn rich_outputs(&self) -> Vec<Arc<RichOutput>> {
        self.pick(|kind| match kind {
            EventKind::RichOutput(output) => Some(output.clone()),
            _ => None,
        })
    }

    /// The pieces of files that are kept, in order.
    pub fn file_chunks(&self) -> Vec<Arc<FileChunk>> {
        self.pick(|kind| match kind {
            EventKind::FileChunk(chunk) => Some(chunk.clone()),
            _ => None,
        })
    }

    fn pick<T>(&self, pick: impl Fn(&EventKind) -> Option<T>) -> Vec<T> {
        let inner = self.inner.lock();
        let kept = inner.head.iter().chain(&inner.tail).chain(&inner.files);
        kept.filter_map(|Event { kind, .. }| pick(kind)).collect()
    }
}
