//! `casemate exec` and `casemate attach`: commands in containers, as if they ran here.

mod dialogue;
mod feed;
mod local;
mod terminal;

use super::client::Client;
use super::failure::{Failure, USAGE};
use super::follow::{Style, aside, conclude};
use super::run::label;
use super::{Global, containers, output};
use crate::proto::v1::{ExecutionLimits, ExitReason, GetExecutionRequest, ProcessSpec, StartProcessRequest};
use clap::Args;
use dialogue::{Dialogue, End};
use feed::Feed;
use serde_json::json;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;
use uuid::Uuid;

/// What to run, and where.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// Name or id of the container
    container: String,
    /// The program and its arguments; no shell is involved
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
    /// Give it the standard input of this command
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal, which is this one: all keys are its own, but ctrl-p ctrl-q detaches. Implies -i
    #[arg(short, long)]
    tty: bool,
    /// Set an environment variable; can be repeated
    #[arg(long = "env", value_name = "KEY=VALUE", value_parser = label)]
    environment: Vec<(String, String)>,
    /// Working directory; none means the container's
    #[arg(long, value_name = "PATH", default_value = "")]
    workdir: String,
    /// User: uid, uid:gid, or names that the image knows; none means the container's
    #[arg(long, value_name = "USER", default_value = "")]
    user: String,
    /// End it after this time, such as 30s
    #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// Attach a label to the execution; can be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// A UUID that makes a retry return the first execution instead of running again
    #[arg(long, value_name = "UUID", default_value = "")]
    request_id: String,
    /// Print the id of the execution once it runs, and leave it running; with -i its input stays open
    #[arg(long)]
    detach: bool,
}

/// To what to attach.
#[derive(Debug, Args)]
pub struct AttachArgs {
    /// Id of the execution
    execution: String,
    /// Give it the standard input of this command; if it has a terminal and this is one, also the keys and
    /// the size
    #[arg(short, long)]
    interactive: bool,
    /// Begin with its first output, with what comes now, or with this event
    #[arg(long, value_name = "live|start|SEQUENCE", default_value = "start")]
    from: From,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Start,
    Live,
    Sequence(u64),
}

impl FromStr for From {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "start" => Ok(From::Start),
            "live" => Ok(From::Live),
            number => number.parse().map(From::Sequence).map_err(|_| "expected live, start or a number"),
        }
    }
}

fn style(global: &Global) -> Style {
    if global.json { Style::Events } else { Style::Output }
}

impl ExecArgs {
    fn request(self) -> Result<(StartProcessRequest, Feed), Failure> {
        let input = self.interactive || self.tty;
        let process = ProcessSpec {
            command: self.command,
            environment: self.environment.into_iter().collect(),
            working_directory: self.workdir,
            user: self.user,
            terminal: self.tty.then(terminal::size),
            keep_stdin_open: input,
            ..Default::default()
        };
        let wall_time = containers::span("--timeout", self.timeout)?;
        let request = StartProcessRequest {
            container_id: self.container,
            process: Some(process),
            limits: wall_time.map(|wall_time| ExecutionLimits { wall_time: Some(wall_time), ..Default::default() }),
            labels: self.labels.into_iter().collect(),
            request_id: match self.request_id {
                // A start whose answer got lost is asked for again, and must not start twice.
                id if id.is_empty() => Uuid::now_v7().to_string(),
                id => id,
            },
        };
        Ok((request, if input { Feed::fresh() } else { Feed::empty() }))
    }
}

/// Runs a command. Output goes where it would if it ran here, and the exit code is its own; `--json` asks
/// for the events instead.
pub async fn run(args: ExecArgs, global: &Global) -> Result<ExitCode, Failure> {
    let style = style(global);
    if args.tty && !args.detach {
        if !std::io::stdin().is_terminal() {
            return Err(Failure::new(
                USAGE,
                "the command cannot have this terminal",
                "standard input is not one",
                "leave out -t; -i alone gives it the standard input of this command as it is",
            ));
        }
        if style == Style::Events {
            let todo = "leave out one of them";
            return Err(Failure::new(USAGE, "--json and -t exclude each other", "a terminal shows no events", todo));
        }
    }
    let client = Client::connect(global).await?;
    let what = format!("the command did not run in container {:?}", args.container);
    let detach = args.detach;
    let (request, feed) = args.request()?;
    if detach {
        let answer = client.containers().start_process(request).await;
        let answer = answer.map_err(|status| containers::failure(&client, what, &status))?;
        let id = answer.into_inner().execution.unwrap_or_default().id;
        match style {
            Style::Events => output::json(&json!({ "id": id }))?,
            Style::Output => output::line(&id)?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    speak(Dialogue::start(client, style, request, feed)?, style).await
}

/// Attaches to a command that runs, or ran.
pub async fn attach(args: AttachArgs, global: &Global) -> Result<ExitCode, Failure> {
    let style = style(global);
    let client = Client::connect(global).await?;
    let seen = match args.from {
        From::Start => 0,
        From::Sequence(sequence) => sequence.saturating_sub(1),
        From::Live => {
            let request = GetExecutionRequest { execution_id: args.execution.clone() };
            let answer = client.executions().get_execution(request).await;
            let what = || format!("execution {} cannot be attached to", args.execution);
            let answer = answer.map_err(|status| containers::failure(&client, what(), &status))?;
            let execution = answer.into_inner().execution.unwrap_or_default();
            // Of one that is over, the end alone is news.
            execution.last_sequence.saturating_sub(u64::from(execution.result.is_some()))
        }
    };
    speak(Dialogue::attach(client, style, args.execution, seen, args.interactive)?, style).await
}

/// Speaks to the end, and gives the exit code that tells of it.
async fn speak(mut dialogue: Dialogue, style: Style) -> Result<ExitCode, Failure> {
    let end = dialogue.hold().await?;
    let left = |dialogue: &Dialogue, how: &str| {
        let text = match dialogue.id() {
            "" => format!("\ncasemate: {how}; the command may run: `casemate executions list` shows it\n"),
            id => format!("\ncasemate: {how}; `casemate attach -i --from {} {id}` goes on\n", dialogue.next_sequence()),
        };
        aside(text.as_bytes());
    };
    let code = match end {
        End::Finished(end) => match end.result.as_ref().map(|result| (result.exit_reason(), result.exit_code)) {
            // The command's own word: it has said itself what there is to say.
            Some((ExitReason::Exited, code)) => u8::try_from(code & 0xff).unwrap_or(1),
            _ => conclude(style, dialogue.id(), &end),
        },
        End::Detached => {
            left(&dialogue, "detached");
            0
        }
        End::Left(signal) => {
            dialogue.cancelled().await;
            left(&dialogue, "left");
            u8::try_from(128 + signal).unwrap_or(1)
        }
    };
    Ok(ExitCode::from(code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: ExecArgs,
    }

    #[test]
    fn what_follows_the_command_is_its_own() {
        for line in ["exec -i box ls -l --env x -- y", "exec -i box -- ls -l --env x -- y"] {
            let args = Line::try_parse_from(line.split(' ')).unwrap().args;
            assert_eq!(args.command, ["ls", "-l", "--env", "x", "--", "y"], "{line}");
            assert!(args.interactive && args.environment.is_empty());
        }
        assert!(Line::try_parse_from(["exec", "box"]).is_err());
        assert_eq!(("live".parse(), "7".parse()), (Ok(From::Live), Ok(From::Sequence(7))));
        assert!("soon".parse::<From>().is_err());
    }
}
