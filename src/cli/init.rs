//! `casemate init`: a configuration file with a fresh token.

use super::Global;
use super::failure::{FAILED, Failure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// 256 bits: what `serve` compares against for years must not be guessed.
const TOKEN_BYTES: usize = 32;

/// Where to write.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The file to write
    #[arg(long, value_name = "PATH", default_value = "casemate.toml")]
    path: PathBuf,
    /// Replace a file that exists; its token stops working when the server restarts
    #[arg(long)]
    force: bool,
}

/// Writes the file and says how to use it.
pub fn run(args: &InitArgs, global: &Global) -> Result<ExitCode, Failure> {
    let mut random = [0u8; TOKEN_BYTES];
    getrandom::fill(&mut random).map_err(|error| Failure::local("the system gave no random numbers", error))?;
    let token = URL_SAFE_NO_PAD.encode(random);
    write(&args.path, &file(&token), args.force)?;
    let path = args.path.display().to_string();
    if global.json {
        super::output::json(&serde_json::json!({ "path": path }))?;
    } else {
        super::output::bytes(usage(&path).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes the file with mode 0600 and never through somebody else's link: a new file, under its own name
/// or under a temporary one that then takes the place of the old file as a whole.
fn write(path: &Path, text: &str, force: bool) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        if error.kind() == ErrorKind::AlreadyExists {
            let todo = "use the file that is there, choose another with --path, or replace it with --force";
            return Failure::new(FAILED, format!("{} was not written", path.display()), "it exists", todo);
        }
        Failure::local(format!("{} was not written", path.display()), error)
    };
    let create = |path: &Path| -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    if !force {
        return create(path).map_err(failed);
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.new", std::process::id()));
    let temporary = PathBuf::from(temporary);
    create(&temporary).and_then(|()| std::fs::rename(&temporary, path)).map_err(|error| {
        // If it is not there, there is nothing to remove.
        let _ = std::fs::remove_file(&temporary);
        failed(error)
    })
}

fn file(token: &str) -> String {
    format!(
        r#"# Configuration of casemate. Every key with its default and range: docs/configuration.md.
# `casemate config` prints what is in force. Keep this file to yourself: it holds the token.

[auth]
# Every call must carry it: `authorization: Bearer TOKEN`. The casemate command reads it from here.
token = "{token}"

[server]
# Where gRPC listens. With a token it may be more than loopback: "0.0.0.0:9800".
address = "127.0.0.1:9800"
# A Unix socket as well.
# socket = "/run/casemate/casemate.sock"

[http]
# /health and /metrics. They take no token.
address = "127.0.0.1:9801"

[tools]
# NAME.wasm and, optionally, NAME.toml or NAME.json. Changes take effect by themselves.
directory = "tools"

[store]
# The database and compiled modules.
directory = "casemate-data"

# What one run may use unless it asks for something else, and what it can get at most.
# [limits.default]
# wall_time = "30s"
# memory = "64MiB"
# [limits.cap]
# wall_time = "1h"
# memory = "512MiB"
"#
    )
}

fn usage(path: &str) -> String {
    let config = if path == "casemate.toml" { String::new() } else { format!(" --config {path}") };
    format!(
        r#"Wrote {path} with a fresh token; only you can read it.

Start the server:    casemate serve{config}
See its tools:       casemate tools list{config}
Run one:             casemate run echo '{{"text":"hello"}}'{config}
The same by grpcurl: grpcurl -plaintext \
                       -H "authorization: Bearer $(sed -n 's/^token = "\(.*\)"$/\1/p' {path})" \
                       -d '{{"call":{{"tool":"echo","parameters":{{"text":"hello"}}}}}}' \
                       127.0.0.1:9800 casemate.v1.Tools/ExecuteTool
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Secret};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_file_is_the_defaults_and_a_token() {
        let token = "t".repeat(43);
        let config: Config = toml::from_str(&file(&token)).unwrap();
        let mut expected = Config::default();
        expected.auth.token = Some(Secret::new(token));
        assert_eq!(config, expected);
        assert_eq!(config.validate(), []);
    }

    #[test]
    fn what_is_commented_out_is_true_as_well() {
        let text: String = file("x")
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(key) if key.starts_with('[') || (key.contains(" = ") && !key.starts_with("socket")) => {
                    format!("{key}\n")
                }
                _ => format!("{line}\n"),
            })
            .collect();
        let config: Config = toml::from_str(&text).unwrap();
        assert_eq!(config.limits, Config::default().limits);
    }

    #[test]
    fn a_file_is_replaced_only_when_asked_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("casemate.toml");
        write(&path, "one", false).unwrap();
        assert!(write(&path, "two", false).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
        // A file that others could read does not lend its mode to the new one.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        write(&path, "three", true).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
