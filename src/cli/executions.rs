//! `casemate executions`: what runs and what ran.

use super::client::Client;
use super::failure::Failure;
use super::follow::{Follower, Style, conclude};
use super::left::Left;
use super::output::Format;
use super::run::label;
use super::save::Saver;
use super::{Global, output, present};
use crate::proto::v1::{
    CancelExecutionRequest, Execution, ExecutionFilter, ExecutionState, GetExecutionRequest, ListExecutionsRequest,
};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

/// Executions in one page of a listing; the server allows no more.
const PAGE: usize = 1000;

#[derive(Debug, Subcommand)]
pub enum ExecutionsVerb {
    /// List executions, newest first
    List(ListArgs),
    /// Show one execution
    Get {
        /// Id of the execution
        id: String,
    },
    /// Print what an execution wrote and writes, to its end, also after a dropped connection
    Watch {
        /// Id of the execution
        id: String,
        /// Begin with this event; 1 is the first
        #[arg(long, value_name = "SEQUENCE", default_value_t = 1)]
        from: u64,
        /// Save the files and the images that the run gives back into this directory, and nowhere else
        #[arg(long, value_name = "DIR")]
        output_dir: Option<PathBuf>,
    },
    /// End an execution
    Cancel {
        /// Id of the execution
        id: String,
        /// Why, for the record
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
}

/// Which executions to list.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only in this state; can be repeated
    #[arg(long = "state", value_name = "STATE")]
    states: Vec<State>,
    /// Only runs of this tool
    #[arg(long, value_name = "NAME", default_value = "")]
    tool: String,
    /// Only runs in this session
    #[arg(long, value_name = "ID", default_value = "")]
    session: String,
    /// Only runs that the code of this execution started
    #[arg(long, value_name = "ID", default_value = "")]
    parent: String,
    /// Only with this label; can be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Only from the last SPAN, such as 1h
    #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration)]
    since: Option<Duration>,
    /// At most so many; 0 means all
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    limit: usize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum State {
    Queued,
    Running,
    Succeeded,
    Failed,
    TimedOut,
    Cancelled,
    Lost,
}

impl State {
    fn message(self) -> ExecutionState {
        match self {
            State::Queued => ExecutionState::Queued,
            State::Running => ExecutionState::Running,
            State::Succeeded => ExecutionState::Succeeded,
            State::Failed => ExecutionState::Failed,
            State::TimedOut => ExecutionState::TimedOut,
            State::Cancelled => ExecutionState::Cancelled,
            State::Lost => ExecutionState::Lost,
        }
    }
}

/// Does what the verb says.
pub async fn run(verb: ExecutionsVerb, global: &Global) -> Result<ExitCode, Failure> {
    let client = Client::connect(global).await?;
    let format = Format::choose(global);
    match verb {
        ExecutionsVerb::List(args) => list(&client, args, format).await?,
        ExecutionsVerb::Get { id } => {
            let answer = client.executions().get_execution(GetExecutionRequest { execution_id: id.clone() }).await;
            let answer = answer.map_err(|status| client.failure(format!("execution {id} cannot be shown"), &status))?;
            show(answer.into_inner().execution, format)?;
        }
        ExecutionsVerb::Watch { id, from, output_dir } => {
            let left = Left::new(output_dir.map(Saver::new).transpose()?);
            let style = if global.json { Style::Events } else { Style::Output };
            let mut follower = Follower::new(client, style, left, id, from.saturating_sub(1));
            let end = follower.watch().await.map_err(Failure::of_a_run)?;
            return Ok(ExitCode::from(conclude(style, follower.id(), &end)));
        }
        ExecutionsVerb::Cancel { id, reason } => {
            let request = CancelExecutionRequest { execution_id: id.clone(), reason, request_id: String::new() };
            let answer = client.executions().cancel_execution(request).await;
            let answer =
                answer.map_err(|status| client.failure(format!("execution {id} was not cancelled"), &status))?;
            show(answer.into_inner().execution, format)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(execution: Option<Execution>, format: Format) -> Result<(), Failure> {
    let execution = execution.unwrap_or_default();
    match format {
        Format::Json => output::json(&present::execution::json(&execution)),
        Format::Human => output::line(&present::execution::detail(&execution)),
    }
}

async fn list(client: &Client, args: ListArgs, format: Format) -> Result<(), Failure> {
    let filter = ExecutionFilter {
        states: args.states.into_iter().map(|state| state.message().into()).collect(),
        tool: args.tool,
        session_id: args.session,
        parent_execution_id: args.parent,
        labels: args.labels.into_iter().collect(),
        // A span that reaches beyond the clock's beginning asks for everything.
        created_after: args.since.and_then(|span| SystemTime::now().checked_sub(span)).map(Into::into),
        ..Default::default()
    };
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    let mut executions: Vec<Execution> = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListExecutionsRequest {
            page_size: i32::try_from((limit - executions.len()).min(PAGE)).unwrap_or_default(),
            page_token,
            filter: Some(filter.clone()),
        };
        let page = client.executions().list_executions(request).await;
        let page = page.map_err(|status| client.failure("executions cannot be listed", &status))?.into_inner();
        executions.extend(page.executions);
        page_token = page.next_page_token;
        if page_token.is_empty() || executions.len() >= limit {
            break;
        }
    }
    executions.truncate(limit);
    match format {
        Format::Json => {
            let executions: Vec<Value> = executions.iter().map(present::execution::json).collect();
            output::json(&json!({ "executions": executions }))
        }
        Format::Human if executions.is_empty() => output::line("No executions."),
        Format::Human => output::line(&present::execution::table(&executions)),
    }
}
