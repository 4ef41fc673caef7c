//! The log of a container.

use super::container::end;
use super::{Fields, time};
use crate::proto::v1::stream_logs_response::Entry;
use crate::proto::v1::{LogStream, StreamLogsResponse};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// An entry. Output carries `data` in base64 and, where it is UTF-8, `text` as well.
pub fn json(message: &StreamLogsResponse) -> Value {
    let fields = Fields::default().set("sequence", message.sequence);
    match &message.entry {
        Some(Entry::Chunk(chunk)) => {
            let body = Fields::default()
                .set("stream", chunk.stream().as_str_name())
                .set("time", time(&chunk.time))
                .choose("offset", chunk.offset)
                .set("data", STANDARD.encode(&chunk.data));
            let body = match std::str::from_utf8(&chunk.data) {
                Ok(text) => body.set("text", text),
                Err(_) => body,
            };
            fields.choose("chunk", body.into_value())
        }
        Some(Entry::Truncated(gap)) => fields.choose(
            "truncated",
            json!({
                "firstSequence": gap.first_sequence,
                "stdoutOffset": gap.stdout_offset,
                "stderrOffset": gap.stderr_offset,
            }),
        ),
        Some(Entry::Keepalive(_)) => fields.choose("keepalive", json!({})),
        Some(Entry::End(over)) => fields.choose("end", end(over)),
        None => fields,
    }
    .into_value()
}

/// Puts times before lines, whatever pieces these come in.
#[derive(Default)]
pub struct Stamps {
    /// By stream: whether the last piece ended within a line.
    within: [bool; 2],
}

impl Stamps {
    /// A piece of a stream, each line that begins in it with this time.
    pub fn stamp(&mut self, stream: LogStream, at: &Option<prost_types::Timestamp>, data: &[u8]) -> Vec<u8> {
        let within = &mut self.within[usize::from(stream == LogStream::Stderr)];
        let at = time(at).unwrap_or_default();
        let mut stamped = Vec::with_capacity(data.len() + at.len() + 1);
        for line in data.split_inclusive(|byte| *byte == b'\n') {
            if !*within {
                stamped.extend_from_slice(at.as_bytes());
                stamped.push(b' ');
            }
            stamped.extend_from_slice(line);
            *within = !line.ends_with(b"\n");
        }
        stamped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_one_time_whatever_pieces_it_comes_in() {
        let at = Some(prost_types::Timestamp { seconds: 0, nanos: 0 });
        let mut stamps = Stamps::default();
        let mut text = Vec::new();
        for (stream, data) in [
            (LogStream::Stdout, "a\nb"),
            (LogStream::Stderr, "e\n"),
            (LogStream::Stdout, "c\n"),
            (LogStream::Stdout, ""),
            (LogStream::Stdout, "d"),
        ] {
            text.extend(stamps.stamp(stream, &at, data.as_bytes()));
        }
        let t = "1970-01-01T00:00:00.000000Z";
        assert_eq!(String::from_utf8(text).unwrap(), format!("{t} a\n{t} b{t} e\nc\n{t} d"));
    }
}
