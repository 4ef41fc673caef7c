//! `casemate ls`: a directory of a container.

use super::{Inside, failure};
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::output::{self, Format};
use crate::cli::present;
use crate::proto::v1::ListDirectoryRequest;
use clap::Args;
use serde_json::json;
use std::process::ExitCode;

/// Entries in one page; the server allows no more.
const PAGE: i32 = 10_000;

/// What to list.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The directory; without a path the workspace
    #[arg(value_name = "CONTAINER:PATH")]
    directory: Inside,
    /// Levels to go down
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    depth: u32,
}

/// Lists all entries, page by page.
pub async fn run(client: &Client, args: ListArgs, format: Format) -> Result<ExitCode, Failure> {
    let mut request = ListDirectoryRequest {
        container_id: args.directory.container.clone(),
        path: args.directory.path.clone(),
        depth: args.depth,
        page_size: PAGE,
        ..Default::default()
    };
    let mut all = Vec::new();
    loop {
        let page = client.containers().list_directory(request.clone()).await;
        let page = page.map_err(|status| failure(client, format!("{} cannot be listed", args.directory), &status))?;
        let page = page.into_inner();
        all.extend(page.entries);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    match format {
        Format::Json => {
            let entries: Vec<_> = all.iter().map(present::file::json).collect();
            output::json(&json!({ "entries": entries }))?;
        }
        Format::Human => output::bytes(present::file::table(&all).as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}
