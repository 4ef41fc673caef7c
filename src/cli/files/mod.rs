//! `casemate cp`, `ls`, `cat`, `watch` and `forward`: files and ports of containers.

mod copy;
mod folder;
mod forward;
mod list;
mod watch;

pub use copy::CopyArgs;
pub use forward::ForwardArgs;
pub use list::ListArgs;
pub use watch::WatchArgs;

use super::Global;
use super::client::Client;
use super::failure::Failure;
use super::output::Format;
use clap::Args;
use std::process::ExitCode;
use std::str::FromStr;

/// Something in a container: `CONTAINER:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inside {
    /// Name or id of the container.
    container: String,
    /// Absolute, or relative to the workspace; empty for the workspace itself.
    path: String,
}

impl FromStr for Inside {
    type Err = String;

    fn from_str(text: &str) -> Result<Inside, String> {
        match text.split_once(':') {
            // What has a slash before its colon is a path here.
            Some((container, path)) if !container.is_empty() && !container.contains('/') => {
                Ok(Inside { container: container.to_owned(), path: path.to_owned() })
            }
            _ => Err("expected CONTAINER:PATH, such as box:notes/today.txt".into()),
        }
    }
}

impl std::fmt::Display for Inside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.container, self.path)
    }
}

/// What to print.
#[derive(Debug, Args)]
pub struct CatArgs {
    /// The files
    #[arg(required = true, value_name = "CONTAINER:PATH")]
    files: Vec<Inside>,
}

/// Copies.
pub async fn copy(args: CopyArgs, global: &Global) -> Result<ExitCode, Failure> {
    copy::run(&Client::connect(global).await?, args).await
}

/// Lists a directory.
pub async fn list(args: ListArgs, global: &Global) -> Result<ExitCode, Failure> {
    list::run(&Client::connect(global).await?, args, Format::choose(global)).await
}

/// Prints files.
pub async fn cat(args: CatArgs, global: &Global) -> Result<ExitCode, Failure> {
    let client = Client::connect(global).await?;
    for file in args.files {
        copy::read(&client, &file, &mut tokio::io::stdout(), &mut copy::Progress::none()).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints changes.
pub async fn watch(args: WatchArgs, global: &Global) -> Result<ExitCode, Failure> {
    watch::run(&Client::connect(global).await?, args, Format::choose(global)).await
}

/// Listens here for ports there.
pub async fn forward(args: ForwardArgs, global: &Global) -> Result<ExitCode, Failure> {
    forward::run(&Client::connect(global).await?, args).await
}

/// The failure of a call about something in a container.
fn failure(client: &Client, what: impl Into<String>, status: &tonic::Status) -> Failure {
    super::containers::failure(client, what, status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_told_from_paths() {
        let inside = |container: &str, path: &str| Inside { container: container.into(), path: path.into() };
        assert_eq!("box:a/b".parse(), Ok(inside("box", "a/b")));
        assert_eq!("box:".parse(), Ok(inside("box", "")));
        assert_eq!("box:/a:b".parse(), Ok(inside("box", "/a:b")));
        for here in ["a/b", "./a:b", "/a:b", ":x", "file", "-"] {
            assert!(here.parse::<Inside>().is_err(), "{here}");
        }
    }
}
