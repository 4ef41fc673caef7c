//! `casemate containers stats`: what a container consumes.

use super::super::client::Client;
use super::super::failure::{Failure, UNAVAILABLE};
use super::super::output::Format;
use super::super::retry::{Broken, Patience, judge};
use super::super::{output, present};
use super::{failure, get, span};
use crate::proto::v1::{ContainerStats, StreamStatsRequest};
use clap::Args;
use std::time::Duration;
use tonic::Code;

/// Time between the two samples that a usage of processors is told from.
const ONCE: Duration = Duration::from_millis(200);

/// Whose figures, and how often.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Name or id of the container
    name: String,
    /// Time between two samples
    #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration, default_value = "1s")]
    interval: Duration,
    /// Print one sample and leave
    #[arg(long)]
    once: bool,
}

/// Prints samples: a table that is drawn over and over where people look, and a line of JSON each elsewhere.
pub async fn run(client: &Client, args: StatsArgs, format: Format) -> Result<(), Failure> {
    let container = get(client, &args.name).await?;
    let interval = if args.once { ONCE.min(args.interval) } else { args.interval };
    let request = StreamStatsRequest {
        container_id: container.id.clone(),
        interval: span("--interval", Some(interval))?,
        // The first has no usage of processors yet.
        samples: if args.once { 2 } else { 0 },
    };
    let mut patience = Patience::new();
    let mut drawn = 0;
    loop {
        let problem = match read(client, &request, &container.name, format, &mut drawn, &mut patience).await {
            Ok(()) => return Ok(()),
            // It ended while there was no server.
            Err(Broken::Answer(status)) if drawn > 0 && status.code() == Code::FailedPrecondition => return Ok(()),
            Err(Broken::Output(failure)) => return Err(failure),
            Err(Broken::Answer(status)) => {
                return Err(failure(client, format!("no figures of container {:?}", args.name), &status));
            }
            Err(Broken::Connection(status)) => status,
        };
        if patience.is_over() {
            let todo = "try again; `casemate health` tells how the server stands";
            return Err(Failure::new(UNAVAILABLE, "the connection was lost", problem.message(), todo));
        }
        patience.wait().await;
    }
}

async fn read(
    client: &Client,
    request: &StreamStatsRequest,
    name: &str,
    format: Format,
    drawn: &mut usize,
    patience: &mut Patience,
) -> Result<(), Broken> {
    let mut stream = client.containers().stream_stats(request.clone()).await.map_err(judge)?.into_inner();
    let mut last = None;
    while let Some(message) = stream.message().await.map_err(judge)? {
        patience.refresh();
        let Some(stats) = message.stats else { continue };
        match request.samples {
            0 => draw(name, &stats, format, drawn).map_err(Broken::Output)?,
            _ => last = Some(stats),
        }
    }
    last.map_or(Ok(()), |stats| draw(name, &stats, format, drawn)).map_err(Broken::Output)
}

/// Draws a sample over the one before it, which took so many lines.
fn draw(name: &str, stats: &ContainerStats, format: Format, drawn: &mut usize) -> Result<(), Failure> {
    if format == Format::Json {
        *drawn += 1;
        return output::line(&present::stats::json(stats).to_string());
    }
    let table = present::stats::table(name, stats);
    let mut text = String::new();
    if *drawn > 0 {
        text.push_str(&format!("\x1b[{drawn}A\r"));
    }
    for line in table.lines() {
        text.push_str(line);
        // Whatever the line before was longer by.
        text.push_str("\x1b[K\n");
    }
    *drawn = table.lines().count();
    output::bytes(text.as_bytes())
}
