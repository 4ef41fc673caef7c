//! From a blueprint to what Docker is told. Nothing is left to Docker's defaults, which are made for trusted programs
//! and differ between versions; what is not asked for is off.

use crate::container::backend::{Bind, Blueprint};
use crate::domain::container::Tmpfs;
use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount,
    MountBindOptions, MountBindOptionsPropagationEnum, MountTmpfsOptions, MountType, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum,
};
use std::collections::HashMap;

/// The label with the container that a sandbox is for.
pub(super) const CONTAINER_LABEL: &str = "casemate.container";
/// The label with the installation of the server that made it.
pub(super) const INSTALLATION_LABEL: &str = "casemate.installation";

/// The system calls that processes may make unless a blueprint says otherwise, in Docker's form.
pub const SECCOMP: &str = include_str!("seccomp.json");

/// Size of the file system in memory over a directory that an image declares to be a volume.
const VOLUME_BYTES: i64 = 16 << 20;
/// Anyone may write, only owners may remove: what a directory for all looks like.
const FOR_ALL: u32 = 0o1777;
/// A weight of 100 in shares of the processor, Docker's default.
const SHARES_AT_100: u64 = 1024;
/// The least processor time that Docker takes, in thousandths of a CPU.
const MIN_CPU_MILLIS: u32 = 10;
/// Processes of the host stay when memory runs out; sandboxes go first.
const OOM_SCORE: i64 = 500;

/// What of the kernel a sandbox does not see: secrets, addresses, other processes' doings, levers. Files of the kind that
/// runtimes read to size themselves (`cpuinfo`, `meminfo`, `stat`, `/sys/fs/cgroup`, `/sys/devices/system/cpu`) stay.
pub(super) const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/buddyinfo",
    "/proc/config.gz",
    "/proc/interrupts",
    "/proc/iomem",
    "/proc/ioports",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/key-users",
    "/proc/kmsg",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/modules",
    "/proc/pagetypeinfo",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/slabinfo",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/vmallocinfo",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/bpf",
    "/sys/fs/pstore",
    "/sys/fs/selinux",
    "/sys/kernel/debug",
    "/sys/kernel/notes",
    "/sys/kernel/security",
    "/sys/kernel/tracing",
    "/sys/module",
];

/// What a sandbox may read and not write, root or not.
pub(super) const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What matters of the daemon and of the image.
#[derive(Clone, Debug, Default)]
pub(super) struct Surroundings {
    /// Whether control groups are of the first version: only those can keep a sandbox from swapping by its swappiness.
    pub cgroup_v1: bool,
    /// Processors of the daemon's machine; 0 when not known.
    pub cpus: u32,
    /// Directories that the image declares to be volumes.
    pub volumes: Vec<String>,
}

/// What Docker is told to make.
pub(super) fn body(blueprint: &Blueprint, around: &Surroundings) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(blueprint.image_id.clone()),
        // Whole: the image's own entry point and command are the affair of whoever made the blueprint.
        entrypoint: Some(blueprint.init.clone()),
        cmd: Some(Vec::new()),
        env: Some(blueprint.environment.clone()),
        user: Some(blueprint.user.clone()),
        working_dir: Some(blueprint.working_directory.clone()),
        hostname: Some(blueprint.hostname.clone()),
        domainname: Some(String::new()),
        labels: Some(HashMap::from([
            (CONTAINER_LABEL.to_owned(), blueprint.container.to_string()),
            (INSTALLATION_LABEL.to_owned(), blueprint.installation.clone()),
        ])),
        attach_stdin: Some(false),
        attach_stdout: Some(false),
        attach_stderr: Some(false),
        open_stdin: Some(false),
        tty: Some(false),
        // Docker would run the image's check as a process of its own in the sandbox, again and again.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".into()]), ..HealthConfig::default() }),
        host_config: Some(host(blueprint, around)),
        ..ContainerCreateBody::default()
    }
}

