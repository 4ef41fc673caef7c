//! `casemate interpreters`: installs Python and JavaScript, and shows what is installed.

use super::Global;
use super::failure::Failure;
use super::output::{self, Format};
use crate::config::{Environment, Sources, load};
use crate::interpreter::install::{ARTIFACTS, Artifact, Install, Installed};
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What to do with interpreters.
#[derive(Debug, Subcommand)]
pub enum InterpretersVerb {
    /// Fetch, verify, compile and preload them; what is done is skipped
    Install(InstallArgs),
    /// Show which are installed
    List(ListArgs),
}

/// Flags of `install`.
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// Which ones; all if none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// The package's file, instead of asking its registry; for one interpreter
    #[arg(long, value_name = "FILE", requires = "names")]
    from: Option<PathBuf>,
    /// Where to install. Else interpreters.directory of the configuration
    #[arg(long, value_name = "PATH")]
    directory: Option<PathBuf>,
}

/// Flags of `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Where they are. Else interpreters.directory of the configuration
    #[arg(long, value_name = "PATH")]
    directory: Option<PathBuf>,
}

/// Runs the verb.
pub fn run(verb: InterpretersVerb, global: &Global) -> Result<ExitCode, Failure> {
    match verb {
        InterpretersVerb::Install(args) => {
            let directory = directory(args.directory.clone(), global)?;
            // Compiling takes every core; preloading one.
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
            let runtime = runtime.map_err(|error| Failure::local("the installation could not start", error))?;
            runtime.block_on(install(&args, &directory))
        }
        InterpretersVerb::List(args) => list(&directory(args.directory, global)?, global),
    }
}

fn directory(asked: Option<PathBuf>, global: &Global) -> Result<PathBuf, Failure> {
    if let Some(directory) = asked {
        return Ok(directory);
    }
    let sources = Sources {
        file: global.config.clone(),
        environment: Environment::of_process(),
        flags: super::config::server_flags(global),
    };
    Ok(load(&sources)?.config.interpreters_directory())
}

fn chosen(names: &[String]) -> Result<Vec<&'static Artifact>, Failure> {
    if names.is_empty() {
        return Ok(ARTIFACTS.iter().collect());
    }
    let known: Vec<&str> = ARTIFACTS.iter().map(|artifact| artifact.name).collect();
    let find = |name: &String| {
        Artifact::of(name).ok_or_else(|| {
            Failure::new(
                2,
                format!("there is no interpreter {name:?}"),
                "",
                format!("name one of: {}", known.join(", ")),
            )
        })
    };
    names.iter().map(find).collect()
}

async fn install(args: &InstallArgs, directory: &Path) -> Result<ExitCode, Failure> {
    let artifacts = chosen(&args.names)?;
    if args.from.is_some() && artifacts.len() > 1 {
        return Err(Failure::new(2, "--from is for one interpreter", "", "name one"));
    }
    let tell = |line: &str| eprintln!("{line}");
    for artifact in artifacts {
        let install = Install { directory, from: args.from.as_deref(), tell: &tell };
        install
            .run(artifact)
            .await
            .map_err(|failed| Failure::local(format!("{} could not be installed", artifact.name), failed))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn list(directory: &Path, global: &Global) -> Result<ExitCode, Failure> {
    let fingerprint = crate::interpreter::fingerprint().ok();
    let rows: Vec<_> = ARTIFACTS
        .iter()
        .map(|artifact| {
            let place = directory.join(artifact.name);
            let state = match Installed::read(&place) {
                Ok(installed) if fingerprint.is_some_and(|print| installed.fits(artifact, &print)) => {
                    installed.check(&place).err().unwrap_or_else(|| "installed".into())
                }
                Ok(_) => "installed by another build; install again".into(),
                Err(problem) => problem,
            };
            json!({"name": artifact.name, "package": artifact.package, "version": artifact.version,
                   "licence": artifact.licence, "state": state})
        })
        .collect();
    if Format::choose(global) == Format::Json {
        output::json(&json!({ "interpreters": rows }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let cells = |row| ["name", "package", "version", "state"].map(|key| text(row, key)).to_vec();
    let cells: Vec<Vec<String>> = rows.iter().map(cells).collect();
    output::line(&output::table(&["NAME", "PACKAGE", "VERSION", "STATE"], &cells))?;
    Ok(ExitCode::SUCCESS)
}
