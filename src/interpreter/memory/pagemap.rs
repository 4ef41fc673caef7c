//! Which pages of a range were written, by the kernel's own account.

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl};
use std::ffi::c_void;
use std::io;
use std::ops::Range;

/// `struct pm_scan_arg` of the kernel.
#[repr(C)]
#[derive(Default)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region` of the kernel.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

const FILE: u64 = 1 << 2;
const PRESENT: u64 = 1 << 3;
const SWAPPED: u64 = 1 << 4;
const ZERO: u64 = 1 << 5;

/// Regions taken from the kernel at a time.
const REGIONS: usize = 512;

/// The page map of this process.
pub(super) struct Pagemap(OwnedFd);

impl Pagemap {
    /// Opens it, where the kernel can scan (Linux 6.7) and lets us; otherwise says why not.
    pub fn open() -> io::Result<Pagemap> {
        let file = rustix::fs::open("/proc/self/pagemap", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let pagemap = Pagemap(file);
        pagemap.written(0..0, |_| {})?;
        Ok(pagemap)
    }

    /// Calls `found` for each run of pages in the range that hold data of their own: written ones, in memory
    /// or in swap. Pages that still show a file, or the page of zeros, do not. The range is whole pages.
    pub fn written(&self, range: Range<usize>, mut found: impl FnMut(Range<usize>)) -> io::Result<()> {
        let mut regions = [Region::default(); REGIONS];
        let mut at = range.start;
        loop {
            let scan = Scan {
                size: size_of::<Scan>() as u64,
                start: at as u64,
                end: range.end as u64,
                vec: regions.as_mut_ptr() as u64,
                vec_len: REGIONS as u64,
                category_inverted: FILE | ZERO,
                category_mask: FILE | ZERO,
                category_anyof_mask: PRESENT | SWAPPED,
                ..Scan::default()
            };
            // SAFETY: the kernel writes at most `vec_len` regions to `vec`, which is an array of that many and
            // lives across the call, and `walk_end` of the argument. It changes nothing else.
            let (count, walked) = unsafe { ioctl(&self.0, PagemapScan(scan)) }?;
            for region in regions.iter().take(count) {
                found(region.start as usize..region.end as usize);
            }
            at = walked as usize;
            if at >= range.end {
                return Ok(());
            }
        }
    }
}

struct PagemapScan(Scan);

// SAFETY: the code is that of PAGEMAP_SCAN, the argument its struct, and the output its count and `walk_end`.
unsafe impl Ioctl for PagemapScan {
    type Output = (usize, u64);

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        rustix::ioctl::opcode::read_write::<Scan>(b'f', 16)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut self.0).cast()
    }

    unsafe fn output_from_ptr(count: IoctlOutput, argument: *mut c_void) -> rustix::io::Result<Self::Output> {
        // SAFETY: the pointer is the one `as_ptr` gave, so it is a `Scan`.
        let walked = unsafe { (*argument.cast::<Scan>()).walk_end };
        Ok((usize::try_from(count).unwrap_or(0), walked))
    }
}
