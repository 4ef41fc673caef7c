//! Who connects, and whether it is the guest.

use super::connection;
use super::{LinkState, Shared};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};

/// How long somebody waits who is not the guest: so that a process inside that connects and connects costs little.
const REFUSAL: Duration = Duration::from_millis(1);

/// A socket at a path, replacing what a server before left there.
pub(super) fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    // The guest may be anybody; on the host, the directory above keeps others away.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// Serves the guest, and the next connection of it, until the link is closed or broken.
pub(super) async fn accept(shared: Arc<Shared>, listener: UnixListener) {
    let mut state = shared.state.subscribe();
    let over = |state: &LinkState| matches!(state, LinkState::Closed | LinkState::Broken(_));
    let mut serving: Option<tokio::task::JoinHandle<()>> = None;
    loop {
        let found = tokio::select! {
            _ = state.wait_for(over) => break,
            found = guest(&shared, &listener) => found,
        };
        // A guest connects again when it holds the connection before for dead, and then so it is.
        if let Some(before) = serving.take() {
            before.abort();
            let _ = before.await;
        }
        serving = Some(tokio::spawn(connection::serve(Arc::clone(&shared), found)));
    }
    if let Some(last) = serving {
        last.abort();
    }
}

/// The next connection that is the guest's.
async fn guest(shared: &Shared, listener: &UnixListener) -> UnixStream {
    loop {
        let connected = listener.accept().await;
        let mut pid = shared.pid.subscribe();
        let expected = pid.wait_for(Option::is_some).await.ok().and_then(|pid| *pid);
        match connected.and_then(|(stream, _)| Ok((stream.peer_cred()?, stream))) {
            Ok((credentials, stream)) if credentials.pid().and_then(|pid| u32::try_from(pid).ok()) == expected => {
                return stream;
            }
            Ok(_) => {
                tracing::debug!(container = %shared.container, "somebody else than the guest connected");
            }
            Err(error) => {
                tracing::warn!(container = %shared.container, %error, "a guest could not be accepted");
            }
        }
        tokio::time::sleep(REFUSAL).await;
    }
}
