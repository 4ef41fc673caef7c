//! What the kernel counts of a sandbox: files of its control group, of both versions.

use crate::domain::container::Consumption;
use crate::domain::time::Timestamp;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where control groups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// What the sandbox `id` consumes, whose first process is `pid`; none where the files are not in reach. The number alone
/// may be another machine's, or another process's by now: the control group bears the sandbox's name.
pub(super) fn read(pid: u32, id: &str) -> Option<Consumption> {
    let groups = Groups::find(&fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?, id, Path::new(MOUNT))?;
    let mut consumption = groups.read()?;
    let interfaces = fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    (consumption.network_received_bytes, consumption.network_sent_bytes) = network(&interfaces);
    consumption.time = Timestamp::now();
    Some(consumption)
}

/// The directories of a sandbox's control groups.
#[derive(Debug, PartialEq, Eq)]
enum Groups {
    V1 { memory: PathBuf, cpu: PathBuf, cpuacct: PathBuf, pids: PathBuf, blkio: PathBuf },
    V2(PathBuf),
}

impl Groups {
    /// Finds them by the lines of `/proc/PID/cgroup`, each `number:controllers:path`.
    fn find(lines: &str, id: &str, mount: &Path) -> Option<Groups> {
        let place = |controller: &str| -> Option<PathBuf> {
            let path = lines.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let (controllers, path) = (parts.next()?, parts.next()?);
                controllers.split(',').any(|one| one == controller).then_some(path)
            })?;
            // The first process may have moved to a group below its sandbox's.
            let end = path.find(id)? + id.len();
            let end = path[end..].find('/').map_or(path.len(), |more| end + more);
            let below = path[..end].trim_start_matches('/');
            let clean = !id.is_empty() && !below.split('/').any(|part| part == "..");
            clean.then(|| mount.join(controller).join(below))
        };
        match place("memory") {
            Some(memory) => Some(Groups::V1 {
                memory,
                cpu: place("cpu")?,
                cpuacct: place("cpuacct")?,
                pids: place("pids")?,
                blkio: place("blkio")?,
            }),
            None => place("").map(Groups::V2),
        }
    }

    fn read(&self) -> Option<Consumption> {
        match self {
            Groups::V1 { memory, cpu, cpuacct, pids, blkio } => {
                let usage = number(memory, "memory.usage_in_bytes")?;
                let detail = text(memory, "memory.stat");
                let (read, written) = blkio_bytes(&first(
                    blkio,
                    ["blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"],
                ));
                Some(Consumption {
                    cpu_time: Duration::from_nanos(number(cpuacct, "cpuacct.usage")?),
                    throttled_time: Duration::from_nanos(field(&text(cpu, "cpu.stat"), "throttled_time")),
                    memory_bytes: usage.saturating_sub(field(&detail, "total_inactive_file")),
                    memory_peak_bytes: number(memory, "memory.max_usage_in_bytes").unwrap_or(0),
                    memory_limit_bytes: field(&detail, "hierarchical_memory_limit"),
                    swap_bytes: field(&detail, "total_swap"),
                    cache_bytes: field(&detail, "total_cache"),
                    oom_kills: field(&text(memory, "memory.oom_control"), "oom_kill"),
                    pids: small(number(pids, "pids.current")),
                    pids_limit: small(number(pids, "pids.max")),
                    block_read_bytes: read,
                    block_written_bytes: written,
                    ..Consumption::default()
                })
            }
            Groups::V2(group) => {
                let usage = number(group, "memory.current")?;
                let detail = text(group, "memory.stat");
                let cpu = text(group, "cpu.stat");
                let (read, written) = io_bytes(&text(group, "io.stat"));
                Some(Consumption {
                    cpu_time: Duration::from_micros(field(&cpu, "usage_usec")),
                    throttled_time: Duration::from_micros(field(&cpu, "throttled_usec")),
                    memory_bytes: usage.saturating_sub(field(&detail, "inactive_file")),
                    // Linux 5.19 and later.
                    memory_peak_bytes: number(group, "memory.peak").unwrap_or(0),
                    memory_limit_bytes: number(group, "memory.max").unwrap_or(0),
                    swap_bytes: number(group, "memory.swap.current").unwrap_or(0),
                    cache_bytes: field(&detail, "file"),
                    oom_kills: field(&text(group, "memory.events"), "oom_kill"),
                    pids: small(number(group, "pids.current")),
                    pids_limit: small(number(group, "pids.max")),
                    block_read_bytes: read,
                    block_written_bytes: written,
                    ..Consumption::default()
                })
            }
        }
    }
}

fn text(group: &Path, name: &str) -> String {
    fs::read_to_string(group.join(name)).unwrap_or_default()
}