fn host(blueprint: &Blueprint, around: &Surroundings) -> HostConfig {
    let resources = &blueprint.resources;
    let memory = signed(resources.memory_bytes);
    HostConfig {
        // Reach.
        network_mode: Some(if blueprint.network { "bridge" } else { "none" }.into()),
        publish_all_ports: Some(false),
        ipc_mode: Some("private".into()),
        pid_mode: Some(String::new()),
        uts_mode: Some(String::new()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        devices: Some(Vec::new()),
        device_requests: Some(Vec::new()),
        // Power.
        privileged: Some(false),
        cap_drop: Some(vec!["ALL".into()]),
        cap_add: Some(blueprint.capabilities.clone()),
        security_opt: Some(security(blueprint)),
        group_add: Some(blueprint.groups.iter().map(u32::to_string).collect()),
        masked_paths: Some(texts(MASKED)),
        readonly_paths: Some(texts(READ_ONLY)),
        runtime: (!blueprint.runtime.is_empty()).then(|| blueprint.runtime.clone()),
        // Files.
        readonly_rootfs: Some(!blueprint.writable_root),
        mounts: Some(mounts(blueprint, around)),
        tmpfs: Some(
            blueprint
                .tmpfs
                .iter()
                .map(|tmpfs| (tmpfs.container_path.clone(), tmpfs_options(tmpfs, &blueprint.user)))
                .collect(),
        ),
        shm_size: Some(signed(resources.shared_memory_bytes)),
        storage_opt: (resources.disk_bytes > 0)
            .then(|| HashMap::from([("size".to_owned(), resources.disk_bytes.to_string())])),
        // Consumption.
        memory: Some(memory),
        // Docker counts both together: the same number is no swap.
        memory_swap: Some(memory.saturating_add(signed(resources.swap_bytes))),
        memory_swappiness: (around.cgroup_v1 && resources.swap_bytes == 0).then_some(0),
        oom_kill_disable: Some(false),
        oom_score_adj: Some(OOM_SCORE),
        nano_cpus: Some(nano_cpus(resources.cpu_millis, around.cpus)),
        cpu_shares: Some(shares(resources.cpu_weight)),
        pids_limit: Some(i64::from(resources.pids)),
        ulimits: Some(vec![ulimit("nofile", signed(resources.open_files)), ulimit("core", 0)]),
        // Life: it ends when it ends, and goes when it is told to.
        init: Some(false),
        auto_remove: Some(false),
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        // The supervisor alone writes there.
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".into()),
            config: Some(HashMap::from([("max-size".into(), "1m".into()), ("max-file".into(), "1".into())])),
        }),
        ..HostConfig::default()
    }
}

fn security(blueprint: &Blueprint) -> Vec<String> {
    let seccomp = blueprint.seccomp.as_deref().unwrap_or(SECCOMP);
    let mut options = vec!["no-new-privileges:true".to_owned(), format!("seccomp={seccomp}")];
    if !blueprint.apparmor.is_empty() {
        options.push(format!("apparmor={}", blueprint.apparmor));
    }
    options
}

/// Mounts, not the older binds: those make a directory of the host that is missing.
fn mounts(blueprint: &Blueprint, around: &Surroundings) -> Vec<Mount> {
    let covered = |volume: &str| {
        let taken = |path: &str| clean(path) == clean(volume);
        blueprint.tmpfs.iter().any(|tmpfs| taken(&tmpfs.container_path))
            || blueprint.binds.iter().any(|bind| taken(&bind.inside))
    };
    let binds = blueprint.binds.iter().map(bind);
    // Docker would make a directory of the host's disk for each, without a limit.
    let volumes = around.volumes.iter().filter(|volume| !covered(volume)).map(|volume| Mount {
        target: Some(clean(volume)),
        typ: Some(MountType::TMPFS),
        tmpfs_options: Some(MountTmpfsOptions {
            size_bytes: Some(VOLUME_BYTES),
            mode: Some(i64::from(FOR_ALL)),
            options: None,
        }),
        ..Mount::default()
    });
    binds.chain(volumes).collect()
}

