//! `casemate sessions`: interpreters that keep their state between calls.

use super::client::Client;
use super::failure::Failure;
use super::output::Format;
use super::run::label;
use super::{Global, output, present};
use crate::proto::v1::session_target::Target;
use crate::proto::v1::{
    CloseSessionRequest, CreateSessionRequest, ForkSessionRequest, GetSessionRequest, ListSessionsRequest, Session,
    SessionDurability, SessionFilter, SessionLimits, SessionState, SessionTarget, SnapshotSessionRequest,
};
use bytesize::ByteSize;
use clap::{Args, Subcommand, ValueEnum};
use prost_types::value::Kind;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Duration;

/// Sessions in one page of a listing; the server allows no more.
const PAGE: usize = 1000;

#[derive(Debug, Subcommand)]
pub enum SessionsVerb {
    /// Start a session and print its id; `casemate run TOOL --session ID` then runs calls in it
    Create(CreateArgs),
    /// List sessions, newest first
    List(ListArgs),
    /// Show one session
    Get {
        /// Id of the session
        id: String,
    },
    /// Make copies that go on from the state after the last call
    Fork {
        /// Id of the session
        id: String,
        /// How many copies
        #[arg(long, default_value_t = 1)]
        count: u32,
        #[command(flatten)]
        own: OwnArgs,
    },
    /// Freeze the state after the last call under a name; the session lives on
    Snapshot {
        /// Id of the session
        id: String,
        /// Name of the snapshot
        name: String,
        /// What it holds, for people
        #[arg(long, value_name = "TEXT", default_value = "")]
        description: String,
        /// Attach a label; can be repeated
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
        labels: Vec<(String, String)>,
        /// A UUID that makes a retry harmless
        #[arg(long, value_name = "UUID", default_value = "")]
        request_id: String,
    },
    /// End sessions and delete their state
    Close {
        /// Ids of the sessions
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

/// What to start.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Name of the tool: python, javascript, or notebook for a Jupyter kernel in a container
    tool: String,
    /// Start from this snapshot, by name or id
    #[arg(long, value_name = "NAME", conflicts_with_all = ["container", "pool"])]
    snapshot: Option<String>,
    /// Have the kernel live in this container, by name or id
    #[arg(long = "in", value_name = "CONTAINER", conflicts_with = "pool")]
    container: Option<String>,
    /// Have the kernel live in a container of this pool, which is destroyed after the session
    #[arg(long, value_name = "POOL")]
    pool: Option<String>,
    /// The kernel, by the name of its specification; none means Python's, or else the first that is there
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,
    /// Set an environment variable; can be repeated
    #[arg(long = "env", value_name = "KEY=VALUE", value_parser = label)]
    environment: Vec<(String, String)>,
    #[command(flatten)]
    own: OwnArgs,
}

/// What new sessions and copies have of their own.
#[derive(Debug, Args)]
pub struct OwnArgs {
    /// When the state is made durable
    #[arg(long, value_name = "WHEN")]
    durability: Option<Durability>,
    /// Close it after this time, whatever happens, such as 8h
    #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration)]
    time_to_live: Option<Duration>,
    /// Close it after this time without a call
    #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration)]
    idle_timeout: Option<Duration>,
    /// Memory its state may take, such as 256MiB
    #[arg(long, value_name = "SIZE")]
    memory: Option<ByteSize>,
    /// Files it may keep, such as 64MiB
    #[arg(long, value_name = "SIZE")]
    scratch: Option<ByteSize>,
    /// Attach a label; can be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// A UUID that makes a retry return the first ones instead of making more
    #[arg(long, value_name = "UUID", default_value = "")]
    request_id: String,
}

/// Which sessions to list.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only in this state; can be repeated. None means all that are open
    #[arg(long = "state", value_name = "STATE")]
    states: Vec<State>,
    /// Only of this tool
    #[arg(long, value_name = "NAME", default_value = "")]
    tool: String,
    /// Only in this container, by id
    #[arg(long = "in", value_name = "CONTAINER", default_value = "")]
    container: String,
    /// Only with this label; can be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// At most so many; 0 means all
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    limit: usize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Durability {
    /// Never
    None,
    /// When it has been idle for a while
    Idle,
    /// After each call
    Turn,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    Starting,
    Ready,
    Busy,
    Suspended,
    Closed,
}

impl State {
    fn message(self) -> SessionState {
        match self {
            State::Starting => SessionState::Starting,
            State::Ready => SessionState::Ready,
            State::Busy => SessionState::Busy,
            State::Suspended => SessionState::Suspended,
            State::Closed => SessionState::Closed,
        }
    }
}

impl OwnArgs {
    fn durability(&self) -> i32 {
        let durability = match self.durability {
            None => SessionDurability::Unspecified,
            Some(Durability::None) => SessionDurability::None,
            Some(Durability::Idle) => SessionDurability::Idle,
            Some(Durability::Turn) => SessionDurability::Turn,
        };
        durability.into()
    }

