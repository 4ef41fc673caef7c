//! `casemate containers spawn`: a container, from its image or template.

use super::super::client::Client;
use super::super::failure::Failure;
use super::super::output;
use super::super::output::Format;
use super::super::run::label;
use super::health::HealthArgs;
use super::{failure, show, span};
use crate::proto::v1::container_spec::Source;
use crate::proto::v1::{
    ContainerHardening, ContainerMount, ContainerResources, ContainerSpec, ImagePullPolicy, SandboxPolicy,
    SpawnContainerRequest, TmpfsMount, Workspace,
};
use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use std::time::Duration;
use uuid::Uuid;

/// What to make.
#[derive(Debug, Args)]
pub struct SpawnArgs {
    /// Reference of the image, such as docker.io/library/python:3.13; may be left out with --template
    #[arg(required_unless_present_any = ["template", "snapshot"])]
    image: Option<String>,
    /// Start from this snapshot of a container, by name or id, in place of an image
    #[arg(long, value_name = "NAME", conflicts_with = "image")]
    snapshot: Option<String>,
    /// Its main process or its arguments, after --; none means the image's
    #[arg(last = true)]
    command: Vec<String>,
    /// What it is called; none lets the server choose
    #[arg(long, value_name = "NAME", default_value = "")]
    name: String,
    #[command(flatten)]
    spec: SpecArgs,
    /// End it after this time, whatever happens, such as 8h
    #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration)]
    ttl: Option<Duration>,
    /// End it after this time in which nothing happens in it
    #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration)]
    idle: Option<Duration>,
    /// A UUID that makes a retry return the first container instead of making another
    #[arg(long, value_name = "UUID", default_value = "")]
    request_id: String,
}