fn bind(bind: &Bind) -> Mount {
    Mount {
        target: Some(bind.inside.clone()),
        source: Some(bind.host.to_string_lossy().into_owned()),
        typ: Some(MountType::BIND),
        read_only: Some(!bind.writable),
        bind_options: Some(MountBindOptions {
            propagation: Some(MountBindOptionsPropagationEnum::RPRIVATE),
            ..MountBindOptions::default()
        }),
        ..Mount::default()
    }
}

/// A file system in memory that the sandbox's user can write: as its own where the user is known by number, and as one
/// for all otherwise.
fn tmpfs_options(tmpfs: &Tmpfs, user: &str) -> String {
    let access = if tmpfs.executable { "exec" } else { "noexec" };
    let owner = match numbers(user) {
        Some((user, Some(group))) => format!("mode={:o},uid={user},gid={group}", tmpfs.mode),
        Some((user, None)) => format!("mode={:o},uid={user}", tmpfs.mode),
        None => format!("mode={FOR_ALL:o}"),
    };
    format!("rw,nosuid,nodev,{access},size={},{owner}", tmpfs.size_bytes)
}

/// A user, and a group if one is named, by number; none when either has a name.
fn numbers(user: &str) -> Option<(u32, Option<u32>)> {
    match user.split_once(':') {
        Some((user, group)) => Some((user.parse().ok()?, Some(group.parse().ok()?))),
        None => Some((user.parse().ok()?, None)),
    }
}

/// More than there is means all there is; Docker would refuse it.
fn nano_cpus(millis: u32, cpus: u32) -> i64 {
    let most = if cpus == 0 { u32::MAX } else { cpus.saturating_mul(1000) };
    i64::from(millis.clamp(MIN_CPU_MILLIS, most.max(MIN_CPU_MILLIS))) * 1_000_000
}

fn shares(weight: u32) -> i64 {
    signed((u64::from(weight) * SHARES_AT_100 / 100).max(2))
}

fn ulimit(name: &str, value: i64) -> ResourcesUlimits {
    ResourcesUlimits { name: Some(name.into()), soft: Some(value), hard: Some(value) }
}

