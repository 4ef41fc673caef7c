//! `casemate containers`: sandboxes made, found, watched and ended.

mod health;
mod images;
mod logs;
mod snapshot;
mod spawn;
mod stats;
mod watch;

pub use spawn::SpecArgs;

use super::client::Client;
use super::failure::Failure;
use super::output::Format;
use super::run::label;
use super::{Global, follow, output, present};
use crate::proto::v1::{
    Container, ContainerFilter, ContainerState, GetContainerRequest, KillContainerRequest, ListContainersRequest,
    PauseContainerRequest, ResumeContainerRequest, StopContainerRequest,
};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Duration;
use tonic::Status;

/// Containers in one page of a listing; the server allows no more.
const PAGE: usize = 1000;

#[derive(Debug, Subcommand)]
pub enum ContainersVerb {
    /// Make a container and print its id; `casemate exec ID` then runs commands in it
    Spawn(Box<spawn::SpawnArgs>),
    /// List containers, newest first
    List(ListArgs),
    /// Show one container
    Get {
        /// Name or id of the container
        name: String,
    },
    /// Print each change of containers, or of one until it is over, also through restarts of the server
    Watch(watch::WatchArgs),
    /// Ask main processes to stop, and end the containers with all that is left in them
    Stop {
        /// Names or ids of the containers
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Time between the request and the kill, such as 10s. None means what the container was made with
        #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration)]
        grace: Option<Duration>,
        /// Why, for the record
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// End containers at once, and print the last output of their main processes
    Kill {
        /// Names or ids of the containers
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Why, for the record
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Freeze all processes of containers
    Pause {
        /// Names or ids of the containers
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Let the processes of frozen containers go on
    Resume {
        /// Names or ids of the containers
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Freeze the files of a container under a name; `casemate containers spawn --snapshot NAME` starts from there
    Snapshot(snapshot::SnapshotArgs),
    /// Print what a container consumes, until it is over
    Stats(stats::StatsArgs),
    /// Print what the main process of a container wrote, and with -f what it writes
    Logs(logs::LogsArgs),
    /// List the images that containers can start from
    Images(images::ImagesArgs),
    /// Fetch an image from its registry
    Pull(images::PullArgs),
}

/// Which containers are meant.
#[derive(Debug, Args)]
struct FilterArgs {
    /// Only in this state; can be repeated
    #[arg(long = "state", value_name = "STATE")]
    states: Vec<State>,
    /// Only with this label; can be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Only of this image, by reference or id
    #[arg(long, value_name = "REFERENCE", default_value = "")]
    image: String,
    /// Only made with this template
    #[arg(long, value_name = "NAME", default_value = "")]
    template: String,
}

/// Which containers to list.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Also those that are over, as long as they are kept
    #[arg(long, conflicts_with = "states")]
    all: bool,
    #[command(flatten)]
    filter: FilterArgs,
    /// At most so many; 0 means all
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    limit: usize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    Creating,
    Starting,
    Running,
    Paused,
    Stopping,
    Ended,
    Failed,
    Unreachable,
}

impl State {
    fn message(self) -> ContainerState {
        match self {
            State::Creating => ContainerState::Creating,
            State::Starting => ContainerState::Starting,
            State::Running => ContainerState::Running,
            State::Paused => ContainerState::Paused,
            State::Stopping => ContainerState::Stopping,
            State::Ended => ContainerState::Ended,
            State::Failed => ContainerState::Failed,
            State::Unreachable => ContainerState::Unreachable,
        }
    }
}

impl FilterArgs {
    /// The filter; without a state it matches either all containers or, as the server has it, those that
    /// are not over.
    fn message(self, all: bool) -> ContainerFilter {
        let states = match all && self.states.is_empty() {
            true => State::value_variants().to_vec(),
            false => self.states,
        };
        ContainerFilter {
            states: states.into_iter().map(|state| state.message().into()).collect(),
            labels: self.labels.into_iter().collect(),
            image: self.image,
            template: self.template,
            ..Default::default()
        }
    }
}

/// Does what the verb says.
pub async fn run(verb: ContainersVerb, global: &Global) -> Result<ExitCode, Failure> {
    let client = Client::connect(global).await?;
    let format = Format::choose(global);
    match verb {
        ContainersVerb::Spawn(args) => spawn::run(&client, *args, global.json).await?,
        ContainersVerb::List(args) => list(&client, args, format).await?,
        ContainersVerb::Get { name } => show(&get(&client, &name).await?, format)?,
        ContainersVerb::Watch(args) => watch::run(&client, args, format).await?,
        ContainersVerb::Stop { names, grace, reason } => {
            let grace = span("--grace", grace)?;
            let mut stopped = Vec::with_capacity(names.len());
            for container_id in names {
                let what = format!("container {container_id:?} was not stopped");
                let request =
                    StopContainerRequest { container_id, grace, reason: reason.clone(), ..Default::default() };
                let answer = client.containers().stop_container(request).await;
                stopped.extend(answer.map_err(|status| failure(&client, what, &status))?.into_inner().container);
            }
            show_all(&stopped, format)?;
        }
        ContainersVerb::Kill { names, reason } => kill(&client, names, &reason, format).await?,
        ContainersVerb::Pause { names } => {
            let mut paused = Vec::with_capacity(names.len());
            for container_id in names {
                let what = format!("container {container_id:?} was not frozen");
                let request = PauseContainerRequest { container_id, ..Default::default() };
                let answer = client.containers().pause_container(request).await;
                paused.extend(answer.map_err(|status| failure(&client, what, &status))?.into_inner().container);
            }
            show_all(&paused, format)?;
        }
        ContainersVerb::Resume { names } => {
            let mut resumed = Vec::with_capacity(names.len());
            for container_id in names {
                let what = format!("container {container_id:?} does not go on");
                let request = ResumeContainerRequest { container_id, ..Default::default() };
                let answer = client.containers().resume_container(request).await;
                resumed.extend(answer.map_err(|status| failure(&client, what, &status))?.into_inner().container);
            }
            show_all(&resumed, format)?;
        }
        ContainersVerb::Snapshot(args) => snapshot::run(&client, args, format).await?,
        ContainersVerb::Stats(args) => stats::run(&client, args, format).await?,
        ContainersVerb::Logs(args) => logs::run(&client, args, global.json).await?,
        ContainersVerb::Images(args) => images::list(&client, args, format).await?,
        ContainersVerb::Pull(args) => images::pull(&client, args, format).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A span of time as a message; `flag` is where it came from.
pub fn span(flag: &str, span: Option<Duration>) -> Result<Option<prost_types::Duration>, Failure> {
    let span = span.map(prost_types::Duration::try_from).transpose();
    span.map_err(|error| Failure::local(format!("{flag} cannot be sent"), error))
}

/// The failure of a call about containers, with what to do about it there.
pub fn failure(client: &Client, what: impl Into<String>, status: &Status) -> Failure {
    let failure = client.failure(what, status);
    match status.code() {
        tonic::Code::NotFound => failure
            .instead("`casemate containers list --all`, `containers images` and `executions list` show what there is"),
        tonic::Code::InvalidArgument => failure.instead("correct the fields named above; --help tells what they take"),
        tonic::Code::OutOfRange => failure.instead("correct the fields named above"),
        _ => failure,
    }
}

async fn get(client: &Client, name: &str) -> Result<Container, Failure> {
    let request = GetContainerRequest { container_id: name.to_owned(), ..Default::default() };
    let answer = client.containers().get_container(request).await;
    let answer = answer.map_err(|status| failure(client, format!("container {name:?} cannot be shown"), &status))?;
    Ok(answer.into_inner().container.unwrap_or_default())
}

fn show(container: &Container, format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => output::json(&present::container::json(container)),
        Format::Human => output::line(&present::container::detail(container)),
    }
}

fn show_all(containers: &[Container], format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => {
            let containers: Vec<Value> = containers.iter().map(present::container::json).collect();
            output::json(&json!({ "containers": containers }))
        }
        Format::Human if containers.is_empty() => output::line("No containers."),
        Format::Human => output::line(&present::container::table(containers)),
    }
}

/// Kills containers. People get the last output where it went at the time: each stream to its own.
async fn kill(client: &Client, names: Vec<String>, reason: &str, format: Format) -> Result<(), Failure> {
    let mut killed = Vec::with_capacity(names.len());
    for container_id in names {
        let what = format!("container {container_id:?} was not killed");
        let request = KillContainerRequest { container_id, reason: reason.to_owned(), ..Default::default() };
        let answer = client.containers().kill_container(request).await;
        let answer = answer.map_err(|status| failure(client, what, &status))?.into_inner();
        if format == Format::Json {
            killed.push(present::container::killed(&answer));
            continue;
        }
        let container = answer.container.unwrap_or_default();
        follow::aside(format!("{}\n", present::container::change(&container)).as_bytes());
        output::bytes(&answer.stdout.unwrap_or_default().data)?;
        follow::aside(&answer.stderr.unwrap_or_default().data);
    }
    match format {
        Format::Json => output::json(&json!({ "containers": killed })),
        Format::Human => Ok(()),
    }
}

async fn list(client: &Client, args: ListArgs, format: Format) -> Result<(), Failure> {
    let filter = args.filter.message(args.all);
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    let mut containers: Vec<Container> = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListContainersRequest {
            page_size: i32::try_from((limit - containers.len()).min(PAGE)).unwrap_or_default(),
            page_token,
            filter: Some(filter.clone()),
        };
        let page = client.containers().list_containers(request).await;
        let page = page.map_err(|status| failure(client, "containers cannot be listed", &status))?.into_inner();
        containers.extend(page.containers);
        page_token = page.next_page_token;
        if page_token.is_empty() || containers.len() >= limit {
            break;
        }
    }
    containers.truncate(limit);
    show_all(&containers, format)
}
