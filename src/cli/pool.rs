//! `casemate pool`: containers that are ready before somebody asks.

use super::client::Client;
use super::containers::{SpecArgs, span};
use super::failure::Failure;
use super::output::Format;
use super::run::label;
use super::{Global, output, present};
use crate::proto::v1::{
    ContainerSpec, CreatePoolRequest, DeletePoolRequest, GetPoolRequest, Lease, LeaseContainerRequest,
    ListPoolsRequest, Pool, PoolFilter, PoolState, ReleaseContainerRequest, UpdatePoolRequest,
};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Duration;
use tonic::Status;
use uuid::Uuid;

/// Pools in one page of a listing; the server allows no more.
const PAGE: usize = 1000;

#[derive(Debug, Subcommand)]
pub enum PoolVerb {
    /// Make a pool, and begin to fill it
    Create(Box<CreateArgs>),
    /// List pools by name
    List(ListArgs),
    /// Show one pool with its figures
    Get {
        /// Name of the pool
        name: String,
    },
    /// Change a pool: only what is named
    Update(Box<UpdateArgs>),
    /// Delete a pool with its containers
    Delete {
        /// Name of the pool
        name: String,
        /// End what is on loan, too
        #[arg(long)]
        force: bool,
        /// Only if this is the pool's etag, as `pool get` shows it
        #[arg(long, value_name = "ETAG", default_value = "")]
        etag: String,
    },
    /// Get a container that nobody used and print its id; `casemate exec ID` then runs commands in it
    Lease(LeaseArgs),
    /// End leases, and destroy their containers
    Release {
        /// Ids of the leases or of their containers
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

/// Sizes and clocks.
#[derive(Debug, Args)]
struct SettingsArgs {
    /// Idle containers to keep ready; with 0, each lease makes its own
    #[arg(long, value_name = "COUNT")]
    size: Option<u32>,
    /// Containers at most, those on loan included; 0 means the server's bound
    #[arg(long, value_name = "COUNT")]
    max: Option<u32>,
    /// Callers that may wait in line
    #[arg(long, value_name = "COUNT")]
    max_waiting: Option<u32>,
    /// Longest lease, such as 1h
    #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration)]
    lease_time: Option<Duration>,
    /// Age at which an idle container is replaced
    #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration)]
    idle_age: Option<Duration>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

/// What to make.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Name of the pool
    name: String,
    /// Reference of the image of its containers; may be left out with --template
    #[arg(required_unless_present = "template")]
    image: Option<String>,
    /// Their main process or its arguments, after --; none means the image's
    #[arg(last = true)]
    command: Vec<String>,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    spec: SpecArgs,
    /// A UUID that makes a retry return the first pool
    #[arg(long, value_name = "UUID", default_value = "")]
    request_id: String,
}

/// What to change.
#[derive(Debug, Args)]
pub struct UpdateArgs {
    /// Name of the pool
    name: String,
    /// Another image for its containers. Whoever names it, a command or a flag of containers, says all of what they are
    image: Option<String>,
    /// Their main process or its arguments, after --
    #[arg(last = true)]
    command: Vec<String>,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    spec: SpecArgs,
    /// Only if this is the pool's etag, as `pool get` shows it
    #[arg(long, value_name = "ETAG", default_value = "")]
    etag: String,
}

/// Which pools to list.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only in this state; can be repeated
    #[arg(long = "state", value_name = "STATE")]
    states: Vec<State>,
    /// Only with this label; can be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Only those whose name begins so
    #[arg(long, value_name = "TEXT", default_value = "")]
    prefix: String,
}

/// What to ask for.
#[derive(Debug, Args)]
pub struct LeaseArgs {
    /// Name of the pool
    name: String,
    /// Longest wait in line; none means 30s, 0s not at all
    #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration)]
    wait: Option<Duration>,
    /// Length of the lease; none means the pool's longest
    #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration)]
    time: Option<Duration>,
    /// Attach a label; can be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// A UUID that makes a retry return the first lease; without one, a call that is lost leaves nothing behind
    #[arg(long, value_name = "UUID", default_value = "")]
    request_id: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    Filling,
    Ready,
    Degraded,
    Deleting,
    Unreachable,
}

impl State {
    fn message(self) -> PoolState {
        match self {
            State::Filling => PoolState::Filling,
            State::Ready => PoolState::Ready,
            State::Degraded => PoolState::Degraded,
            State::Deleting => PoolState::Deleting,
            State::Unreachable => PoolState::Unreachable,
        }
    }
}

/// Does what the verb says.
pub async fn run(verb: PoolVerb, global: &Global) -> Result<ExitCode, Failure> {
    let client = Client::connect(global).await?;
    let format = Format::choose(global);
    match verb {
        PoolVerb::Create(args) => create(&client, *args, format).await?,
        PoolVerb::List(args) => list(&client, args, format).await?,
        PoolVerb::Get { name } => {
            let answer = client.pools().get_pool(GetPoolRequest { name: name.clone() }).await;
            let answer =
                answer.map_err(|status| failure(&client, format!("pool {name:?} cannot be shown"), &status))?;
            show(answer.into_inner().pool, format)?;
        }
        PoolVerb::Update(args) => update(&client, *args, format).await?,
        PoolVerb::Delete { name, force, etag } => {
            let request = DeletePoolRequest { name: name.clone(), force, etag, request_id: fresh() };
            let answer = client.pools().delete_pool(request).await;
            answer.map_err(|status| failure(&client, format!("pool {name:?} was not deleted"), &status))?;
            match format {
                Format::Json => output::json(&json!({}))?,
                Format::Human => output::line(&format!("Deleted {name}."))?,
            }
        }
        PoolVerb::Lease(args) => lease(&client, args, global.json).await?,
        PoolVerb::Release { ids } => {
            for lease_id in &ids {
                let what = format!("lease {lease_id:?} was not released");
                let request = ReleaseContainerRequest { lease_id: lease_id.clone(), request_id: fresh() };
                let answer = client.pools().release_container(request).await;
                answer.map_err(|status| failure(&client, what, &status))?;
            }
            match format {
                Format::Json => output::json(&json!({}))?,
                Format::Human => output::line(&format!("Released {}.", ids.join(", ")))?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The failure of a call about pools, with what to do about it there.
fn failure(client: &Client, what: impl Into<String>, status: &Status) -> Failure {
    let failure = client.failure(what, status);
    match status.code() {
        tonic::Code::NotFound => failure.instead("`casemate pool list` and `containers images` show what there is"),
        tonic::Code::InvalidArgument => failure.instead("correct the fields named above; --help tells what they take"),
        tonic::Code::DeadlineExceeded => failure.instead("wait longer (--wait), or make the pool larger (pool update)"),
        tonic::Code::Aborted => failure.instead("`casemate pool get` shows what it is now"),
        _ => failure,
    }
}

/// A transport that sends it twice then does it once.
fn fresh() -> String {
    Uuid::now_v7().to_string()
}

async fn create(client: &Client, args: CreateArgs, format: Format) -> Result<(), Failure> {
    let what = format!("pool {:?} was not made", args.name);
    let (mut spec, settings) = (args.spec.message(args.image, args.command)?, args.settings);
    let pool = Pool {
        name: args.name,
        description: settings.description.unwrap_or_default(),
        labels: std::mem::take(&mut spec.labels),
        container: Some(spec),
        target_size: settings.size.unwrap_or(1),
        max_size: settings.max.unwrap_or_default(),
        max_waiting: settings.max_waiting,
        max_lease_time: span("--lease-time", settings.lease_time)?,
        max_idle_age: span("--idle-age", settings.idle_age)?,
        ..Default::default()
    };
    let request_id = if args.request_id.is_empty() { fresh() } else { args.request_id };
    let answer = client.pools().create_pool(CreatePoolRequest { pool: Some(pool), request_id }).await;
    let answer = answer.map_err(|status| failure(client, what, &status))?;
    show(answer.into_inner().pool, format)
}

async fn update(client: &Client, args: UpdateArgs, format: Format) -> Result<(), Failure> {
    let what = format!("pool {:?} was not changed", args.name);
    let (mut spec, settings) = (args.spec.message(args.image, args.command)?, args.settings);
    let labels = std::mem::take(&mut spec.labels);
    let mut paths = Vec::new();
    for (path, named) in [
        ("description", settings.description.is_some()),
        ("target_size", settings.size.is_some()),
        ("max_size", settings.max.is_some()),
        ("max_waiting", settings.max_waiting.is_some()),
        ("max_lease_time", settings.lease_time.is_some()),
        ("max_idle_age", settings.idle_age.is_some()),
        ("labels", !labels.is_empty()),
        ("container", spec != ContainerSpec::default()),
    ] {
        if named {
            paths.push(path.to_owned());
        }
    }
    let pool = Pool {
        name: args.name,
        etag: args.etag,
        description: settings.description.unwrap_or_default(),
        labels,
        container: Some(spec),
        target_size: settings.size.unwrap_or_default(),
        max_size: settings.max.unwrap_or_default(),
        max_waiting: settings.max_waiting,
        max_lease_time: span("--lease-time", settings.lease_time)?,
        max_idle_age: span("--idle-age", settings.idle_age)?,
        ..Default::default()
    };
    if paths.is_empty() {
        return Err(Failure::new(super::failure::USAGE, what, "no change is named", "name one; --help lists them"));
    }
    let update_mask = Some(prost_types::FieldMask { paths });
    let request = UpdatePoolRequest { pool: Some(pool), update_mask, request_id: fresh() };
    let answer = client.pools().update_pool(request).await;
    show(answer.map_err(|status| failure(client, what, &status))?.into_inner().pool, format)
}

async fn list(client: &Client, args: ListArgs, format: Format) -> Result<(), Failure> {
    let filter = PoolFilter {
        states: args.states.into_iter().map(|state| state.message().into()).collect(),
        name_prefix: args.prefix,
        labels: args.labels.into_iter().collect(),
        ..Default::default()
    };
    let (mut pools, mut page_token): (Vec<Pool>, _) = (Vec::new(), String::new());
    loop {
        let page_size = i32::try_from(PAGE).unwrap_or_default();
        let request = ListPoolsRequest { page_size, page_token, filter: Some(filter.clone()) };
        let page = client.pools().list_pools(request).await;
        let page = page.map_err(|status| failure(client, "pools cannot be listed", &status))?.into_inner();
        pools.extend(page.pools);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    match format {
        Format::Json => {
            let pools: Vec<Value> = pools.iter().map(present::pool::json).collect();
            output::json(&json!({ "pools": pools }))
        }
        Format::Human if pools.is_empty() => output::line("No pools."),
        Format::Human => output::line(&present::pool::table(&pools)),
    }
}

fn show(pool: Option<Pool>, format: Format) -> Result<(), Failure> {
    let pool = pool.unwrap_or_default();
    match format {
        Format::Json => output::json(&present::pool::json(&pool)),
        Format::Human => output::line(&present::pool::detail(&pool)),
    }
}

async fn lease(client: &Client, args: LeaseArgs, json: bool) -> Result<(), Failure> {
    let what = format!("no container of pool {:?} was leased", args.name);
    let request = LeaseContainerRequest {
        pool: args.name,
        wait_timeout: span("--wait", args.wait)?,
        lease_time: span("--time", args.time)?,
        labels: args.labels.into_iter().collect(),
        request_id: args.request_id,
    };
    let answer = client.pools().lease_container(request).await;
    let answer = answer.map_err(|status| failure(client, what, &status))?.into_inner();
    let lease: Lease = answer.lease.unwrap_or_default();
    match json {
        true => output::json(&present::pool::lease(&lease, &answer.wait_time)),
        // For `casemate exec $(casemate pool lease NAME)`: the id and nothing else, also where nobody looks.
        false => output::line(&lease.container.unwrap_or_default().id),
    }
}