    fn limits(&self) -> Result<SessionLimits, Failure> {
        let span = |span: Option<Duration>| {
            let span = span.map(prost_types::Duration::try_from).transpose();
            span.map_err(|error| Failure::local("a span of time cannot be sent", error))
        };
        Ok(SessionLimits {
            time_to_live: span(self.time_to_live)?,
            idle_timeout: span(self.idle_timeout)?,
            memory_bytes: self.memory.map_or(0, |size| size.as_u64()),
            scratch_bytes: self.scratch.map_or(0, |size| size.as_u64()),
            ..Default::default()
        })
    }
}

/// Does what the verb says.
pub async fn run(verb: SessionsVerb, global: &Global) -> Result<ExitCode, Failure> {
    let client = Client::connect(global).await?;
    let format = Format::choose(global);
    match verb {
        SessionsVerb::Create(args) => create(&client, args, global.json).await?,
        SessionsVerb::List(args) => list(&client, args, format).await?,
        SessionsVerb::Get { id } => {
            let answer = client.sessions().get_session(GetSessionRequest { session_id: id.clone() }).await;
            let answer = answer.map_err(|status| client.failure(format!("session {id} cannot be shown"), &status))?;
            show(answer.into_inner().session, format)?;
        }
        SessionsVerb::Fork { id, count, own } => {
            let request = ForkSessionRequest {
                session_id: id.clone(),
                count,
                limits: Some(own.limits()?),
                durability: own.durability(),
                labels: own.labels.into_iter().collect(),
                request_id: own.request_id,
            };
            let answer = client.sessions().fork_session(request).await;
            let answer = answer.map_err(|status| client.failure(format!("session {id} was not copied"), &status))?;
            show_all(&answer.into_inner().sessions, format)?;
        }
        SessionsVerb::Snapshot { id, name, description, labels, request_id } => {
            let labels = labels.into_iter().collect();
            let request = SnapshotSessionRequest { session_id: id.clone(), name, description, labels, request_id };
            let answer = client.sessions().snapshot_session(request).await;
            let answer = answer.map_err(|status| client.failure(format!("session {id} was not frozen"), &status))?;
            super::snapshots::show(answer.into_inner().snapshot, format)?;
        }
        SessionsVerb::Close { ids } => {
            let mut closed = Vec::with_capacity(ids.len());
            for id in ids {
                let request = CloseSessionRequest { session_id: id.clone(), request_id: String::new() };
                let answer = client.sessions().close_session(request).await;
                let answer =
                    answer.map_err(|status| client.failure(format!("session {id} was not closed"), &status))?;
                closed.extend(answer.into_inner().session);
            }
            show_all(&closed, format)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(client: &Client, args: CreateArgs, json: bool) -> Result<(), Failure> {
    let request = CreateSessionRequest {
        tool: args.tool.clone(),
        target: (args.snapshot.map(Target::SnapshotId))
            .or(args.container.map(Target::ContainerId))
            .or(args.pool.map(Target::Pool))
            .map(|target| SessionTarget { target: Some(target) }),
        limits: Some(args.own.limits()?),
        durability: args.own.durability(),
        parameters: args
            .kernel
            .map(|name| prost_types::Struct { fields: [("kernel".to_owned(), Kind::StringValue(name).into())].into() }),
        environment: args.environment.into_iter().collect(),
        labels: args.own.labels.into_iter().collect(),
        request_id: args.own.request_id,
    };
    let answer = client.sessions().create_session(request).await;
    let what = || format!("no session of {:?} was started", args.tool);
    let session = answer.map_err(|status| client.failure(what(), &status))?.into_inner().session;
    match json {
        true => show(session, Format::Json),
        // For `--session $(casemate sessions create ...)`: the id and nothing else, also where nobody looks.
        false => output::line(&session.unwrap_or_default().id),
    }
}

fn show(session: Option<Session>, format: Format) -> Result<(), Failure> {
    let session = session.unwrap_or_default();
    match format {
        Format::Json => output::json(&present::session::json(&session)),
        Format::Human => output::line(&present::session::detail(&session)),
    }
}

fn show_all(sessions: &[Session], format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => {
            let sessions: Vec<Value> = sessions.iter().map(present::session::json).collect();
            output::json(&json!({ "sessions": sessions }))
        }
        Format::Human if sessions.is_empty() => output::line("No sessions."),
        Format::Human => output::line(&present::session::table(sessions)),
    }
}

async fn list(client: &Client, args: ListArgs, format: Format) -> Result<(), Failure> {
    let filter = SessionFilter {
        states: args.states.into_iter().map(|state| state.message().into()).collect(),
        tool: args.tool,
        container_id: args.container,
        labels: args.labels.into_iter().collect(),
        ..Default::default()
    };
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    let mut sessions: Vec<Session> = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListSessionsRequest {
            page_size: i32::try_from((limit - sessions.len()).min(PAGE)).unwrap_or_default(),
            page_token,
            filter: Some(filter.clone()),
        };
        let page = client.sessions().list_sessions(request).await;
        let page = page.map_err(|status| client.failure("sessions cannot be listed", &status))?.into_inner();
        sessions.extend(page.sessions);
        page_token = page.next_page_token;
        if page_token.is_empty() || sessions.len() >= limit {
            break;
        }
    }
    sessions.truncate(limit);
    show_all(&sessions, format)
}
