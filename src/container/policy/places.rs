//! Places inside a container: its workspace, file systems in memory, and directories of the host.

use super::{ContainerPolicy, MIB, denied};
use crate::container::paths;
use crate::domain::container::{Mount, Resources, Tmpfs, Workspace};
use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::path::PathBuf;

const MAX_MOUNTS: usize = 32;
/// Where work goes to unless somebody says otherwise.
const WORKSPACE: &str = "/workspace";

impl ContainerPolicy {
    pub(super) fn workspace(&self, wish: Option<Workspace>, refuse: &mut impl FnMut(&str, String)) -> Workspace {
        let wish = wish.unwrap_or(Workspace { container_path: String::new(), name: String::new(), size_bytes: 0 });
        let path = match wish.container_path.as_str() {
            "" => WORKSPACE.to_owned(),
            path => paths::inside(path).unwrap_or_else(|problem| {
                refuse("workspace.container_path", problem);
                WORKSPACE.to_owned()
            }),
        };
        let (default, most) = self.workspace_bytes;
        let size = if wish.size_bytes == 0 { default } else { wish.size_bytes };
        if size > most {
            refuse("workspace.size_bytes", format!("is {size}; at most {most}"));
        }
        Workspace { container_path: path, name: wish.name, size_bytes: size }
    }

    /// File systems in memory, with those that a read-only root needs.
    pub(super) fn tmpfs(
        &self,
        wish: Vec<Tmpfs>,
        resources: &Resources,
        refuse: &mut impl FnMut(&str, String),
    ) -> Vec<Tmpfs> {
        let mut all = Vec::new();
        for (at, mut tmpfs) in wish.into_iter().enumerate() {
            match paths::inside(&tmpfs.container_path) {
                Ok(path) => tmpfs.container_path = path,
                Err(problem) => refuse(&format!("tmpfs[{at}].container_path"), problem),
            }
            if tmpfs.size_bytes == 0 {
                tmpfs.size_bytes = 64 * MIB;
            }
            if tmpfs.size_bytes > resources.memory_bytes {
                let text = format!("is {}, and its memory {} bytes", tmpfs.size_bytes, resources.memory_bytes);
                refuse(&format!("tmpfs[{at}].size_bytes"), text);
            }
            if tmpfs.mode > 0o1777 {
                refuse(&format!("tmpfs[{at}].mode"), format!("is {:#o}; at most 0o1777", tmpfs.mode));
            }
            all.push(tmpfs);
        }
        for (path, size_bytes) in [("/tmp", 64 * MIB), ("/run", 16 * MIB)] {
            if !all.iter().any(|tmpfs| tmpfs.container_path == path) {
                all.push(Tmpfs { container_path: path.into(), size_bytes, mode: 0o1777, executable: false });
            }
        }
        all
    }

    pub(super) fn check_places(
        &self,
        mounts: &[Mount],
        tmpfs: &[Tmpfs],
        workspace: &Workspace,
        refuse: &mut impl FnMut(&str, String),
    ) {
        if mounts.len() > MAX_MOUNTS || tmpfs.len() > MAX_MOUNTS {
            refuse(
                "mounts",
                format!("are {} and {} file systems in memory; at most {MAX_MOUNTS} each", mounts.len(), tmpfs.len()),
            );
        }
        let mut taken: BTreeSet<String> = BTreeSet::from([workspace.container_path.clone()]);
        for (at, mount) in mounts.iter().enumerate().take(MAX_MOUNTS) {
            match paths::inside(&mount.container_path) {
                Ok(path) if taken.insert(path.clone()) => {}
                Ok(path) => refuse(&format!("mounts[{at}].container_path"), format!("{path} is taken")),
                Err(problem) => refuse(&format!("mounts[{at}].container_path"), problem),
            }
        }
        for tmpfs in tmpfs {
            if !taken.insert(tmpfs.container_path.clone()) {
                refuse("tmpfs", format!("{} is taken", tmpfs.container_path));
            }
        }
    }

    /// A mount below an approved root, its path without links.
    pub(super) fn mount(&self, mount: Mount) -> Result<Mount> {
        let field = "mounts.host_path";
        let path = PathBuf::from(&mount.host_path);
        if !path.is_absolute() {
            return Err(Error::invalid(format!("spec.{field}"), format!("{:?} is not absolute", mount.host_path)));
        }
        // What is not below a root is not looked at: an error must not tell what there is on the host.
        let refused = || {
            denied(
                field,
                &format!(
                    "{:?}: it is not below a directory of containers.mount_roots, or is not there",
                    mount.host_path
                ),
            )
        };
        let found = path.canonicalize().map_err(|_| refused())?;
        let below = |root: &PathBuf| root.canonicalize().is_ok_and(|root| found.starts_with(root));
        if !self.mount_roots.iter().any(below) || !found.is_dir() {
            return Err(refused());
        }
        let host_path = found.to_str().ok_or_else(refused)?.to_owned();
        Ok(Mount { host_path, ..mount })
    }
}
