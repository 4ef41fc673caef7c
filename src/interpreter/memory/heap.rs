//! The heap in which the engine keeps thrown exceptions: a plain memory that no guest addresses. Most runs
//! throw none, so it is address space only, kept from one instance to the next.

use super::{GUARD, MAX_MEMORY};
use parking_lot::Mutex;
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap};
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use wasmtime::LinearMemory;

const RESERVATION: usize = MAX_MEMORY + GUARD;

/// Heaps that wait.
pub(super) struct Heaps {
    free: Mutex<Vec<Mapping>>,
    max_idle: usize,
}

impl Heaps {
    pub fn new(max_idle: usize) -> Arc<Heaps> {
        Arc::new(Heaps { free: Mutex::default(), max_idle })
    }

    /// An empty heap.
    pub fn take(self: &Arc<Heaps>) -> io::Result<Heap> {
        let kept = self.free.lock().pop();
        let mapping = match kept {
            Some(mapping) => mapping,
            None => Mapping::new()?,
        };
        Ok(Heap { mapping: Some(mapping), len: 0, home: self.clone() })
    }
}

/// A reservation of which nothing is accessible while it waits.
struct Mapping(NonNull<u8>);

// SAFETY: the only owner of its mapping.
unsafe impl Send for Mapping {}
// SAFETY: it tells its address only.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new() -> io::Result<Mapping> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address the kernel chooses.
        let base = unsafe { mmap_anonymous(std::ptr::null_mut(), RESERVATION, ProtFlags::empty(), flags) }?;
        NonNull::new(base.cast()).map(Mapping).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the whole reservation is ours, and no longer used.
        let _ = unsafe { munmap(self.0.as_ptr().cast(), RESERVATION) };
    }
}

/// A heap in use.
pub(super) struct Heap {
    /// Until it is dropped.
    mapping: Option<Mapping>,
    /// Accessible bytes; nothing behind them is.
    len: usize,
    home: Arc<Heaps>,
}

// SAFETY: a reservation of its own, zero where it was not written, never moved.
unsafe impl LinearMemory for Heap {
    fn byte_size(&self) -> usize {
        self.len
    }

    fn byte_capacity(&self) -> usize {
        MAX_MEMORY
    }

    fn grow_to(&mut self, len: usize) -> wasmtime::Result<()> {
        let Some(mapping) = &self.mapping else { return Err(wasmtime::Error::msg("the heap is gone")) };
        if len > MAX_MEMORY {
            return Err(wasmtime::Error::msg("the heap would be larger than its reservation"));
        }
        if len > self.len {
            let access = MprotectFlags::READ | MprotectFlags::WRITE;
            let from = mapping.0.as_ptr().wrapping_add(self.len);
            // SAFETY: the range lies in our reservation, behind what is accessible.
            unsafe { mprotect(from.cast(), len - self.len, access) }.map_err(io::Error::from)?;
            self.len = len;
        }
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        self.mapping.as_ref().map_or(std::ptr::null_mut(), |mapping| mapping.0.as_ptr())
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        let Some(mapping) = self.mapping.take() else { return };
        if self.len > 0 {
            let base = mapping.0.as_ptr().cast();
            // SAFETY: the accessible part of our mapping, which nothing uses any more; it reads as zeros after.
            let cleared = unsafe { madvise(base, self.len, Advice::LinuxDontNeed) };
            // SAFETY: as above.
            let closed = unsafe { mprotect(base, self.len, MprotectFlags::empty()) };
            if cleared.and(closed).is_err() {
                return;
            }
        }
        let mut free = self.home.free.lock();
        if free.len() < self.home.max_idle {
            free.push(mapping);
        }
    }
}
