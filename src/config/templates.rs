//! `[containers.templates.NAME]`: what containers are made from, by name.

use super::forms;
use crate::container::{ResourcesWish, Wish};
use crate::domain::container::{Hardening, Mount, PullPolicy, SandboxPolicy, Tmpfs, Workspace};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// A template. What is unset or empty is for the server to say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TemplateSection {
    /// Reference of the image.
    pub image: String,
    /// Id or name of the snapshot of a container to start from, in place of an image.
    pub snapshot: String,
    /// When to pull it: "if_missing", "always" or "never".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull: Option<PullPolicy>,
    /// Entry point.
    #[serde(with = "forms::texts")]
    pub entrypoint: Vec<String>,
    /// Main process or its arguments.
    #[serde(with = "forms::texts")]
    pub command: Vec<String>,
    /// Variables.
    pub environment: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// User.
    pub user: String,
    /// Working directory.
    pub working_directory: String,
    /// Memory, in bytes.
    #[serde(with = "forms::size")]
    pub memory: u64,
    /// Processor time in thousandths of a CPU.
    #[serde(with = "forms::count")]
    pub cpu_millis: u32,
    /// Processes and threads.
    #[serde(with = "forms::count")]
    pub pids: u32,
    /// Executions at a time.
    #[serde(with = "forms::count")]
    pub executions: u32,
    /// Size of the workspace.
    #[serde(with = "forms::size")]
    pub workspace: u64,
    /// Host directories that it sees, each `/host:/inside` or `/host:/inside:rw`.
    #[serde(with = "forms::texts")]
    pub mounts: Vec<String>,
    /// File systems in memory, each `/inside` or `/inside:64MiB`.
    #[serde(with = "forms::texts")]
    pub tmpfs: Vec<String>,
    /// Longest life; 0s is for the server to say.
    #[serde(with = "forms::duration")]
    pub time_to_live: Duration,
    /// Longest idle time; 0s is for the server to say.
    #[serde(with = "forms::duration")]
    pub idle_timeout: Duration,
    /// What it may reach: "container" or "container_direct".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<SandboxPolicy>,
    /// Runtime.
    pub runtime: String,
    /// Whether the root file system can be written.
    #[serde(with = "forms::switch")]
    pub writable_root: bool,
    /// Capabilities that are kept.
    #[serde(with = "forms::texts")]
    pub capabilities: Vec<String>,
    /// Name of a seccomp profile.
    pub seccomp_profile: String,
}

impl TemplateSection {
    /// What is wrong with lists whose entries have a form; each with its key.
    pub(super) fn malformed(&self) -> Vec<(&'static str, String)> {
        let mounts = self.mounts.iter().filter_map(|text| Some(("mounts", mount(text).err()?)));
        let tmpfs = self.tmpfs.iter().filter_map(|text| Some(("tmpfs", memory_file_system(text).err()?)));
        let both = !self.image.is_empty() && !self.snapshot.is_empty();
        let text = format!("found {:?} beside an image, expected one or the other", self.snapshot);
        mounts.chain(tmpfs).chain(both.then_some(("snapshot", text))).collect()
    }

    /// The template as a wish.
    pub(super) fn wish(&self) -> Wish {
        let span = |span: Duration| (!span.is_zero()).then_some(span);
        let workspace = Workspace { container_path: String::new(), name: String::new(), size_bytes: self.workspace };
        let hardening = Hardening {
            writable_root: self.writable_root,
            capabilities: self.capabilities.clone(),
            seccomp_profile: self.seccomp_profile.clone(),
            ..Hardening::default()
        };
        Wish {
            image: self.image.clone(),
            snapshot: self.snapshot.clone(),
            pull: self.pull,
            entrypoint: self.entrypoint.clone(),
            command: self.command.clone(),
            environment: self.environment.clone(),
            labels: self.labels.clone(),
            user: self.user.clone(),
            working_directory: self.working_directory.clone(),
            resources: ResourcesWish {
                memory_bytes: self.memory,
                cpu_millis: self.cpu_millis,
                pids: self.pids,
                executions: self.executions,
                ..ResourcesWish::default()
            },
            mounts: self.mounts.iter().filter_map(|text| mount(text).ok()).collect(),
            tmpfs: self.tmpfs.iter().filter_map(|text| memory_file_system(text).ok()).collect(),
            workspace: (self.workspace > 0).then_some(workspace),
            time_to_live: span(self.time_to_live),
            idle_timeout: span(self.idle_timeout),
            policy: self.policy,
            runtime: self.runtime.clone(),
            hardening: (hardening != Hardening::default()).then_some(hardening),
            ..Wish::default()
        }
    }
}

fn mount(text: &str) -> Result<Mount, String> {
    let expected = || format!("found {text:?}, expected \"/host:/inside\" or \"/host:/inside:rw\"");
    let parts: Vec<&str> = text.split(':').collect();
    let (host, inside, writable) = match parts[..] {
        [host, inside] | [host, inside, "ro"] => (host, inside, false),
        [host, inside, "rw"] => (host, inside, true),
        _ => return Err(expected()),
    };
    if !host.starts_with('/') || !inside.starts_with('/') {
        return Err(expected());
    }
    Ok(Mount { host_path: host.into(), container_path: inside.into(), writable })
}

fn memory_file_system(text: &str) -> Result<Tmpfs, String> {
    let expected = || format!("found {text:?}, expected \"/inside\" or \"/inside:64MiB\"");
    let (path, size) = match text.split_once(':') {
        Some((path, size)) => (path, size.parse::<bytesize::ByteSize>().map_err(|_| expected())?.as_u64()),
        None => (text, 0),
    };
    if !path.starts_with('/') {
        return Err(expected());
    }
    Ok(Tmpfs { container_path: path.into(), size_bytes: size, mode: 0o1777, executable: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_starts_from_one_place() {
        let of = |image: &str, snapshot: &str| TemplateSection {
            image: image.into(),
            snapshot: snapshot.into(),
            ..Default::default()
        };
        assert!(of("a", "").malformed().is_empty() && of("", "s").malformed().is_empty());
        assert_eq!(of("a", "s").malformed()[0].0, "snapshot");
        assert_eq!((of("", "s").wish().snapshot.as_str(), of("", "s").wish().image.as_str()), ("s", ""));
    }

    #[test]
    fn mounts_and_file_systems_are_read() {
        assert!(mount("/a:/b:rw").unwrap().writable);
        assert!(!mount("/a:/b").unwrap().writable);
        for text in ["", "/a", "a:/b", "/a:/b:rx", "/a:/b:rw:x"] {
            assert!(mount(text).is_err(), "{text}");
        }
        assert_eq!(memory_file_system("/x:1MiB").unwrap().size_bytes, 1 << 20);
        assert!(memory_file_system("x").is_err() && memory_file_system("/x:much").is_err());
    }
}
