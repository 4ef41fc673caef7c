//! The task of a channel: from its request to its end.

use std::rc::Rc;

use casemate_guest::protocol::{Answer, Failure, Request};

use super::Channel;
use crate::supervisor::files::{change, list, pack, read, unpack, watch, write};
use crate::supervisor::network::connect;

/// Whether the server may send bytes with such a request.
pub fn takes_bytes(request: &Request) -> bool {
    matches!(request, Request::Write { .. } | Request::Unpack { .. } | Request::Connect { .. })
}

/// Does what was asked, and says how that ended.
pub async fn serve(channel: Rc<Channel>, request: Request) {
    let result = match request {
        // It has more to undo than what goes with its future.
        Request::Unpack { root, path, parents, format, conflict, strip, limits } => {
            let wish = unpack::Wish { parents, format, conflict, strip, limits };
            Box::pin(unpack::unpack(&channel, &root, &path, wish)).await
        }
        request => {
            let work = perform(&channel, request);
            tokio::select! {
                biased;
                failure = channel.given_up() => Err(failure),
                result = work => result,
            }
        }
    };
    // All that the work held is gone by now: its half-written files too.
    channel.finish(result);
}

/// Each request in a box of its own: a file's state must not make all of them large.
async fn perform(channel: &Rc<Channel>, request: Request) -> Result<Answer, Failure> {
    match request {
        Request::Read { root, path, offset, length } => {
            Box::pin(read::read(channel, &root, &path, offset, length)).await
        }
        Request::Write { root, path, mode, how, parents, size, sync } => {
            let wish = write::Wish { mode, how, parents, size, sync };
            Box::pin(write::write(channel, &root, &path, wish)).await
        }
        Request::List { root, path, depth, after, limit } => {
            Box::pin(list::list(channel, &root, &path, depth, after.as_deref(), limit)).await
        }
        Request::Stat { root, path, follow } => change::stat(&root, &path, follow),
        Request::MakeDirectory { root, path, mode, parents } => change::make_directory(&root, &path, mode, parents),
        Request::Move { root, from, to, replace } => change::rename(&root, &from, &to, replace),
        Request::Remove { root, path, recursive, allow_missing } => {
            Box::pin(change::remove(&root, &path, recursive, allow_missing)).await
        }
        Request::Watch { root, path, recursive } => Box::pin(watch::watch(channel, &root, &path, recursive)).await,
        Request::Pack { root, paths, limits } => Box::pin(pack::pack(channel, &root, &paths, limits)).await,
        Request::Connect { port } => Box::pin(connect::connect(channel, port)).await,
        Request::Unpack { .. } => Err(Failure::Invalid("not here".into())),
    }
}
