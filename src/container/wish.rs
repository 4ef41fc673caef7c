//! What somebody asks of a container, or a template says: everything may be left out.

use crate::domain::container::{Hardening, Mount, Port, PullPolicy, SandboxPolicy, Tmpfs, Workspace};
use crate::domain::health_check::HealthCheck;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// A container somebody wants. What is unset is for the template to say, and then for the server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Wish {
    /// Name of a template; empty for the default one.
    pub template: String,
    /// Reference of the image; empty for the template's.
    pub image: String,
    /// When to pull it.
    pub pull: Option<PullPolicy>,
    /// Entry point.
    pub entrypoint: Vec<String>,
    /// Main process or its arguments.
    pub command: Vec<String>,
    /// Variables; merged with the template's.
    pub environment: BTreeMap<String, String>,
    /// Labels; merged with the template's.
    pub labels: BTreeMap<String, String>,
    /// User; empty for none in particular.
    pub user: String,
    /// Working directory; empty for none in particular.
    pub working_directory: String,
    /// Host name; empty for none in particular.
    pub hostname: String,
    /// What it may consume.
    pub resources: ResourcesWish,
    /// Host directories.
    pub mounts: Vec<Mount>,
    /// File systems in memory.
    pub tmpfs: Vec<Tmpfs>,
    /// Where work goes to. Empty and zero fields are for the server to say.
    pub workspace: Option<Workspace>,
    /// Ports.
    pub ports: Vec<Port>,
    /// Longest life.
    pub time_to_live: Option<Duration>,
    /// Longest idle time.
    pub idle_timeout: Option<Duration>,
    /// How long files are kept.
    pub retention: Option<Duration>,
    /// What it may reach.
    pub policy: Option<SandboxPolicy>,
    /// Runtime; empty for none in particular.
    pub runtime: String,
    /// Deviations from the strictest defaults.
    pub hardening: Option<Hardening>,
    /// Stop signal; empty for the image's.
    pub stop_signal: String,
    /// Time between that and the kill.
    pub stop_grace: Option<Duration>,
    /// Id or name of the snapshot to start from, in place of an image; empty for none. Behind all others: what pools
    /// recorded before there was one ends here.
    pub snapshot: String,
    /// How its health is checked.
    pub health_check: Option<HealthCheck>,
}

/// Resources somebody wants; zero and none are for the template or the server to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourcesWish {
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Swap in bytes.
    pub swap_bytes: Option<u64>,
    /// Processor time in thousandths.
    pub cpu_millis: u32,
    /// Share of the processor.
    pub cpu_weight: u32,
    /// Processes and threads.
    pub pids: u32,
    /// Open files.
    pub open_files: u64,
    /// Size of the writable layer.
    pub disk_bytes: u64,
    /// Size of /dev/shm.
    pub shared_memory_bytes: u64,
    /// Output of the main process that is kept.
    pub log_bytes: u64,
    /// Executions at a time.
    pub executions: u32,
}

impl Wish {
    /// This wish, with a template's word where it is silent. Lists replace the template's, maps are merged.
    pub fn over(self, template: &Wish) -> Wish {
        let text = |own: String, other: &String| if own.is_empty() { other.clone() } else { own };
        let (resources, other) = (self.resources, &template.resources);
        // One place to start from: whoever names either leaves no room for the template's.
        let (image, snapshot) = match self.image.is_empty() && self.snapshot.is_empty() {
            true => (template.image.clone(), template.snapshot.clone()),
            false => (self.image, self.snapshot),
        };
        Wish {
            health_check: self.health_check.or_else(|| template.health_check.clone()),
            template: self.template,
            image,
            pull: self.pull.or(template.pull),
            entrypoint: list(self.entrypoint, &template.entrypoint),
            command: list(self.command, &template.command),
            environment: merged(&template.environment, self.environment),
            labels: merged(&template.labels, self.labels),
            user: text(self.user, &template.user),
            working_directory: text(self.working_directory, &template.working_directory),
            hostname: text(self.hostname, &template.hostname),
            resources: ResourcesWish {
                memory_bytes: number(resources.memory_bytes, other.memory_bytes),
                swap_bytes: resources.swap_bytes.or(other.swap_bytes),
                cpu_millis: number(resources.cpu_millis, other.cpu_millis),
                cpu_weight: number(resources.cpu_weight, other.cpu_weight),
                pids: number(resources.pids, other.pids),
                open_files: number(resources.open_files, other.open_files),
                disk_bytes: number(resources.disk_bytes, other.disk_bytes),
                shared_memory_bytes: number(resources.shared_memory_bytes, other.shared_memory_bytes),
                log_bytes: number(resources.log_bytes, other.log_bytes),
                executions: number(resources.executions, other.executions),
            },
            mounts: list(self.mounts, &template.mounts),
            tmpfs: list(self.tmpfs, &template.tmpfs),
            workspace: self.workspace.or_else(|| template.workspace.clone()),
            ports: list(self.ports, &template.ports),
            time_to_live: self.time_to_live.or(template.time_to_live),
            idle_timeout: self.idle_timeout.or(template.idle_timeout),
            retention: self.retention.or(template.retention),
            policy: self.policy.or(template.policy),
            runtime: text(self.runtime, &template.runtime),
            hardening: self.hardening.or_else(|| template.hardening.clone()),
            stop_signal: text(self.stop_signal, &template.stop_signal),
            stop_grace: self.stop_grace.or(template.stop_grace),
            snapshot,
        }
    }
}

fn list<T: Clone>(own: Vec<T>, other: &[T]) -> Vec<T> {
    if own.is_empty() { other.to_vec() } else { own }
}

fn merged(base: &BTreeMap<String, String>, own: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut all = base.clone();
    all.extend(own);
    all
}

fn number<T: PartialEq + Default>(own: T, other: T) -> T {
    if own == T::default() { other } else { own }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_wins_over_its_template() {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let template = Wish {
            image: "a".into(),
            command: vec!["x".into()],
            environment: map(&[("A", "1"), ("B", "1")]),
            resources: ResourcesWish { memory_bytes: 7, pids: 9, ..Default::default() },
            idle_timeout: Some(Duration::from_secs(1)),
            ..Wish::default()
        };
        let wish = Wish {
            command: vec!["y".into(), "z".into()],
            environment: map(&[("B", "2")]),
            resources: ResourcesWish { pids: 3, swap_bytes: Some(0), ..Default::default() },
            ..Wish::default()
        };
        let both = wish.over(&template);
        assert_eq!((both.image.as_str(), both.command.len()), ("a", 2));
        assert_eq!(both.environment, map(&[("A", "1"), ("B", "2")]));
        assert_eq!((both.resources.memory_bytes, both.resources.pids, both.resources.swap_bytes), (7, 3, Some(0)));
        assert_eq!(both.idle_timeout, Some(Duration::from_secs(1)));
    }

    #[test]
    fn a_container_starts_from_one_place() {
        let of =
            |image: &str, snapshot: &str| Wish { image: image.into(), snapshot: snapshot.into(), ..Wish::default() };
        let both = |own: Wish, template: Wish| {
            let wish = own.over(&template);
            (wish.image, wish.snapshot)
        };
        let pair = |image: &str, snapshot: &str| (image.to_owned(), snapshot.to_owned());
        assert_eq!(both(of("", ""), of("", "s")), pair("", "s"));
        assert_eq!(both(of("a", ""), of("", "s")), pair("a", ""));
        assert_eq!(both(of("", "s"), of("b", "")), pair("", "s"));
        assert_eq!(both(of("", ""), of("b", "")), pair("b", ""));
    }
}
