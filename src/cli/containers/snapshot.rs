//! `casemate containers snapshot`: a container frozen under a name.

use super::super::client::Client;
use super::super::failure::Failure;
use super::super::output::Format;
use super::super::run::label;
use super::super::snapshots;
use super::failure;
use crate::proto::v1::SnapshotContainerRequest;
use clap::Args;
use uuid::Uuid;

/// What to freeze.
#[derive(Debug, Args)]
pub struct SnapshotArgs {
    /// Name or id of the container
    container: String,
    /// What the snapshot is called
    name: String,
    /// What it holds, for people
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
    /// Attach a label; can be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Leave the processes running meanwhile: files may be caught half-written
    #[arg(long)]
    keep_running: bool,
    /// Leave out the workspace
    #[arg(long)]
    exclude_workspace: bool,
    /// A UUID that makes a retry return the first snapshot instead of making another
    #[arg(long, value_name = "UUID", default_value = "")]
    request_id: String,
}

/// Makes the snapshot, and shows it.
pub async fn run(client: &Client, args: SnapshotArgs, format: Format) -> Result<(), Failure> {
    let what = format!("no snapshot of container {:?} was made", args.container);
    let request_id = match args.request_id {
        // A transport that sends it twice then makes one.
        id if id.is_empty() => Uuid::now_v7().to_string(),
        id => id,
    };
    let request = SnapshotContainerRequest {
        container_id: args.container,
        name: args.name,
        description: args.description,
        labels: args.labels.into_iter().collect(),
        keep_running: args.keep_running,
        exclude_workspace: args.exclude_workspace,
        request_id,
    };
    let answer = client.containers().snapshot_container(request).await;
    let answer = answer.map_err(|status| failure(client, what, &status))?;
    snapshots::show(answer.into_inner().snapshot, format)
}
