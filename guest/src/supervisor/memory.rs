//! The memory of the guest itself, which is the container's.

/// From this size on, memory comes from the kernel by itself, and goes back at once.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 128 << 10;

/// Has large pieces, such as full journals, never mixed with small ones. The C library would raise its bound with the
/// first that is freed.
pub fn prepare() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets numbers of the allocator; one thread.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, LARGE);
    }
}

/// Gives the kernel back what is free.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: touches free memory alone.
    unsafe {
        libc::malloc_trim(0);
    }
}
