//! `casemate containers logs`: what the main process of a container wrote and writes.

use super::super::client::Client;
use super::super::failure::{Failure, UNAVAILABLE, USAGE};
use super::super::retry::{Broken, Patience, judge};
use super::super::{follow, output, present};
use super::failure;
use crate::proto::v1::stream_logs_response::Entry;
use crate::proto::v1::{LogChunk, LogStream, StreamLogsRequest, StreamLogsResponse};
use clap::Args;
use present::log::Stamps;
use std::time::{Duration, SystemTime};
use tonic::{Code, Status};

/// Which part of which log.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Name or id of the container
    name: String,
    /// Go on with what is written, until the container is over, also through restarts of the server
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines of what is there
    #[arg(long, value_name = "COUNT")]
    tail: Option<u64>,
    /// Only from this time on, such as 2026-01-31T12:00:00Z, or from so long ago, such as 10m
    #[arg(long, value_name = "TIME|SPAN", value_parser = moment)]
    since: Option<SystemTime>,
    /// Only before this time, or before so long ago
    #[arg(long, value_name = "TIME|SPAN", value_parser = moment)]
    until: Option<SystemTime>,
    /// Put the time before each line
    #[arg(short, long)]
    timestamps: bool,
    /// Only standard output
    #[arg(long)]
    stdout: bool,
    /// Only standard error
    #[arg(long)]
    stderr: bool,
}

/// A time, or a span back from now.
fn moment(text: &str) -> Result<SystemTime, String> {
    if let Ok(span) = humantime::parse_duration(text) {
        // Before the clock's beginning there is nothing to leave out.
        let begin = SystemTime::UNIX_EPOCH;
        return Ok(SystemTime::now().checked_sub(span).unwrap_or(begin).max(begin));
    }
    let time = humantime::parse_rfc3339_weak(text);
    time.map_err(|_| "expected a time, such as 2026-01-31T12:00:00Z, or a span, such as 10m".to_owned())
}

/// One reader of a log.
struct Reader<'a> {
    client: &'a Client,
    request: StreamLogsRequest,
    until: Option<SystemTime>,
    json: bool,
    stamps: Option<Stamps>,
    /// Sequence of the newest entry that was printed.
    seen: u64,
    patience: Patience,
}

/// Prints the log: each stream to its own descriptor, or with `--json` its entries as lines.
pub async fn run(client: &Client, args: LogsArgs, json: bool) -> Result<(), Failure> {
    if json && args.timestamps {
        let todo = "leave out --timestamps: each entry has its time";
        return Err(Failure::new(
            USAGE,
            "--json and --timestamps exclude each other",
            "JSON has no lines of text",
            todo,
        ));
    }
    let streams = match (args.stdout, args.stderr) {
        (true, false) => vec![LogStream::Stdout.into()],
        (false, true) => vec![LogStream::Stderr.into()],
        _ => Vec::new(),
    };
    let request = StreamLogsRequest {
        container_id: args.name.clone(),
        follow: args.follow,
        tail_lines: args.tail,
        since: args.since.map(Into::into),
        until: args.until.map(Into::into),
        streams,
        from_sequence: 0,
        // Until the first entry comes, only this tells where a stream that breaks off goes on.
        keepalive_interval: args.follow.then_some(prost_types::Duration { seconds: 1, nanos: 0 }),
    };
    let mut reader = Reader {
        client,
        request,
        until: args.until,
        json,
        stamps: args.timestamps.then(Stamps::default),
        seen: 0,
        patience: Patience::new(),
    };
    loop {
        let problem = match reader.read().await {
            Ok(()) => return Ok(()),
            Err(Broken::Output(failure)) => return Err(failure),
            // All that was written was seen; there is nothing behind it.
            Err(Broken::Answer(status)) if reader.seen > 0 && status.code() == Code::OutOfRange => return Ok(()),
            Err(Broken::Answer(status)) => {
                return Err(failure(client, format!("the log of container {:?} cannot be shown", args.name), &status));
            }
            Err(Broken::Connection(status)) => status,
        };
        if reader.patience.is_over() {
            let what = format!("the connection was lost after entry {}", reader.seen);
            let todo = "try again; `casemate health` tells how the server stands";
            return Err(Failure::new(UNAVAILABLE, what, problem.message(), todo));
        }
        reader.patience.wait().await;
    }
}

impl Reader<'_> {
    async fn read(&mut self) -> Result<(), Broken> {
        let mut request = self.request.clone();
        if self.seen > 0 {
            (request.tail_lines, request.from_sequence) = (None, self.seen + 1);
        }
        let mut stream = self.client.containers().stream_logs(request).await.map_err(judge)?.into_inner();
        while let Some(message) = stream.message().await.map_err(judge)? {
            self.patience.refresh();
            if self.take(message).map_err(Broken::Output)? {
                return Ok(());
            }
        }
        // Only what is followed has a last entry.
        let over = self.until.is_some_and(|until| until <= SystemTime::now() + Duration::from_millis(100));
        match self.request.follow && !over {
            true => Err(Broken::Connection(Status::unavailable("the stream ended before the container did"))),
            false => Ok(()),
        }
    }

    /// Prints one entry. True after the last one.
    fn take(&mut self, message: StreamLogsResponse) -> Result<bool, Failure> {
        let keepalive = matches!(message.entry, Some(Entry::Keepalive(_)));
        let over = matches!(message.entry, Some(Entry::End(_)));
        if !keepalive && !over && message.sequence <= self.seen {
            // A stream that was taken up again may repeat what was seen.
            return Ok(false);
        }
        if self.json && !keepalive {
            output::line(&present::log::json(&message).to_string())?;
        }
        let sequence = message.sequence;
        match message.entry {
            Some(Entry::Chunk(chunk)) if !self.json => self.print(&chunk)?,
            Some(Entry::Truncated(gap)) if !self.json => {
                let text = format!("casemate: entries {} to {sequence} were dropped\n", gap.first_sequence);
                follow::aside(text.as_bytes());
            }
            _ => {}
        }
        self.seen = self.seen.max(sequence);
        Ok(over)
    }

    fn print(&mut self, chunk: &LogChunk) -> Result<(), Failure> {
        let stamped = self.stamps.as_mut().map(|stamps| stamps.stamp(chunk.stream(), &chunk.time, &chunk.data));
        let data = stamped.as_deref().unwrap_or(&chunk.data);
        match chunk.stream() {
            LogStream::Stderr => follow::aside(data),
            _ => output::bytes(data)?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_or_a_span() {
        assert_eq!(moment("1970-01-01T00:00:01Z").unwrap(), SystemTime::UNIX_EPOCH + Duration::from_secs(1));
        assert!(moment("10m").unwrap() < SystemTime::now() - Duration::from_secs(599));
        assert_eq!(moment("9999years").unwrap(), SystemTime::UNIX_EPOCH);
        assert!(moment("yesterday").is_err());
    }
}
