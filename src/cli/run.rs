//! `casemate run`: a tool, from parameters to exit code.

use super::client::Client;
use super::failure::{Failure, USAGE};
use super::follow::{Follower, Style, conclude};
use super::inputs::InputArgs;
use super::left::Left;
use super::save::Saver;
use super::{Global, output};
use crate::interpreter::install::Artifact;
use crate::proto::v1::execution_event::Event;
use crate::proto::v1::tool_call::Input;
use crate::proto::v1::tool_target::Target;
use crate::proto::v1::{
    CancelExecutionRequest, ExecuteToolStreamRequest, ExecuteToolStreamResponse, ExecutionLimits, ToolCall, ToolTarget,
};
use clap::Args;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::StreamExt;
use tonic::{Response, Streaming};

/// The exit code of a command that SIGINT ended.
const INTERRUPTED: u8 = 130;
/// Names the execution before its first event, where the server does.
const ID_HEADER: &str = "casemate-execution-id";

/// What to run, and how.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Name of the tool
    tool: String,
    /// The parameters: a JSON object, or - to read it from standard input. For python, javascript, notebook and code,
    /// code as it is will do; for shell, a command
    #[arg(value_name = "JSON", default_value = "{}")]
    parameters: String,
    #[command(flatten)]
    inputs: InputArgs,
    /// Save the files and the images that the run gives back into this directory, and nowhere else
    #[arg(long, value_name = "DIR", conflicts_with = "detach")]
    output_dir: Option<PathBuf>,
    /// Run in this session, by id: with its state, which the run may change
    #[arg(long, value_name = "ID", conflicts_with_all = ["snapshot", "container", "pool"])]
    session: Option<String>,
    /// Run only if the session is at this turn
    #[arg(long, value_name = "TURN", requires = "session")]
    expected_turn: Option<u64>,
    /// Run in a fresh isolate from this snapshot, by name or id
    #[arg(long, value_name = "NAME", conflicts_with_all = ["container", "pool"])]
    snapshot: Option<String>,
    /// Run inside this container, by name or id
    #[arg(long = "in", value_name = "CONTAINER", conflicts_with = "pool")]
    container: Option<String>,
    /// Run inside a container of this pool, which is destroyed afterwards
    #[arg(long, value_name = "POOL")]
    pool: Option<String>,
    /// What the code is written in, for the tool code
    #[arg(long, value_name = "NAME")]
    language: Option<String>,
    /// End the run after this time, such as 30s
    #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// Attach a label; can be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// A UUID that makes a retry return the first execution instead of running again
    #[arg(long, value_name = "UUID", default_value = "")]
    request_id: String,
    /// Print the id once the run has begun, and leave it running
    #[arg(long)]
    detach: bool,
}

/// Code or a command that was given as it is, as parameters.
fn of_code(tool: &str, text: String, inside: bool, language: Option<&str>) -> String {
    use serde_json::json;
    let is_object = || serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text).is_ok();
    match (tool, language) {
        (_, Some(language)) => json!({ "language": language, "code": text }).to_string(),
        ("shell", None) if inside && !is_object() => json!({ "command": text }).to_string(),
        ("notebook", None) if !is_object() => json!({ "code": text }).to_string(),
        _ if Artifact::of(tool).is_none() || is_object() => text,
        _ => json!({ "code": text }).to_string(),
    }
}

/// `key=value`.
pub fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

/// Runs the tool. Output goes to standard output as it comes, whether or not that is a terminal;
/// `--json` asks for the events instead.
pub async fn run(args: RunArgs, global: &Global) -> Result<ExitCode, Failure> {
    let parameters = match &*args.parameters {
        "-" if args.inputs.takes_stdin() => {
            let todo = "give the one as an argument, or the other with --stdin FILE";
            let why = "both are to be read from standard input";
            return Err(Failure::new(USAGE, "the parameters and --stdin exclude each other", why, todo));
        }
        "-" => read_stdin()?,
        _ => args.parameters,
    };
    let inside = args.container.is_some() || args.pool.is_some();
    let parameters = of_code(&args.tool, parameters, inside, args.language.as_deref());
    let saver = args.output_dir.map(Saver::new).transpose()?;
    let client = Client::connect(global).await?;
    let wall_time = match args.timeout.map(prost_types::Duration::try_from).transpose() {
        Ok(wall_time) => wall_time,
        Err(error) => return Err(Failure::local("--timeout cannot be sent", error)),
    };
    let mut call = ToolCall {
        tool: args.tool.clone(),
        input: Some(Input::ParametersJson(parameters)),
        limits: wall_time.map(|wall_time| ExecutionLimits { wall_time: Some(wall_time), ..Default::default() }),
        labels: args.labels.into_iter().collect(),
        request_id: args.request_id,
        target: (args.session.map(Target::SessionId))
            .or(args.snapshot.map(Target::SnapshotId))
            .or(args.container.map(Target::ContainerId))
            .or(args.pool.map(Target::Pool))
            .map(|target| ToolTarget { target: Some(target), expected_turn: args.expected_turn }),
        ..Default::default()
    };
    args.inputs.put_into(&mut call)?;
    let request = ExecuteToolStreamRequest { call: Some(call), keepalive_seconds: 0 };
    let answer = client.tools().execute_tool_stream(request).await;
    let answer = answer.map_err(|status| client.failure(format!("tool {:?} did not run", args.tool), &status))?;
    let style = if global.json { Style::Events } else { Style::Output };
    if args.detach {
        let id = begun(&client, answer).await?;
        match style {
            Style::Events => output::json(&serde_json::json!({ "id": id }))?,
            Style::Output => output::line(&id)?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    attached(client, style, Left::new(saver), answer).await
}

fn read_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    match std::io::stdin().lock().read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) => Err(Failure::local("the parameters could not be read from standard input", error)),
    }
}

