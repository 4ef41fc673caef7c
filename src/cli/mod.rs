//! The command line: one file per verb.
//!
//! `init`, `serve`, `config` and `health` are for whoever runs the server; `tools`, `run`, `executions`,
//! `sessions`, `snapshots`, `containers`, `pool`, `exec`, `attach`, `cp`, `ls`, `cat`, `watch` and `forward` are clients of it.
//! People get tables when standard output is a terminal, programs get
//! JSON otherwise or with `--json`. An error is three lines: what failed, why, what to do.

mod build;
mod client;
mod compile_module;
mod config;
mod containers;
mod exec;
mod executions;
mod failure;
mod files;
mod follow;
mod health;
mod init;
mod inputs;
mod interpreters;
mod left;
mod manifest;
mod offline;
mod output;
mod pool;
mod present;
mod retry;
mod run;
mod save;
mod serve;
mod sessions;
mod snapshots;
mod strip_types;
mod tools;

use crate::config::{ClientSettings, Environment};
use clap::{Args, Parser, Subcommand};
use failure::Failure;
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;

const EXIT_CODES: &str = "\
Exit codes:
  0    success
  1    refused or failed
  2    wrong usage, or a configuration that cannot be used
  3    the server cannot be reached, or cannot take the call now; trying again later can help
  4    not authenticated, or not allowed
  5    there is no such tool, execution, session, snapshot, container, pool or lease
  `run`, `executions watch`, `exec` and `attach` exit as the guest did: with its own code, 124
  after the time limit, 130 when cancelled, 134 for a trap, 137 for the memory limit, 128 and its
  number for a signal, 65 for output its schema refuses, 70 when the server or the container ended
  it. For a failure of their own they exit with 125, not 1.
  A server that is told twice to stop exits at once, with 130 (SIGINT) or 143 (SIGTERM).";

