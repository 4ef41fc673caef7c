//! Lists of folders, page by page.

use casemate_guest::protocol::{Answer, Entry, Failure, FromGuest};
use rustix::fs::OFlags;
use tokio::task::yield_now;

use super::ENTRIES;
use super::path::Root;
use super::walk::Walk;
use crate::supervisor::channel::Channel;
use crate::supervisor::channel::list::Batch;

/// Lists a folder.
///
/// # Errors
/// None there, or it may not be read.
pub async fn list(
    channel: &Channel,
    root: &[u8],
    path: &[u8],
    depth: u32,
    after: Option<&[u8]>,
    limit: u32,
) -> Result<Answer, Failure> {
    let folder = Root::open(root)?.find(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut walk = Walk::new(folder, depth.max(1) as usize, false);
    walk.keep(limit as usize + 1);
    if let Some(after) = after {
        walk.skip_to(after)?;
    }
    let mut batch = Batch::new(channel, FromGuest::Entries { channel: channel.number });
    let mut count = 0;
    let mut more = false;
    while let Some(found) = walk.next().await? {
        more = count == limit;
        if more {
            break;
        }
        count += 1;
        batch.add(&Entry { path: found.path, stat: found.stat }).await;
        if (count as usize).is_multiple_of(ENTRIES) {
            yield_now().await;
        }
    }
    batch.send().await;
    Ok(Answer::Listed { more })
}