/// A path as Docker keeps it: without empty parts and dots.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::container::Resources;
    use crate::domain::id::ContainerId;

    fn blueprint() -> Blueprint {
        Blueprint {
            container: ContainerId::new(),
            installation: "here".into(),
            image_id: "sha256:00".into(),
            init: vec!["/init".into(), "serve".into()],
            environment: vec!["A=b".into()],
            user: "1000:1000".into(),
            groups: vec![7],
            working_directory: "/workspace".into(),
            hostname: "box".into(),
            resources: Resources {
                memory_bytes: 64 << 20,
                swap_bytes: 0,
                cpu_millis: 500,
                cpu_weight: 100,
                pids: 32,
                open_files: 256,
                disk_bytes: 0,
                shared_memory_bytes: 1 << 20,
                log_bytes: 1 << 20,
                executions: 4,
            },
            binds: Vec::new(),
            tmpfs: Vec::new(),
            network: false,
            writable_root: false,
            capabilities: Vec::new(),
            seccomp: None,
            apparmor: String::new(),
            runtime: String::new(),
        }
    }

    fn told(blueprint: &Blueprint, around: &Surroundings) -> HostConfig {
        body(blueprint, around).host_config.unwrap()
    }

    #[test]
    fn what_is_not_asked_for_is_off() {
        let host = told(&blueprint(), &Surroundings { cgroup_v1: true, ..Surroundings::default() });
        assert_eq!(host.network_mode.as_deref(), Some("none"));
        assert_eq!(host.cap_drop, Some(vec!["ALL".into()]));
        assert_eq!(host.cap_add, Some(Vec::new()));
        assert_eq!(host.readonly_rootfs, Some(true));
        assert_eq!((host.memory, host.memory_swap, host.memory_swappiness), (Some(64 << 20), Some(64 << 20), Some(0)));
        assert_eq!(host.nano_cpus, Some(500_000_000));
        assert_eq!(host.cpu_shares, Some(1024));
        assert_eq!(host.storage_opt, None);
        assert_eq!(host.runtime, None);
        let security = host.security_opt.unwrap();
        assert_eq!(security[0], "no-new-privileges:true");
        assert_eq!(security[1], format!("seccomp={SECCOMP}"));
        assert_eq!(security.len(), 2);
    }

    #[test]
    fn what_is_asked_for_is_on_and_nothing_else() {
        let mut wanted = blueprint();
        wanted.network = true;
        wanted.writable_root = true;
        wanted.capabilities = vec!["CAP_CHOWN".into()];
        wanted.seccomp = Some("{}".into());
        wanted.apparmor = "mine".into();
        wanted.runtime = "runsc".into();
        wanted.resources.swap_bytes = 1 << 20;
        wanted.resources.disk_bytes = 1 << 30;
        let host = told(&wanted, &Surroundings { cgroup_v1: true, ..Surroundings::default() });
        assert_eq!(host.network_mode.as_deref(), Some("bridge"));
        assert_eq!(host.readonly_rootfs, Some(false));
        assert_eq!((host.cap_drop, host.cap_add), (Some(vec!["ALL".into()]), Some(vec!["CAP_CHOWN".into()])));
        let expected = vec!["no-new-privileges:true".to_owned(), "seccomp={}".into(), "apparmor=mine".into()];
        assert_eq!(host.security_opt, Some(expected));
        assert_eq!(host.runtime.as_deref(), Some("runsc"));
        assert_eq!((host.memory_swap, host.memory_swappiness), (Some(65 << 20), None));
        assert_eq!(host.storage_opt.unwrap()["size"], (1u64 << 30).to_string());
    }

    #[test]
    fn memory_file_systems_belong_to_the_user() {
        let tmpfs = Tmpfs { container_path: "/t".into(), size_bytes: 4096, mode: 0o700, executable: false };
        assert_eq!(tmpfs_options(&tmpfs, "5:6"), "rw,nosuid,nodev,noexec,size=4096,mode=700,uid=5,gid=6");
        assert_eq!(tmpfs_options(&tmpfs, "5"), "rw,nosuid,nodev,noexec,size=4096,mode=700,uid=5");
        for named in ["sandbox", "sandbox:7", "5:staff", ""] {
            assert_eq!(tmpfs_options(&tmpfs, named), "rw,nosuid,nodev,noexec,size=4096,mode=1777", "{named:?}");
        }
        let tmpfs = Tmpfs { executable: true, ..tmpfs };
        assert!(tmpfs_options(&tmpfs, "5").contains(",exec,"));
    }

    #[test]
    fn volumes_of_the_image_are_covered_once() {
        let mut wanted = blueprint();
        wanted.tmpfs.push(Tmpfs { container_path: "/data".into(), size_bytes: 1, mode: 0o700, executable: false });
        wanted.binds.push(Bind { host: "/srv/x".into(), inside: "/in/".into(), writable: false });
        let volumes = vec!["/data/".into(), "/in".into(), "/var//lib/./x".into()];
        let mounts = told(&wanted, &Surroundings { volumes, ..Surroundings::default() }).mounts.unwrap();
        assert_eq!(mounts.len(), 2);
        assert_eq!((mounts[0].typ, mounts[0].read_only), (Some(MountType::BIND), Some(true)));
        assert_eq!(mounts[1].target.as_deref(), Some("/var/lib/x"));
        assert_eq!(mounts[1].tmpfs_options.as_ref().unwrap().size_bytes, Some(16 << 20));
    }

    #[test]
    fn processor_limits_fit_the_machine() {
        assert_eq!(nano_cpus(4000, 2), 2_000_000_000);
        assert_eq!(nano_cpus(4000, 0), 4_000_000_000);
        assert_eq!(nano_cpus(1, 2), 10_000_000);
        assert_eq!((shares(1), shares(10_000)), (10, 102_400));
    }

    #[test]
    fn the_seccomp_profile_is_json_that_refuses_by_default() {
        let profile: serde_json::Value = serde_json::from_str(SECCOMP).unwrap();
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        for call in ["ptrace", "mount", "bpf", "keyctl", "kexec_load"] {
            assert!(!SECCOMP.contains(&format!("\"{call}\"")), "{call} is in the list");
        }
    }
}
