//! `casemate snapshots build`: reads the preload and the packages, and has a server build the snapshot.

use super::client::Client;
use super::failure::{Failure, USAGE};
use super::output::Format;
use super::{Global, offline, snapshots};
use crate::interpreter::packages::{LeftOut, Packages};
use crate::proto::v1::build_snapshot_request::Part;
use crate::proto::v1::{BuildSnapshotHeader, BuildSnapshotRequest, PackageFile};
use clap::Args;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// Bytes of a file in one message.
const CHUNK: usize = 1 << 20;

#[derive(Debug, Args)]
pub struct BuildArgs {
    /// Name of the snapshot: 1 to 64 of a-z, 0-9, "_", "-" and ".", beginning with a letter
    name: String,
    /// Python to run before the state is frozen: imports, and whatever else takes long. What it defines is not in
    /// the code's way, unless it assigns to `__main__`
    #[arg(long, value_name = "FILE", required_unless_present = "packages")]
    preload: Option<PathBuf>,
    /// Directory of packages, as `pip install --target DIR` lays it out. They must be Python alone
    #[arg(long, value_name = "DIR")]
    packages: Option<PathBuf>,
    /// Tool whose interpreter the snapshot is for
    #[arg(long, value_name = "NAME", default_value = "python")]
    tool: String,
    /// What it holds, for people
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
    /// A label, KEY=VALUE; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Build without a running server, in the data directory of the configuration
    #[arg(long)]
    offline: bool,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Builds a snapshot and shows it.
pub async fn run(args: BuildArgs, global: &Global) -> Result<(), Failure> {
    let parts = parts(&args)?;
    if args.offline {
        let server = offline::Server::start(global).await?;
        let built = build(&args.name, parts, &server.client(global).await?, global).await;
        server.stop()?;
        return built;
    }
    build(&args.name, parts, &Client::connect(global).await?, global).await
}

async fn build(name: &str, parts: Vec<BuildSnapshotRequest>, client: &Client, global: &Global) -> Result<(), Failure> {
    let answer = client.snapshots().build_snapshot(tokio_stream::iter(parts)).await;
    let answer = answer.map_err(|status| client.failure(format!("snapshot {name:?} was not built"), &status))?;
    let answer = answer.into_inner();
    // What the preload said is for people; standard output has the snapshot alone.
    eprint!("{}", answer.output);
    snapshots::show(answer.snapshot, Format::choose(global))
}

/// The messages of a build: the header, then the files in parts.
fn parts(args: &BuildArgs) -> Result<Vec<BuildSnapshotRequest>, Failure> {
    let (preload, preload_name) = match &args.preload {
        Some(path) => read_preload(path)?,
        None => Default::default(),
    };
    let header = BuildSnapshotHeader {
        name: args.name.clone(),
        tool: args.tool.clone(),
        description: args.description.clone(),
        labels: args.labels.iter().cloned().collect::<BTreeMap<_, _>>(),
        preload,
        preload_name,
        request_id: Uuid::now_v7().to_string(),
    };
    let packages = args.packages.as_deref().map(read_packages).transpose()?.unwrap_or_default();
    let files = packages.files.into_iter().flat_map(|(path, content)| {
        // A file without content is a part, too.
        let starts = (0..content.len().max(1)).step_by(CHUNK);
        starts.map(move |start| {
            let data = content[start..content.len().min(start + CHUNK)].to_vec();
            Part::File(PackageFile { path: path.clone(), data })
        })
    });
    let parts = [Part::Header(header)].into_iter().chain(files);
    Ok(parts.map(|part| BuildSnapshotRequest { part: Some(part) }).collect())
}

fn read_preload(path: &Path) -> Result<(String, String), Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::local(format!("the preload {} cannot be read", path.display()), error))?;
    Ok((text, path.file_name().unwrap_or_default().to_string_lossy().into_owned()))
}

fn read_packages(path: &Path) -> Result<Packages, Failure> {
    let what = || format!("the packages in {} cannot be used", path.display());
    let mut left_out: Vec<LeftOut> = Vec::new();
    let packages =
        Packages::read(path, &mut |file| left_out.push(file)).map_err(|problem| Failure::local(what(), problem))?;
    if left_out.is_empty() {
        return Ok(packages);
    }
    let why: Vec<String> = left_out.iter().take(20).map(ToString::to_string).collect();
    let more = left_out.len() - why.len();
    let failure = Failure::new(USAGE, what(), why.join("\n"), "remove these files, or take packages without them");
    Err(if more > 0 { failure.because(format!("and {more} more")) } else { failure })
}