/// What containers are made from, their image, command and clocks aside.
#[derive(Debug, Args)]
pub struct SpecArgs {
    /// Begin with this template of the server's configuration
    #[arg(long, value_name = "NAME")]
    template: Option<String>,
    /// Set an environment variable; can be repeated
    #[arg(long = "env", value_name = "KEY=VALUE", value_parser = label)]
    environment: Vec<(String, String)>,
    /// Attach a label; can be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// User of all processes: uid, uid:gid, or names that the image knows
    #[arg(long, value_name = "USER", default_value = "")]
    user: String,
    /// Working directory; none means the workspace
    #[arg(long, value_name = "PATH", default_value = "")]
    workdir: String,
    /// Memory of all processes together, such as 512MiB
    #[arg(long, value_name = "SIZE")]
    memory: Option<ByteSize>,
    /// Processors it may use, such as 1.5
    #[arg(long, value_name = "COUNT", value_parser = cpu_millis)]
    cpus: Option<u32>,
    /// Processes and threads
    #[arg(long, value_name = "COUNT")]
    pids: Option<u32>,
    /// Size of its workspace, such as 1GiB
    #[arg(long, value_name = "SIZE")]
    workspace: Option<ByteSize>,
    /// Let it see a directory of the server's host, read-only without :rw; can be repeated
    #[arg(long = "mount", value_name = "HOST:INSIDE[:rw]", value_parser = mount)]
    mounts: Vec<ContainerMount>,
    /// Give it a file system in memory; can be repeated
    #[arg(long = "tmpfs", value_name = "INSIDE[:SIZE]", value_parser = tmpfs)]
    tmpfs: Vec<TmpfsMount>,
    /// What it may reach
    #[arg(long, value_name = "POLICY")]
    policy: Option<Policy>,
    /// Name of the runtime, such as runsc
    #[arg(long, value_name = "NAME", default_value = "")]
    runtime: String,
    /// When to pull the image
    #[arg(long, value_name = "WHEN")]
    pull: Option<Pull>,
    /// Let processes write to the root file system
    #[arg(long)]
    writable_root: bool,
    /// Keep this capability, such as CAP_CHOWN; can be repeated
    #[arg(long = "cap-add", value_name = "CAPABILITY")]
    capabilities: Vec<String>,
    #[command(flatten)]
    health: HealthArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Policy {
    /// The server's gate alone
    Container,
    /// A network of its own, past the gate
    ContainerDirect,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Pull {
    /// When it is not there
    IfMissing,
    /// Each time
    Always,
    /// Not at all
    Never,
}

/// `1.5` as thousandths.
fn cpu_millis(text: &str) -> Result<u32, String> {
    let expected = || "expected a number of processors, such as 1.5".to_owned();
    let cpus: f64 = text.parse().map_err(|_| expected())?;
    let millis = (cpus * 1000.0).round();
    if !(1.0..=1e9).contains(&millis) {
        return Err(expected());
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // whole and within the bounds above
    Ok(millis as u32)
}

/// `HOST:INSIDE`, `HOST:INSIDE:ro` or `HOST:INSIDE:rw`.
fn mount(text: &str) -> Result<ContainerMount, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (host, inside, writable) = match parts[..] {
        [host, inside] | [host, inside, "ro"] => (host, inside, false),
        [host, inside, "rw"] => (host, inside, true),
        _ => return Err("expected HOST:INSIDE or HOST:INSIDE:rw".to_owned()),
    };
    if !host.starts_with('/') || !inside.starts_with('/') {
        return Err("both paths begin with a slash: the first is one of the server's host".to_owned());
    }
    Ok(ContainerMount { host_path: host.to_owned(), container_path: inside.to_owned(), writable })
}

/// `INSIDE` or `INSIDE:SIZE`.
fn tmpfs(text: &str) -> Result<TmpfsMount, String> {
    let (path, size) = match text.split_once(':') {
        None => (text, 0),
        Some((path, size)) => {
            let size: ByteSize = size.parse().map_err(|_| format!("{size:?} is no size, such as 64MiB"))?;
            (path, size.as_u64())
        }
    };
    if !path.starts_with('/') {
        return Err("expected an absolute path".to_owned());
    }
    // As /tmp is, so that any user of the container can write there.
    Ok(TmpfsMount { container_path: path.to_owned(), size_bytes: size, mode: Some(0o1777), executable: false })
}

impl SpecArgs {
    /// The specification, with this image and command.
    pub fn message(self, image: Option<String>, command: Vec<String>) -> Result<ContainerSpec, Failure> {
        let resources = ContainerResources {
            memory_bytes: self.memory.map_or(0, |size| size.as_u64()),
            cpu_millis: self.cpus.unwrap_or_default(),
            pids: self.pids.unwrap_or_default(),
            ..Default::default()
        };
        let hardening = ContainerHardening {
            writable_root: self.writable_root,
            add_capabilities: self.capabilities,
            ..Default::default()
        };
        let policy = self.policy.map_or(SandboxPolicy::Unspecified, |policy| match policy {
            Policy::Container => SandboxPolicy::Container,
            Policy::ContainerDirect => SandboxPolicy::ContainerDirect,
        });
        let pull_policy = self.pull.map_or(ImagePullPolicy::Unspecified, |pull| match pull {
            Pull::IfMissing => ImagePullPolicy::IfMissing,
            Pull::Always => ImagePullPolicy::Always,
            Pull::Never => ImagePullPolicy::Never,
        });
        // What is not asked for is left to the template.
        Ok(ContainerSpec {
            template: self.template.unwrap_or_default(),
            source: image.map(Source::Image),
            pull_policy: pull_policy.into(),
            command,
            environment: self.environment.into_iter().collect(),
            labels: self.labels.into_iter().collect(),
            user: self.user,
            working_directory: self.workdir,
            resources: (resources != ContainerResources::default()).then_some(resources),
            mounts: self.mounts,
            tmpfs: self.tmpfs,
            workspace: self.workspace.map(|size| Workspace { size_bytes: size.as_u64(), ..Default::default() }),
            policy: policy.into(),
            runtime: self.runtime,
            hardening: (hardening != ContainerHardening::default()).then_some(hardening),
            health_check: self.health.message()?,
            ..Default::default()
        })
    }

    /// The template, if one is named.
    fn template(&self) -> Option<&str> {
        self.template.as_deref()
    }
}

impl SpawnArgs {
    fn request(self) -> Result<SpawnContainerRequest, Failure> {
        let spec = ContainerSpec {
            time_to_live: span("--ttl", self.ttl)?,
            idle_timeout: span("--idle", self.idle)?,
            ..self.spec.message(self.image, self.command)?
        };
        let spec = match self.snapshot {
            Some(snapshot) => ContainerSpec { source: Some(Source::SnapshotId(snapshot)), ..spec },
            None => spec,
        };
        let request_id = match self.request_id {
            // A transport that sends it twice then makes one.
            id if id.is_empty() => Uuid::now_v7().to_string(),
            id => id,
        };
        Ok(SpawnContainerRequest { spec: Some(spec), name: self.name, request_id })
    }
}

/// Makes the container.
pub async fn run(client: &Client, args: SpawnArgs, json: bool) -> Result<(), Failure> {
    let of = match (&args.image, &args.snapshot, args.spec.template()) {
        (Some(image), _, _) => format!("image {image:?}"),
        (None, Some(snapshot), _) => format!("snapshot {snapshot:?}"),
        (None, None, template) => format!("template {:?}", template.unwrap_or_default()),
    };
    let answer = client.containers().spawn_container(args.request()?).await;
    let answer = answer.map_err(|status| failure(client, format!("no container of {of} was made"), &status))?;
    let container = answer.into_inner().container.unwrap_or_default();
    match json {
        true => show(&container, Format::Json),
        // For `casemate exec $(casemate containers spawn ...)`: the id and nothing else, also where nobody looks.
        false => output::line(&container.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: SpawnArgs,
    }

    fn request(line: &str) -> SpawnContainerRequest {
        let line = Line::try_parse_from(["spawn"].into_iter().chain(line.split_whitespace())).unwrap();
        line.args.request().unwrap()
    }

    #[test]
    fn an_image_a_template_or_both() {
        let spec = request("python:3 --cpus 1.5 --memory 1GiB -- sleep --help").spec.unwrap();
        assert_eq!((spec.source, spec.template.as_str()), (Some(Source::Image("python:3".into())), ""));
        assert_eq!(spec.command, ["sleep", "--help"]);
        let resources = spec.resources.unwrap();
        assert_eq!((resources.cpu_millis, resources.memory_bytes), (1500, 1 << 30));
        let spec = request("--template t -- true").spec.unwrap();
        assert_eq!((spec.source, spec.template.as_str(), spec.command.len()), (None, "t", 1));
        assert_eq!((spec.resources, spec.hardening, spec.workspace), (None, None, None));
        let spec = request("--snapshot first -- true").spec.unwrap();
        assert_eq!((spec.source, spec.command.len()), (Some(Source::SnapshotId("first".into())), 1));
        assert!(Line::try_parse_from(["spawn", "x", "--snapshot", "first"]).is_err());
        assert!(Line::try_parse_from(["spawn"]).is_err());
        assert!(!request("x").request_id.is_empty());
    }

    #[test]
    fn mounts_and_file_systems_are_read() {
        assert!(mount("/a:/b:rw").unwrap().writable);
        assert!(!mount("/a:/b").unwrap().writable);
        for text in ["", "/a", "a:/b", "/a:b", "/a:/b:rx", "/a:/b:rw:x"] {
            assert!(mount(text).is_err(), "{text}");
        }
        assert_eq!(tmpfs("/x:1MiB").unwrap().size_bytes, 1 << 20);
        assert!(tmpfs("x").is_err() && tmpfs("/x:much").is_err());
        assert_eq!((cpu_millis("0.25"), cpu_millis("0").is_err(), cpu_millis("NaN").is_err()), (Ok(250), true, true));
    }
}
