//! `casemate snapshots`: frozen states to start from.

use super::build::{self, BuildArgs};
use super::client::Client;
use super::failure::Failure;
use super::output::Format;
use super::{Global, output, present};
use crate::proto::v1::{
    DeleteSnapshotRequest, GetSnapshotRequest, ListSnapshotsRequest, Snapshot, SnapshotFilter, SnapshotKind,
};
use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};
use std::process::ExitCode;
use uuid::Uuid;

/// Snapshots in one page of a listing; the server allows no more.
const PAGE: i32 = 1000;

#[derive(Debug, Subcommand)]
pub enum SnapshotsVerb {
    /// Build a snapshot with further packages and preloaded modules
    Build(BuildArgs),
    /// List snapshots by name, with the size of each
    List {
        /// Only for this tool
        #[arg(long, value_name = "NAME", default_value = "")]
        tool: String,
        /// Only of this kind
        #[arg(long, value_name = "KIND")]
        kind: Option<Kind>,
    },
    /// Show one snapshot
    Get {
        /// Name or id of the snapshot
        name: String,
    },
    /// Delete a snapshot; what started from it lives on
    Delete {
        /// Name or id of the snapshot
        name: String,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Kind {
    /// The memory of an interpreter, for sessions
    Interpreter,
    /// The files of a container, for containers
    Container,
}

/// Does what the verb says.
pub async fn run(verb: SnapshotsVerb, global: &Global) -> Result<ExitCode, Failure> {
    let verb = match verb {
        // It may bring its own server.
        SnapshotsVerb::Build(args) => return build::run(args, global).await.map(|()| ExitCode::SUCCESS),
        verb => verb,
    };
    let client = Client::connect(global).await?;
    let format = Format::choose(global);
    match verb {
        SnapshotsVerb::Build(_) => {}
        SnapshotsVerb::List { tool, kind } => list(&client, tool, kind, format).await?,
        SnapshotsVerb::Get { name } => {
            let answer = client.snapshots().get_snapshot(GetSnapshotRequest { snapshot_id: name.clone() }).await;
            let answer =
                answer.map_err(|status| client.failure(format!("snapshot {name:?} cannot be shown"), &status))?;
            show(answer.into_inner().snapshot, format)?;
        }
        SnapshotsVerb::Delete { name } => {
            let request_id = Uuid::now_v7().to_string();
            let request = DeleteSnapshotRequest { snapshot_id: name.clone(), request_id };
            let answer = client.snapshots().delete_snapshot(request).await;
            answer.map_err(|status| client.failure(format!("snapshot {name:?} was not deleted"), &status))?;
            match format {
                Format::Json => output::json(&json!({}))?,
                Format::Human => output::line(&format!("Deleted {name}."))?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints one snapshot.
pub fn show(snapshot: Option<Snapshot>, format: Format) -> Result<(), Failure> {
    let snapshot = snapshot.unwrap_or_default();
    match format {
        Format::Json => output::json(&present::snapshot::json(&snapshot)),
        Format::Human => output::line(&present::snapshot::detail(&snapshot)),
    }
}

async fn list(client: &Client, tool: String, kind: Option<Kind>, format: Format) -> Result<(), Failure> {
    let kinds = kind.into_iter().map(|kind| match kind {
        Kind::Interpreter => SnapshotKind::Interpreter.into(),
        Kind::Container => SnapshotKind::Container.into(),
    });
    let filter = SnapshotFilter { tool, kinds: kinds.collect(), ..Default::default() };
    let mut snapshots: Vec<Snapshot> = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListSnapshotsRequest { page_size: PAGE, page_token, filter: Some(filter.clone()) };
        let page = client.snapshots().list_snapshots(request).await;
        let page = page.map_err(|status| client.failure("snapshots cannot be listed", &status))?.into_inner();
        snapshots.extend(page.snapshots);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    match format {
        Format::Json => {
            let snapshots: Vec<Value> = snapshots.iter().map(present::snapshot::json).collect();
            output::json(&json!({ "snapshots": snapshots }))
        }
        Format::Human if snapshots.is_empty() => output::line("No snapshots."),
        Format::Human => output::line(&present::snapshot::table(&snapshots)),
    }
}