fn id_of(answer: &Response<Streaming<ExecuteToolStreamResponse>>) -> String {
    let header = answer.metadata().get(ID_HEADER).and_then(|value| value.to_str().ok());
    header.unwrap_or_default().to_owned()
}

/// The id of an execution that has begun. Leaving the stream then detaches.
async fn begun(client: &Client, answer: Response<Streaming<ExecuteToolStreamResponse>>) -> Result<String, Failure> {
    let id = id_of(&answer);
    if !id.is_empty() {
        return Ok(id);
    }
    let mut stream = answer.into_inner();
    loop {
        match stream.message().await {
            Ok(Some(message)) => {
                if let Some(Event::Started(started)) = message.event.and_then(|event| event.event) {
                    return Ok(started.execution_id);
                }
            }
            Ok(None) => return Err(Failure::local("the run told no id", "the stream ended before its first event")),
            Err(status) => return Err(client.failure("the run told no id", &status)),
        }
    }
}

async fn attached(
    client: Client,
    style: Style,
    left: Left,
    answer: Response<Streaming<ExecuteToolStreamResponse>>,
) -> Result<ExitCode, Failure> {
    // Heard from here on: before anything of the run is printed.
    let mut interrupts =
        signal(SignalKind::interrupt()).map_err(|error| Failure::local("interrupts cannot be heard", error))?;
    let id = id_of(&answer);
    let (tell_id, told_id) = tokio::sync::watch::channel(id.clone());
    let events = answer.into_inner().map(move |message| {
        let message = message?;
        if let Some(Event::Started(started)) = message.event.as_ref().and_then(|event| event.event.as_ref()) {
            tell_id.send_replace(started.execution_id.clone());
        }
        Ok(message.event)
    });
    let mut follower = Follower::new(client.clone(), style, left, id, 0);
    let end = {
        let follow = follower.read_then_watch(events);
        tokio::pin!(follow);
        tokio::select! {
            end = &mut follow => Some(end?),
            _ = interrupts.recv() => {
                // Ask for the end, and go on printing until it comes; a second time is final.
                tokio::select! {
                    end = async {
                        let (end, ()) = tokio::join!(&mut follow, cancel(&client, told_id.borrow().clone()));
                        end
                    } => Some(end?),
                    _ = interrupts.recv() => None,
                }
            }
        }
    };
    Ok(ExitCode::from(match end {
        Some(end) => conclude(style, follower.id(), &end),
        None => INTERRUPTED,
    }))
}

async fn cancel(client: &Client, id: String) {
    if id.is_empty() {
        eprintln!("casemate: the run has not begun; press again to leave it to the server");
        return;
    }
    let request = CancelExecutionRequest {
        execution_id: id.clone(),
        reason: "interrupted at the terminal".into(),
        request_id: String::new(),
    };
    if let Err(status) = client.executions().cancel_execution(request).await {
        // The stream goes on; how the run ends is still told.
        eprintln!("casemate: execution {id} could not be cancelled: {}", status.message());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_may_stand_for_parameters() {
        let cases = [
            ("python", "print(1)\n", r#"{"code":"print(1)\n"}"#),
            ("python", r#"{"code": "1"}"#, r#"{"code": "1"}"#),
            ("javascript", "({a: 1})", r#"{"code":"({a: 1})"}"#),
            ("echo", "no JSON", "no JSON"),
        ];
        for (tool, text, expected) in cases {
            assert_eq!(of_code(tool, text.into(), false, None), expected);
        }
        assert_eq!(of_code("shell", "ls".into(), true, None), r#"{"command":"ls"}"#);
        assert_eq!(of_code("shell", "ls".into(), false, None), "ls");
        assert_eq!(of_code("notebook", "x = 1".into(), false, None), r#"{"code":"x = 1"}"#);
        let code = of_code("code", "{}".into(), true, Some("c"));
        assert_eq!(code, r#"{"code":"{}","language":"c"}"#);
    }
}
