//! Directories of the host that a guest may see.
//!
//! The operator names roots; a grant must lie below one. The kernel resolves the path below the opened root
//! (`openat2` with `RESOLVE_BENEATH`), so neither `..` nor a symbolic link, nor one that a guest swaps in at
//! the last moment, leads out. From there on WASI keeps the guest inside the directory in the same way.

use crate::domain::manifest::DirectoryGrant;
use crate::error::{Error, Result};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

/// The directories below which grants are possible.
pub(super) struct Roots(Vec<Root>);

struct Root {
    path: PathBuf,
    directory: OwnedFd,
}

const FLAGS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Roots {
    pub fn open(paths: &[PathBuf]) -> Result<Roots> {
        let open = |path: &PathBuf| {
            let refused = |error: std::io::Error| {
                Error::invalid("engine.directory_roots", format!("{} cannot be opened: {error}", path.display()))
            };
            let path = path.canonicalize().map_err(refused)?;
            let directory = openat(CWD, &path, FLAGS, Mode::empty()).map_err(|error| refused(error.into()))?;
            Ok(Root { path, directory })
        };
        Ok(Roots(paths.iter().map(open).collect::<Result<_>>()?))
    }

    /// Adds the directory to what the guest sees; `Err` says why not.
    pub fn give(&self, grant: &DirectoryGrant, wasi: &mut WasiCtxBuilder) -> Result<(), String> {
        let directory = self.resolve(grant)?;
        // The builder takes a path only. This one names the directory that was just checked, whatever
        // happens to its name meanwhile.
        let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
        let permissions = if grant.writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
        wasi.preopened_dir(path, &grant.guest, permissions)
            .map(|_| ())
            .map_err(|error| format!("directory {} cannot be opened: {error:#}", grant.host.display()))
    }

    /// Opens the directory of a grant below its root.
    pub fn resolve(&self, grant: &DirectoryGrant) -> Result<OwnedFd, String> {
        let host = grant.host.display();
        let plain =
            |path: &Path| path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        if !grant.host.is_absolute() || !plain(&grant.host) {
            return Err(format!("directory {host}: expected an absolute path without '..'"));
        }
        if !grant.guest.starts_with('/') {
            return Err(format!("directory {host}: expected an absolute path in the guest, got {:?}", grant.guest));
        }
        let below = |root: &&Root| grant.host.starts_with(&root.path);
        let Some(root) = self.0.iter().filter(below).max_by_key(|root| root.path.as_os_str().len()) else {
            return Err(format!(
                "directory {host} is not below a directory that the operator allows (engine.directory_roots)"
            ));
        };
        let rest = grant.host.strip_prefix(&root.path).unwrap_or(Path::new(""));
        let rest = if rest.as_os_str().is_empty() { Path::new(".") } else { rest };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        openat2(&root.directory, rest, FLAGS, Mode::empty(), resolve).map_err(|error| match error {
            rustix::io::Errno::XDEV => {
                format!("directory {host} leads out of {} by a symbolic link", root.path.display())
            }
            error => format!("directory {host} cannot be opened: {error}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(host: impl Into<PathBuf>) -> DirectoryGrant {
        DirectoryGrant { host: host.into(), guest: "/data".into(), writable: false }
    }

    #[test]
    fn only_what_lies_below_a_root_is_given() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let (root, outside) = (base.join("root"), base.join("outside"));
        std::fs::create_dir_all(root.join("inner")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("absolute")).unwrap();
        std::os::unix::fs::symlink("../outside", root.join("relative")).unwrap();
        std::os::unix::fs::symlink("inner", root.join("alias")).unwrap();
        let roots = Roots::open(std::slice::from_ref(&root)).unwrap();
        for good in ["", "inner", "alias"] {
            roots.resolve(&grant(root.join(good))).unwrap();
        }
        for (bad, word) in [
            (outside.clone(), "not below"),
            (base.join("root2"), "not below"),
            (root.join("../outside"), "without '..'"),
            (PathBuf::from("inner"), "absolute"),
            (root.join("absolute"), "leads out"),
            (root.join("relative"), "leads out"),
            (root.join("missing"), "cannot be opened"),
        ] {
            let problem = roots.resolve(&grant(&bad)).unwrap_err();
            assert!(problem.contains(word), "{}: {problem}", bad.display());
        }
        assert!(Roots::open(&[base.join("missing")]).is_err());
    }
}
