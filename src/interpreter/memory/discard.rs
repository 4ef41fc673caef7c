//! Giving back many ranges of memory at once, and taking them.
//!
//! Each `madvise` that takes pages away makes the other processors forget them, which takes some microseconds
//! under a hypervisor. Linux 6.16 does that once for a whole `process_madvise`.

use super::PAGE;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::mm::{Advice, madvise};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use std::io;
use std::ops::Range;
use std::sync::OnceLock;

/// Ranges that the kernel takes in one call.
const MOST: usize = 1024;

/// This process, as a file; `None` where the kernel has no such thing.
static SELF: OnceLock<Option<OwnedFd>> = OnceLock::new();

/// Private pages of these ranges show their file again, or zeros where they have none.
///
/// # Safety
/// The ranges are whole pages within private mappings that the caller owns, and nothing refers to them.
pub(super) unsafe fn discard(ranges: &[Range<usize>]) -> io::Result<()> {
    let process = SELF.get_or_init(|| pidfd_open(getpid(), PidfdFlags::empty()).ok());
    for some in ranges.chunks(MOST) {
        // One range is as fast without.
        let done = match process {
            // SAFETY: as the caller promises.
            Some(process) if some.len() > 1 => unsafe { at_once(process, some) },
            _ => 0,
        };
        let mut skip = done;
        for range in some {
            let rest = range.start + skip.min(range.len())..range.end;
            skip -= range.len() - rest.len();
            if !rest.is_empty() {
                let start = std::ptr::with_exposed_provenance_mut(rest.start);
                // SAFETY: as the caller promises.
                unsafe { madvise(start, rest.len(), Advice::LinuxDontNeed) }?;
            }
        }
    }
    Ok(())
}

/// Bytes that were given back, from the first range on; none where the kernel does not do it for this advice.
///
/// # Safety
/// As for [`discard`].
unsafe fn at_once(process: &OwnedFd, ranges: &[Range<usize>]) -> usize {
    let vectors: Vec<libc::iovec> = ranges
        .iter()
        .map(|range| libc::iovec { iov_base: std::ptr::with_exposed_provenance_mut(range.start), iov_len: range.len() })
        .collect();
    let (process, at, count) = (process.as_raw_fd(), vectors.as_ptr(), vectors.len());
    // SAFETY: the kernel reads the array, which lives across the call, and takes pages that the caller owns.
    let done = unsafe { libc::syscall(libc::SYS_process_madvise, process, at, count, libc::MADV_DONTNEED, 0) };
    usize::try_from(done).unwrap_or(0)
}

/// Takes pages for these ranges, which are about to be written: in one go for each, rather than in a fault for
/// each page. Contents stay as they are; ranges outside of the memory, and failures, are left to the faults.
pub fn prepare(memory: &mut [u8], ranges: &[Range<usize>]) {
    for range in ranges {
        let Some(place) = memory.get_mut(range.clone()) else { continue };
        if place.as_ptr().addr().is_multiple_of(PAGE) && place.len() >= PAGE {
            // SAFETY: the range is borrowed for writing, and nothing in it changes.
            let _ = unsafe { madvise(place.as_mut_ptr().cast(), place.len(), Advice::LinuxPopulateWrite) };
        }
    }
}
