//! File descriptors: each connection takes one, and so does everything else.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Lets this process have as many as the system allows it. The usual bound is there for programs that use `select`.
pub fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::debug!(%error, "the bound of file descriptors stays as it is");
    }
}

/// Connections there may be: as many as are wanted, if that leaves half of all descriptors for the work.
pub(super) fn connections(wanted: u32) -> usize {
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    let Some(all) = getrlimit(Resource::Nofile).current else { return wanted };
    let half = usize::try_from(all / 2).unwrap_or(usize::MAX).max(1);
    if half < wanted {
        tracing::warn!(
            wanted,
            connections = half,
            descriptors = all,
            "fewer connections than server.max_connections: the rest of the file descriptors is for the work; raise \
             the limit of open files (RLIMIT_NOFILE) to have them"
        );
    }
    wanted.min(half)
}
