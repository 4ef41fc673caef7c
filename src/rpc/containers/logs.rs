//! The output of a container's main process.

use super::{Containers, Messages, stream};
use crate::container::Viewer;
use crate::domain::event::{Event, EventKind, OutputStream};
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::execution::Live;
use crate::proto::v1;
use crate::rpc::convert::{container as to, moment, timestamp};
use crate::rpc::silence;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::{Response, Status};
use v1::stream_logs_response::Entry;

type Sender = mpsc::Sender<std::result::Result<v1::StreamLogsResponse, Status>>;

/// What of the log is wanted.
struct Wanted {
    follow: bool,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    streams: [bool; 2],
    silence: Duration,
}

/// The reader is gone, or has all it wanted.
struct Over;

impl Containers {
    pub(super) async fn serve_stream_logs(
        &self,
        viewer: Viewer,
        request: v1::StreamLogsRequest,
    ) -> Result<Response<Messages<v1::StreamLogsResponse>>> {
        let mut streams = [request.streams.is_empty(); 2];
        for number in &request.streams {
            match v1::LogStream::try_from(*number) {
                Ok(v1::LogStream::Stdout) => streams[0] = true,
                Ok(v1::LogStream::Stderr) => streams[1] = true,
                _ => return Err(Error::invalid("streams", format!("{number} is not a stream of this contract"))),
            }
        }
        if request.tail_lines.is_some() && request.from_sequence > 0 {
            return Err(Error::invalid("from_sequence", "does not go together with tail_lines; leave one out"));
        }
        let silence = silence("keepalive_interval", request.keepalive_interval.as_ref())?;
        let (since, until) = (request.since.as_ref().map(moment), request.until.as_ref().map(moment));
        let wanted = Wanted { follow: request.follow, since, until, streams, silence };
        let containers = self.all()?.clone();
        let container = containers.get(&request.container_id, &viewer)?;
        // One that idles, or has not begun, has no main process.
        let main = self.registry.find(container.origin.main_execution).await.ok();
        if let Some(standing) = main.as_ref().map(|main| main.journal().standing())
            && standing.ended.is_some()
            && request.from_sequence > standing.last_sequence
        {
            let (id, last) = (container.origin.main_execution, standing.last_sequence);
            return Err(Error::SequenceOutOfRange { id, from: request.from_sequence, last });
        }
        let id = container.origin.id.to_string();
        Ok(stream(move |send| async move {
            let sent = match &main {
                Some(main) => log(main, &wanted, request.tail_lines, request.from_sequence, &send).await,
                None => Ok(0),
            };
            let (Ok(last), true) = (sent, wanted.follow) else { return };
            let over = tokio::select! {
                over = containers.over(&id, &viewer) => over,
                () = send.closed() => return,
            };
            if let Some(end) = over.ok().and_then(|over| over.status.end) {
                let _ = entry(&send, last, Entry::End(to::end(&end))).await;
            }
        }))
    }
}

/// Sends what is wanted of a log; answers the last sequence when it reaches the end.
async fn log(
    main: &Arc<Live>,
    wanted: &Wanted,
    tail: Option<u64>,
    from: u64,
    send: &Sender,
) -> std::result::Result<u64, Over> {
    let mut next = from.max(1);
    if tail.is_some() || !wanted.follow {
        let mut kept = main.journal().export(next);
        next = kept.last().map_or(next, |event| event.sequence + 1);
        if let Some(lines) = tail {
            cut(&mut kept, lines, wanted.streams);
        }
        for event in kept {
            one(event, wanted, send).await?;
        }
        if !wanted.follow {
            return Err(Over);
        }
    }
    let mut reader = Reader { cursor: main.journal().reader(next), main };
    let mut events = Vec::new();
    let mut last = next - 1;
    loop {
        let left = wanted.until.map(|until| until.since(Timestamp::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(Over);
        }
        let wait = left.unwrap_or(wanted.silence).min(wanted.silence);
        let read = poll_fn(|cx| main.journal().poll_read(&mut reader.cursor, cx, &mut events));
        tokio::select! {
            read = tokio::time::timeout(wait, read) => match read {
                Ok(()) if events.is_empty() => return Ok(last),
                Ok(()) => {}
                Err(_) => {
                    entry(send, last, Entry::Keepalive(v1::KeepaliveEvent {})).await?;
                    continue;
                }
            },
            () = send.closed() => return Err(Over),
        }
        for event in events.drain(..) {
            last = event.sequence;
            let over = matches!(event.kind, EventKind::Finished { .. });
            one(event, wanted, send).await?;
            if over {
                return Ok(last);
            }
        }
    }
}

/// A reader that is not waited for once it is gone.
struct Reader<'a> {
    cursor: crate::execution::journal::Cursor,
    main: &'a Live,
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.main.journal().leave(&self.cursor);
    }
}

