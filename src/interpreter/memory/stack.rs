//! Stacks for guests' calls, kept between runs: making one costs two system calls, using a kept one none.

use parking_lot::Mutex;
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap};
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use wasmtime::{StackCreator, StackMemory};

use super::PAGE;

/// What stays resident of a stack that waits for its next use.
const KEEP: usize = 256 << 10;

/// Makes stacks and takes them back.
pub(super) struct Stacks(pub Arc<Home>);

/// Stacks that wait.
pub(super) struct Home {
    free: Mutex<Vec<Mapping>>,
    max_idle: usize,
}

impl Home {
    pub fn new(max_idle: usize) -> Arc<Home> {
        Arc::new(Home { free: Mutex::default(), max_idle })
    }
}

/// A guard page and the stack above it.
struct Mapping {
    start: NonNull<u8>,
    /// Without the guard.
    len: usize,
}

// SAFETY: the only owner of its mapping.
unsafe impl Send for Mapping {}
// SAFETY: it tells addresses only.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(len: usize) -> std::io::Result<Mapping> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address the kernel chooses.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), len + PAGE, access, flags) }?;
        let start = NonNull::new(start.cast::<u8>()).ok_or(std::io::ErrorKind::OutOfMemory)?;
        let mapping = Mapping { start, len };
        // SAFETY: the first page of our mapping: what overflows the stack faults there.
        unsafe { mprotect(start.as_ptr().cast(), PAGE, MprotectFlags::empty()) }?;
        Ok(mapping)
    }

    fn bottom(&self) -> *mut u8 {
        self.start.as_ptr().wrapping_add(PAGE)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: ours, of this length, and no longer used.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len + PAGE) };
    }
}

// SAFETY: each stack is a mapping of its own, page-aligned, with a guard page below, and is handed out to one
// user at a time. A kept stack is not zero-filled: guests cannot read it, and wasmtime asks for zeros
// (`zeroed`) only where it is configured to, which this engine is not; then a new one is made.
unsafe impl StackCreator for Stacks {
    fn new_stack(&self, size: usize, zeroed: bool) -> wasmtime::Result<Box<dyn StackMemory>> {
        let len = size.next_multiple_of(PAGE);
        let kept = if zeroed { None } else { self.0.free.lock().pop() };
        let mapping = match kept.filter(|kept| kept.len == len) {
            Some(kept) => kept,
            None => Mapping::new(len)?,
        };
        Ok(Box::new(Stack { mapping: Some(mapping), home: self.0.clone() }))
    }
}

struct Stack {
    /// Until it is dropped.
    mapping: Option<Mapping>,
    home: Arc<Home>,
}

// SAFETY: the addresses are those of the mapping this owns.
unsafe impl StackMemory for Stack {
    fn top(&self) -> *mut u8 {
        self.mapping.as_ref().map_or(std::ptr::null_mut(), |mapping| mapping.bottom().wrapping_add(mapping.len))
    }

    fn range(&self) -> Range<usize> {
        let bottom = self.mapping.as_ref().map_or(0, |mapping| mapping.bottom() as usize);
        bottom..self.top() as usize
    }

    fn guard_range(&self) -> Range<*mut u8> {
        let bottom = self.mapping.as_ref().map_or(std::ptr::null_mut(), Mapping::bottom);
        bottom.wrapping_sub(PAGE)..bottom
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let Some(mapping) = self.mapping.take() else { return };
        let mut free = self.home.free.lock();
        if free.len() >= self.home.max_idle {
            return;
        }
        if mapping.len > KEEP {
            // SAFETY: the deep part of a stack that nobody uses any more.
            let _ = unsafe { madvise(mapping.bottom().cast(), mapping.len - KEEP, Advice::LinuxDontNeed) };
        }
        free.push(mapping);
    }
}
