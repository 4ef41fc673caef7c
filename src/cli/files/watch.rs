//! `casemate watch`: changes of files as they happen.

use super::{Inside, failure};
use crate::cli::client::Client;
use crate::cli::failure::{Failure, UNAVAILABLE};
use crate::cli::output::{self, Format};
use crate::cli::retry::{Broken, Patience, judge};
use crate::cli::{follow, present};
use crate::proto::v1::WatchPathRequest;
use crate::proto::v1::watch_path_response::Event;
use clap::Args;
use serde_json::json;
use std::process::ExitCode;

/// What to watch.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// File or directory; without a path the workspace
    #[arg(value_name = "CONTAINER:PATH")]
    path: Inside,
    /// Only the directory itself, not what is below its directories
    #[arg(long)]
    shallow: bool,
}

/// Prints changes until nobody listens, or the path is gone.
pub async fn run(client: &Client, args: WatchArgs, format: Format) -> Result<ExitCode, Failure> {
    let mut patience = Patience::new();
    let mut began = false;
    loop {
        let status = match read(client, &args, format, &mut began, &mut patience).await {
            Ok(()) => return Ok(ExitCode::SUCCESS),
            Err(Broken::Output(failure)) => return Err(failure),
            Err(Broken::Answer(status)) => {
                return Err(failure(client, format!("{} cannot be watched", args.path), &status));
            }
            Err(Broken::Connection(status)) => status,
        };
        if patience.is_over() {
            let todo = "try again; `casemate health` tells how the server stands";
            return Err(Failure::new(UNAVAILABLE, "the connection was lost", status.message(), todo));
        }
        patience.wait().await;
    }
}

async fn read(
    client: &Client,
    args: &WatchArgs,
    format: Format,
    began: &mut bool,
    patience: &mut Patience,
) -> Result<(), Broken> {
    let request = WatchPathRequest {
        container_id: args.path.container.clone(),
        path: args.path.path.clone(),
        recursive: !args.shallow,
        ..Default::default()
    };
    let mut stream = client.containers().watch_path(request).await.map_err(judge)?.into_inner();
    while let Some(message) = stream.message().await.map_err(judge)? {
        patience.refresh();
        let told = match (message.event, format) {
            (Some(Event::Started(_)), _) => {
                // A second beginning follows a time in which nobody looked.
                if std::mem::replace(began, true) { missed(format) } else { Ok(()) }
            }
            (Some(Event::Overflow(_)), _) => missed(format),
            (Some(Event::Change(change)), Format::Json) => {
                output::line(&present::file::change_json(&change).to_string())
            }
            (Some(Event::Change(change)), Format::Human) => output::line(&present::file::change(&change)),
            (Some(Event::Keepalive(_)) | None, _) => Ok(()),
        };
        told.map_err(Broken::Output)?;
    }
    Err(Broken::Connection(tonic::Status::unavailable("the stream ended")))
}

fn missed(format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => output::line(&json!({ "kind": "overflow" }).to_string()),
        Format::Human => {
            follow::aside(b"casemate: changes were missed; look again at what matters\n");
            Ok(())
        }
    }
}