async fn one(event: Event, wanted: &Wanted, send: &Sender) -> std::result::Result<(), Over> {
    if wanted.until.is_some_and(|until| event.time >= until) {
        return Err(Over);
    }
    match event.kind {
        EventKind::Output { stream, offset, data } => {
            if !wanted.streams[stream as usize] || wanted.since.is_some_and(|since| event.time < since) {
                return Ok(());
            }
            let stream = match stream {
                OutputStream::Stdout => v1::LogStream::Stdout,
                OutputStream::Stderr => v1::LogStream::Stderr,
            };
            let chunk = v1::LogChunk { stream: stream.into(), time: Some(timestamp(event.time)), offset, data };
            entry(send, event.sequence, Entry::Chunk(chunk)).await
        }
        EventKind::Truncated(gap) => {
            let gap = v1::TruncatedEvent {
                first_sequence: gap.first_sequence,
                stdout_offset: gap.stdout_offset,
                stderr_offset: gap.stderr_offset,
            };
            entry(send, event.sequence, Entry::Truncated(gap)).await
        }
        _ => Ok(()),
    }
}

async fn entry(send: &Sender, sequence: u64, entry: Entry) -> std::result::Result<(), Over> {
    let message = v1::StreamLogsResponse { sequence, entry: Some(entry) };
    send.send(Ok(message)).await.map_err(|_| Over)
}

/// Leaves the last lines of what is kept, of the streams that are wanted. What follows the last line's end counts as
/// a line.
fn cut(events: &mut Vec<Event>, lines: u64, streams: [bool; 2]) {
    events.retain(|event| match &event.kind {
        EventKind::Output { stream, .. } => streams[*stream as usize],
        _ => true,
    });
    let mut left = lines;
    let mut ends = true;
    for at in (0..events.len()).rev() {
        let EventKind::Output { offset, data, .. } = &mut events[at].kind else { continue };
        if data.is_empty() {
            continue;
        }
        let mut end = data.len();
        if std::mem::take(&mut ends) {
            // The last byte ends a line, or that line has no end yet.
            if left == 0 {
                return events.clear();
            }
            end -= usize::from(data.ends_with(b"\n"));
        }
        while let Some(newline) = data[..end].iter().rposition(|byte| *byte == b'\n') {
            left -= 1;
            if left == 0 {
                *offset += newline as u64 + 1;
                *data = data.slice(newline + 1..);
                // A line that ends with its piece leaves nothing of that piece.
                let first = at + usize::from(data.is_empty());
                events.drain(..first);
                return;
            }
            end = newline;
        }
    }
    if lines == 0 {
        events.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(pieces: &[(OutputStream, &'static str)]) -> Vec<Event> {
        let mut offsets = [0u64; 2];
        let pieces = pieces.iter().zip(1..).map(|((stream, text), sequence)| {
            let offset = offsets[*stream as usize];
            offsets[*stream as usize] += text.len() as u64;
            Event {
                sequence,
                time: Timestamp(sequence),
                kind: EventKind::Output { stream: *stream, offset, data: text.as_bytes().into() },
            }
        });
        pieces.collect()
    }

    fn left(pieces: &[(OutputStream, &'static str)], lines: u64, streams: [bool; 2]) -> (String, Option<u64>) {
        let mut events = events(pieces);
        cut(&mut events, lines, streams);
        let first = events.first().and_then(|event| match &event.kind {
            EventKind::Output { offset, .. } => Some(*offset),
            _ => None,
        });
        let texts = events.iter().filter_map(|event| match &event.kind {
            EventKind::Output { data, .. } => std::str::from_utf8(data).ok(),
            _ => None,
        });
        (texts.collect(), first)
    }

    #[test]
    fn the_last_lines_are_left() {
        use OutputStream::{Stderr, Stdout};
        let both = [true, true];
        let pieces = [(Stdout, "one\ntwo\nth"), (Stdout, "ree\n"), (Stderr, "err\n"), (Stdout, "four\n")];
        assert_eq!(left(&pieces, 1, both), ("four\n".into(), Some(14)));
        assert_eq!(left(&pieces, 3, both), ("three\nerr\nfour\n".into(), Some(8)));
        assert_eq!(left(&pieces, 2, [true, false]), ("three\nfour\n".into(), Some(8)));
        assert_eq!(left(&pieces, 100, both).0, "one\ntwo\nthree\nerr\nfour\n");
        assert_eq!(left(&pieces, 0, both), (String::new(), None));
        assert_eq!(left(&[(Stdout, "a\nb")], 1, both), ("b".into(), Some(2)));
        assert_eq!(left(&[(Stdout, "a\n\n")], 1, both), ("\n".into(), Some(2)));
        assert_eq!(left(&[], 5, both), (String::new(), None));
    }
}