/// Sandboxed execution for AI agents.
#[derive(Debug, Parser)]
#[command(name = "casemate", version, after_long_help = EXIT_CODES, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Flags of every verb.
#[derive(Clone, Debug, Args)]
struct Global {
    /// The server: host:port, http://host:port or unix:PATH. For `serve`, the IP:PORT to listen on.
    /// Else CASEMATE_ADDRESS (clients only), else server.address of the configuration
    #[arg(long, global = true, value_name = "ADDRESS")]
    address: Option<String>,
    /// The bearer token. Other users of this machine can see flags: prefer CASEMATE_TOKEN or the file
    #[arg(long, global = true, value_name = "TOKEN", hide_short_help = true)]
    token: Option<String>,
    /// The configuration file. Else CASEMATE_CONFIG, else ./casemate.toml, else
    /// ~/.config/casemate/casemate.toml
    #[arg(long, global = true, value_name = "PATH")]
    config: Option<PathBuf>,
    /// Print JSON, also on a terminal
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write a configuration file with a fresh token
    Init(init::InitArgs),
    /// Run the server
    Serve(serve::ServeArgs),
    /// Print the configuration in force, secrets masked
    Config,
    /// Ask a server whether it is ready (exit code 0) or not (1); works without a token
    Health(health::HealthArgs),
    /// List, inspect and change the tools of a server
    #[command(subcommand)]
    Tools(tools::ToolsVerb),
    /// Run a tool: its output appears as it is written, and its exit code is this command's
    Run(Box<run::RunArgs>),
    /// List, watch and cancel executions
    #[command(subcommand)]
    Executions(executions::ExecutionsVerb),
    /// Install Python and JavaScript, and show what is installed
    #[command(subcommand)]
    Interpreters(interpreters::InterpretersVerb),
    /// Start, list, copy, freeze and close sessions: interpreters that keep their state between calls
    #[command(subcommand)]
    Sessions(sessions::SessionsVerb),
    /// Build, list and delete snapshots: frozen states to start from
    #[command(subcommand)]
    Snapshots(snapshots::SnapshotsVerb),
    /// Make, list, watch and end containers: sandboxes that run commands
    #[command(subcommand)]
    Containers(containers::ContainersVerb),
    /// Make, list, change and delete pools of containers, and lease from them
    #[command(subcommand)]
    Pool(pool::PoolVerb),
    /// Run a command in a container: its streams are this command's, and so is its exit code
    Exec(exec::ExecArgs),
    /// Attach to a command that runs in a container
    Attach(exec::AttachArgs),
    /// Copy files and directories into a container or out of it
    Cp(files::CopyArgs),
    /// List a directory of a container
    Ls(files::ListArgs),
    /// Print files of containers
    Cat(files::CatArgs),
    /// Print changes of files in a container as they happen
    Watch(files::WatchArgs),
    /// Listen here for ports of a container, until it is over
    Forward(files::ForwardArgs),
    /// Compile one module from standard input: what the server starts for each new module
    #[command(hide = true)]
    CompileModule(compile_module::CompileModuleArgs),
    /// Blank the types of TypeScript from standard input: what the server starts for each source
    #[command(hide = true)]
    StripTypes(strip_types::StripTypesArgs),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are "errors" too; clap knows the stream and the code of each. Where not
            // even this can be printed there is nobody left to tell.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match dispatch(cli) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn dispatch(cli: Cli) -> Result<ExitCode, Failure> {
    let Cli { global, verb } = cli;
    match verb {
        // Before any thread exists: the child bounds its own memory first.
        Verb::CompileModule(args) => Ok(compile_module::run(&args)),
        Verb::StripTypes(args) => Ok(strip_types::run(&args)),
        Verb::Init(args) => init::run(&args, &global),
        Verb::Serve(args) => serve::run(args, global),
        Verb::Interpreters(verb) => interpreters::run(verb, &global),
        Verb::Config => config::run(&global),
        Verb::Health(args) => as_client(health::run(&args, &global)),
        Verb::Tools(verb) => as_client(tools::run(verb, &global)),
        Verb::Run(args) => as_client(run::run(*args, &global)).map_err(Failure::of_a_run),
        Verb::Executions(verb) => as_client(executions::run(verb, &global)),
        Verb::Sessions(verb) => as_client(sessions::run(verb, &global)),
        Verb::Snapshots(verb) => as_client(snapshots::run(verb, &global)),
        Verb::Containers(verb) => as_client(containers::run(verb, &global)),
        Verb::Pool(verb) => as_client(pool::run(verb, &global)),
        Verb::Exec(args) => as_client(exec::run(args, &global)).map_err(Failure::of_a_run),
        Verb::Cp(args) => as_client(files::copy(args, &global)),
        Verb::Ls(args) => as_client(files::list(args, &global)),
        Verb::Cat(args) => as_client(files::cat(args, &global)),
        Verb::Watch(args) => as_client(files::watch(args, &global)),
        Verb::Forward(args) => as_client(files::forward(args, &global)),
        Verb::Attach(args) => as_client(exec::attach(args, &global)).map_err(Failure::of_a_run),
    }
}

impl Global {
    /// Where the server is, and with which token.
    fn client_settings(&self) -> Result<ClientSettings, Failure> {
        let environment = Environment::of_process();
        Ok(ClientSettings::resolve(self.config.clone(), &environment, self.address.as_deref(), self.token.as_deref())?)
    }
}

/// Runs a client verb: one thread is plenty for one call at a time.
fn as_client(verb: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::local("the client could not start", error))?;
    let result = runtime.block_on(verb);
    // A read of standard input that nobody waits for any more would hold up the exit.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_stand_before_or_after_the_verb() {
        for line in ["casemate --json --address a:1 tools list", "casemate tools list --address a:1 --json"] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!((cli.global.address.as_deref(), cli.global.json), (Some("a:1"), true));
        }
    }
}
