//! The supervisor's program, and a directory for each container that sees it.

use super::gate::Gate;
use super::link::Link;
use crate::domain::id::ContainerId;
use casemate_guest::protocol::Settings;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The supervisor, as build.rs built it.
const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/casemate-guest"));

/// Names in a container's directory.
const GUEST: &str = "guest";
const SOCKET: &str = "guest.sock";

/// Where guests and their sockets are.
pub(super) struct Guests {
    directory: PathBuf,
    program: PathBuf,
}

impl Guests {
    /// Puts the program where containers can be given it.
    pub(super) fn open(directory: &Path) -> io::Result<Guests> {
        std::fs::create_dir_all(directory)?;
        // Sockets inside are open to anybody who reaches them.
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))?;
        let directory = directory.canonicalize()?;
        let program = directory.join(format!("casemate-guest-{}", &hex::encode(Sha256::digest(PROGRAM))[..16]));
        if std::fs::read(&program).ok().as_deref() != Some(PROGRAM) {
            let fresh = directory.join(".casemate-guest");
            let mut file = File::create(&fresh)?;
            file.write_all(PROGRAM)?;
            file.set_permissions(std::fs::Permissions::from_mode(0o755))?;
            drop(file);
            std::fs::rename(&fresh, &program)?;
        }
        Ok(Guests { directory, program })
    }

    /// The command that starts the supervisor, with its directory at `inside`.
    pub(super) fn command(inside: &str) -> Vec<String> {
        vec![format!("{inside}/{GUEST}"), "--connect".into(), format!("{inside}/{SOCKET}")]
    }

    /// The directory that a container sees.
    pub(super) fn path(&self, id: ContainerId) -> PathBuf {
        self.directory.join(id.to_string())
    }

    /// Makes the directory of a container, with the program in it. One that is there stays: its container may run.
    pub(super) fn prepare(&self, id: ContainerId) -> io::Result<()> {
        let path = self.path(id);
        match std::fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        match std::fs::hard_link(&self.program, path.join(GUEST)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Listens for the guest of a container.
    pub(super) fn listen(&self, id: ContainerId, settings: Settings, gate: Arc<dyn Gate>) -> io::Result<Link> {
        // By way of a descriptor, because the path of a socket is short and that of a directory may not be.
        let directory = File::open(self.path(id))?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()));
        Link::listen(&path, id, settings, gate)
    }

    /// Removes the directory of a container.
    pub(super) fn remove(&self, id: ContainerId) {
        if let Err(error) = std::fs::remove_dir_all(self.path(id))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(container = %id, %error, "the directory of its supervisor stays");
        }
    }

    /// Containers whose directories are there.
    pub(super) fn all(&self) -> Vec<ContainerId> {
        let entries = std::fs::read_dir(&self.directory).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }
}
