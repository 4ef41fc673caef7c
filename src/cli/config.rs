//! `casemate config`: the configuration in force.

use super::failure::Failure;
use super::{Global, output};
use crate::config::{Environment, Flag, Sources, load};
use std::process::ExitCode;

/// Prints what a server started here and now would use.
pub fn run(global: &Global) -> Result<ExitCode, Failure> {
    let sources =
        Sources { file: global.config.clone(), environment: Environment::of_process(), flags: server_flags(global) };
    let loaded = load(&sources)?;
    let unprintable = |error: &dyn std::fmt::Display| Failure::local("the configuration could not be printed", error);
    if global.json {
        output::json(&serde_json::to_value(&loaded.config).map_err(|error| unprintable(&error))?)?;
    } else {
        let origin = match &loaded.file {
            Some(path) => format!("# read from {}", path.display()),
            None => "# no file was found; defaults, environment and flags".to_owned(),
        };
        let text = toml::to_string(&loaded.config).map_err(|error| unprintable(&error))?;
        output::bytes(format!("{origin}\n{text}").as_bytes())?;
    }
    for warning in loaded.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The global flags as a server takes them.
pub fn server_flags(global: &Global) -> Vec<Flag> {
    let flag = |name, key, value: &Option<String>| value.clone().map(|value| Flag { name, key, value });
    [flag("--address", "server.address", &global.address), flag("--token", "auth.token", &global.token)]
        .into_iter()
        .flatten()
        .collect()
}