/// The first of two files that says something: which one does depends on the kernel.
fn first(group: &Path, names: [&str; 2]) -> String {
    let texts = names.iter().map(|name| text(group, name));
    texts.into_iter().find(|text| text.lines().count() > 1).unwrap_or_default()
}

/// None for a file that is not there, and for `max`.
fn number(group: &Path, name: &str) -> Option<u64> {
    fs::read_to_string(group.join(name)).ok()?.trim().parse().ok()
}

fn small(number: Option<u64>) -> u32 {
    number.and_then(|number| u32::try_from(number).ok()).unwrap_or(0)
}

/// The number behind a name, in lines of both.
fn field(text: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(found, _)| *found == name).and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(0)
}

/// Bytes read and written, in lines such as `8:0 Read 4096`.
fn blkio_bytes(text: &str) -> (u64, u64) {
    let sum = |wanted: &str| {
        let mut total: u64 = 0;
        for line in text.lines() {
            let mut parts = line.split_whitespace().skip(1);
            if parts.next() == Some(wanted) {
                total += parts.next().and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
            }
        }
        total
    };
    (sum("Read"), sum("Write"))
}

/// Bytes read and written, in lines such as `8:0 rbytes=4096 wbytes=0 rios=1`.
fn io_bytes(text: &str) -> (u64, u64) {
    let sum = |wanted: &str| {
        let words = text.split_whitespace().filter_map(|word| word.strip_prefix(wanted));
        words.filter_map(|value| value.parse::<u64>().ok()).sum()
    };
    (sum("rbytes="), sum("wbytes="))
}

/// Bytes received and sent by all interfaces but the loopback, by the lines of `/proc/PID/net/dev`.
fn network(text: &str) -> (u64, u64) {
    let (mut received, mut sent) = (0, 0);
    for line in text.lines().skip(2) {
        let Some((name, counters)) = line.split_once(':') else { continue };
        if name.trim() == "lo" {
            continue;
        }
        let counter = |at: usize| counters.split_whitespace().nth(at).and_then(|value| value.parse::<u64>().ok());
        received += counter(0).unwrap_or(0);
        sent += counter(8).unwrap_or(0);
    }
    (received, sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_the_name_of_the_sandbox() {
        let mount = Path::new("/c");
        let v1 = "9:memory:/docker/abc\n8:cpu,cpuacct:/docker/abc\n7:pids:/docker/abc\n6:blkio:/docker/abc\n0::/";
        let place = |controller: &str| mount.join(controller).join("docker/abc");
        let expected = Groups::V1 {
            memory: place("memory"),
            cpu: place("cpu"),
            cpuacct: place("cpuacct"),
            pids: place("pids"),
            blkio: place("blkio"),
        };
        assert_eq!(Groups::find(v1, "abc", mount), Some(expected));
        let v2 = "0::/system.slice/docker-abc.scope/below";
        assert_eq!(Groups::find(v2, "abc", mount), Some(Groups::V2("/c/system.slice/docker-abc.scope".into())));
        // Another process, another machine.
        assert_eq!(Groups::find("0::/system.slice/docker-abd.scope", "abc", mount), None);
        assert_eq!(Groups::find("0::/../../abc", "abc", mount), None);
        assert_eq!(Groups::find("", "abc", mount), None);
    }

    #[test]
    fn the_second_version_is_read() {
        let group = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("memory.current", "5000\n"),
            ("memory.max", "max\n"),
            ("memory.peak", "9000\n"),
            ("memory.stat", "anon 1\nfile 2000\ninactive_file 1500\n"),
            ("memory.events", "low 0\noom 2\noom_kill 3\n"),
            ("cpu.stat", "usage_usec 7\nthrottled_usec 2\n"),
            ("pids.current", "4\n"),
            ("pids.max", "64\n"),
            ("io.stat", "8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=1 wbytes=2\n"),
        ] {
            std::fs::write(group.path().join(name), text).unwrap();
        }
        let read = Groups::V2(group.path().into()).read().unwrap();
        assert_eq!((read.memory_bytes, read.memory_peak_bytes, read.memory_limit_bytes), (3500, 9000, 0));
        assert_eq!((read.cpu_time, read.throttled_time), (Duration::from_micros(7), Duration::from_micros(2)));
        assert_eq!((read.oom_kills, read.pids, read.pids_limit, read.cache_bytes), (3, 4, 64, 2000));
        assert_eq!((read.block_read_bytes, read.block_written_bytes), (11, 22));
    }

    #[test]
    fn counters_are_summed() {
        assert_eq!(blkio_bytes("8:0 Read 5\n8:0 Write 6\n8:0 Total 11\n8:16 Read 1\nTotal 12"), (6, 6));
        let interfaces = "Inter-|\n face |\n    lo: 9 0 0 0 0 0 0 0 9 0\n  eth0: 5 1 0 0 0 0 0 0 7 1\n";
        assert_eq!(network(interfaces), (5, 7));
    }
}
