//! What a daemon is and can.

use super::client::Client;
use super::errors;
use crate::container::backend::{BackendFacts, BackendResult};
use bollard::models::SystemInfo;
use std::path::Path;

/// Asks the daemon.
pub(super) async fn ask(client: &Client) -> BackendResult<BackendFacts> {
    let (known, info) = client.meet_in_time().await.map_err(|error| errors::backend(&error))?;
    let shares_files = client.endpoint().is_socket() && is_here(&info);
    let mut runtimes: Vec<String> = info.runtimes.iter().flatten().map(|(name, _)| name.clone()).collect();
    runtimes.sort();
    let version = info.server_version.as_deref().unwrap_or("of unknown version");
    Ok(BackendFacts {
        version: format!("Docker {version} (API {}.{})", known.api.0, known.api.1),
        runtimes,
        limits_disk: limits_disk(&info, shares_files),
        limits_swap: info.swap_limit.unwrap_or(false),
        shares_files,
    })
}

/// Whether the daemon runs on this machine, and not in a virtual one or beside a container that this server is in: it
/// says so by the name of its machine and by its kernel. A socket alone proves nothing: it may lead anywhere. A server in
/// a container that shares the host's name would be taken in; it is told where the daemon is by its configuration.
fn is_here(info: &SystemInfo) -> bool {
    let same = |theirs: &Option<String>, ours: &str| match (theirs, std::fs::read_to_string(ours)) {
        (Some(theirs), Ok(ours)) => theirs == ours.trim(),
        _ => false,
    };
    same(&info.name, "/proc/sys/kernel/hostname")
        && same(&info.kernel_version, "/proc/sys/kernel/osrelease")
        && info.docker_root_dir.as_deref().is_some_and(|root| Path::new(root).is_dir())
}

/// Whether the daemon takes `size` for a writable layer. It does not say: it depends on its driver, and with the usual
/// one on the options that its file system is mounted with.
fn limits_disk(info: &SystemInfo, here: bool) -> bool {
    match info.driver.as_deref() {
        Some("btrfs" | "zfs" | "devicemapper") => true,
        Some("overlay2") => {
            let status = info.driver_status.iter().flatten();
            let on_xfs = status.into_iter().any(|pair| matches!(pair.as_slice(), [_, value] if value == "xfs"));
            let root = info.docker_root_dir.as_deref().unwrap_or("/");
            on_xfs && here && std::fs::read_to_string("/proc/self/mountinfo").is_ok_and(|all| has_quota(&all, root))
        }
        _ => false,
    }
}

/// Whether the file system under `path` keeps quotas of projects, by the lines of `mountinfo`.
fn has_quota(mountinfo: &str, path: &str) -> bool {
    let mounts = mountinfo.lines().filter_map(|line| {
        let point = line.split(' ').nth(4)?;
        let options = line.rsplit(' ').next()?;
        Path::new(path).starts_with(point).then_some((point.len(), options))
    });
    // Of two at the same place the later one is on top.
    mounts
        .max_by_key(|(length, _)| *length)
        .is_some_and(|(_, options)| options.split(',').any(|option| matches!(option, "prjquota" | "pquota")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_those_of_the_file_system_under_the_root() {
        let mounts = "1 0 8:1 / / rw - ext4 /dev/a rw\n\
                      2 1 8:2 / /var/lib rw - xfs /dev/b rw,attr2,prjquota\n\
                      3 2 8:3 / /var/lib/docker rw shared:1 - xfs /dev/c rw,noquota";
        assert!(!has_quota(mounts, "/var/lib/docker"));
        assert!(has_quota(mounts, "/var/lib/other"));
        assert!(!has_quota(mounts, "/srv"));
    }
}
