//! One linear memory: a reservation whose beginning shows an image, copy-on-write.
//!
//! What holds at all times:
//! - `base` is the start of a private mapping of [`RESERVATION`] bytes that this slot alone owns;
//! - its first `len` bytes are accessible, and nothing behind them;
//! - `len` is never below the image's length, and both are whole WASM pages;
//! - after [`Slot::reset`] the accessible bytes are exactly the image.

use super::discard::discard;
use super::pagemap::Pagemap;
use super::{GUARD, Image, MAX_MEMORY, PAGE};
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap};
use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Address space of a slot: what compiled code may reach without a check, and the guard behind it.
const RESERVATION: usize = MAX_MEMORY + GUARD;

/// A linear memory that starts as an image.
pub(super) struct Slot {
    image: Arc<Image>,
    base: NonNull<u8>,
    len: usize,
    sweeps: Sweeps,
    /// Ranges of a reset; kept for its room.
    written: Vec<Range<usize>>,
}

/// What a reset took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reset {
    /// Pages that had been written, as far as the kernel said.
    pub pages: usize,
    /// To find them.
    pub scan: Duration,
    /// To copy them back, or to give them back.
    pub copy: Duration,
}

/// When pages that need not be copied are given back: one run that wrote a lot would otherwise make every later
/// reset copy a lot. A page that is given back and written again costs a fault, so a sweep that was of no use
/// puts off the next one.
struct Sweeps {
    /// Resets until the next sweep.
    left: u32,
    /// Resets from one sweep to the next.
    interval: u32,
    /// Pages that were written when the last sweep began, until it is known what the sweep was good for.
    before: Option<usize>,
}

const SWEEP: u32 = if cfg!(test) { 3 } else { 16 };
const RAREST: u32 = SWEEP << 8;

/// Fewer pages than these are copied faster than looked at.
const FEW: usize = if cfg!(test) { 2 } else { 64 };

impl Sweeps {
    fn new() -> Sweeps {
        Sweeps { left: SWEEP, interval: SWEEP, before: None }
    }

    /// Whether this reset is to sweep.
    fn due(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left == 0
    }

    /// Takes note of a reset that found so many pages written.
    fn note(&mut self, swept: bool, pages: usize) {
        if swept {
            self.before = Some(pages);
            self.left = self.interval;
        } else if let Some(before) = self.before.take() {
            let useless = pages * 4 >= before * 3 || before <= FEW;
            self.interval = if useless { (self.interval * 2).min(RAREST) } else { SWEEP };
            self.left = self.interval;
        }
    }
}

// SAFETY: a slot is the only owner of its mapping, like a Box<[u8]>.
unsafe impl Send for Slot {}
// SAFETY: through a shared reference a slot only tells its address and length.
unsafe impl Sync for Slot {}

impl Slot {
    /// Reserves address space and maps the image into its beginning.
    pub fn new(image: Arc<Image>) -> io::Result<Slot> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address the kernel chooses.
        let base = unsafe { mmap_anonymous(std::ptr::null_mut(), RESERVATION, ProtFlags::empty(), flags) }?;
        let base = NonNull::new(base.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        // Owned from here on, so that a failure below gives it back.
        let slot = Slot { len: image.memory_bytes(), image, base, sweeps: Sweeps::new(), written: Vec::new() };
        // SAFETY: the reservation is ours, page-aligned, longer than any image, and nothing refers to it.
        unsafe { slot.image.map_over(base.as_ptr()) }?;
        Ok(slot)
    }

    pub fn image(&self) -> &Arc<Image> {
        &self.image
    }

    pub fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Accessible bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Makes the memory this long. New bytes are zero.
    pub fn grow(&mut self, len: usize) -> io::Result<()> {
        if len <= self.len {
            return Ok(());
        }
        if len > MAX_MEMORY || !len.is_multiple_of(PAGE) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let access = MprotectFlags::READ | MprotectFlags::WRITE;
        // SAFETY: the range lies in our reservation, behind what is accessible; it was never written.
        unsafe { mprotect(self.base.as_ptr().add(self.len).cast(), len - self.len, access) }?;
        self.len = len;
        Ok(())
    }

    fn range(&self) -> Range<usize> {
        let base = self.base.as_ptr() as usize;
        base..base + self.len
    }

    /// Makes the memory show the image again, and only the image. Written pages are copied back, up to
    /// `keep` bytes, and stay mapped; the rest is given back to the kernel, as is everything where there is
    /// no page map. Nothing may use the memory meanwhile, and if this fails, ever again.
    pub fn reset(&mut self, pagemap: Option<&Pagemap>, keep: usize) -> io::Result<Reset> {
        let image_len = self.image.memory_bytes();
        let base = self.base.as_ptr();
        if self.len > image_len {
            let (tail, length) = (base.wrapping_add(image_len), self.len - image_len);
            // SAFETY: the range is ours and accessible, and nothing refers to it; private anonymous pages read
            // as zeros after this.
            unsafe { madvise(tail.cast(), length, Advice::LinuxDontNeed) }?;
            // SAFETY: as above.
            unsafe { mprotect(tail.cast(), length, MprotectFlags::empty()) }?;
            self.len = image_len;
        }
        let began = Instant::now();
        let Some(pagemap) = pagemap else {
            // SAFETY: the whole range is ours, and nothing refers to it.
            unsafe { discard(&[self.range()]) }?;
            return Ok(Reset { copy: began.elapsed(), ..Reset::default() });
        };
        self.written.clear();
        pagemap.written(self.range(), |range| self.written.push(range))?;
        let scan = began.elapsed();
        let sweep = self.sweeps.due();
        let pages = self.written.iter().map(|range| range.len() / PAGE).sum();
        let start = base as usize;
        let pristine = self.image.memory();
        let mut left = keep;
        let mut given: Vec<Range<usize>> = Vec::new();
        let mut give = |range: Range<usize>| match given.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => given.push(range),
        };
        for written in &self.written {
            let length = written.len();
            if length > left {
                give(written.clone());
                continue;
            }
            left -= length;
            let at = written.start - start;
            if !sweep {
                // SAFETY: the kernel answers ranges within the one asked for, which is ours, accessible and
                // writable; the image is another mapping, so the two do not overlap.
                unsafe { std::ptr::copy_nonoverlapping(pristine[at..at + length].as_ptr(), base.add(at), length) };
                continue;
            }
            for page in (at..at + length).step_by(PAGE) {
                let source = &pristine[page..page + PAGE];
                // SAFETY: as above; nothing else uses the memory, so nothing writes while this is read.
                let now = unsafe { std::slice::from_raw_parts_mut(base.add(page), PAGE) };
                if now == source {
                    give(start + page..start + page + PAGE);
                } else {
                    now.copy_from_slice(source);
                }
            }
        }
        self.sweeps.note(sweep, pages);
        // SAFETY: all of them lie in our range, and nothing refers to it.
        unsafe { discard(&given) }?;
        Ok(Reset { pages, scan, copy: began.elapsed().saturating_sub(scan) })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // SAFETY: the whole reservation is ours, and whoever used the memory is gone.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), RESERVATION) };
    }
}

#[cfg(test)]
mod tests {
    use super::super::WASM_PAGE;
    use super::*;
    use proptest::prelude::*;

    fn image(dir: &std::path::Path) -> Arc<Image> {
        let mut memory: Vec<u8> = (0..4 * WASM_PAGE).map(|n| (n / 7) as u8).collect();
        memory[2 * WASM_PAGE..3 * WASM_PAGE].fill(0);
        let path = dir.join("t.image");
        Image::write(&path, [0; 32], &memory).unwrap();
        Arc::new(Image::open(&path).unwrap())
    }

    fn bytes(slot: &Slot) -> &[u8] {
        // SAFETY: test code alone uses the slot.
        unsafe { std::slice::from_raw_parts(slot.base(), slot.len()) }
    }

    fn write(slot: &mut Slot, at: usize, byte: u8) {
        assert!(at < slot.len());
        // SAFETY: within the accessible bytes.
        unsafe { slot.base().add(at).write(byte) };
    }

    #[derive(Clone, Debug)]
    enum Act {
        Write(usize, u8),
        Grow(usize),
        Reset(usize),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            6 => (0usize..16 * WASM_PAGE, any::<u8>()).prop_map(|(at, byte)| Act::Write(at, byte)),
            2 => (1usize..16).prop_map(Act::Grow),
            1 => (0usize..3).prop_map(|pages| Act::Reset(pages * 8 * PAGE)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn after_any_writes_and_growth_a_reset_leaves_exactly_the_image(
            acts in proptest::collection::vec(act(), 1..60),
            by_map in any::<bool>(),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let image = image(dir.path());
            let pagemap = by_map.then(|| Pagemap::open().ok()).flatten();
            let mut slot = Slot::new(image.clone()).unwrap();
            let mut model = image.memory().to_vec();
            for act in acts {
                match act {
                    Act::Write(at, byte) => {
                        let at = at % slot.len();
                        write(&mut slot, at, byte);
                        model[at] = byte;
                    }
                    Act::Grow(pages) => {
                        slot.grow(pages * WASM_PAGE).unwrap();
                        model.resize(model.len().max(pages * WASM_PAGE), 0);
                    }
                    Act::Reset(keep) => {
                        slot.reset(pagemap.as_ref(), keep).unwrap();
                        model = image.memory().to_vec();
                    }
                }
                prop_assert!(bytes(&slot) == model);
            }
            slot.reset(pagemap.as_ref(), 1 << 20).unwrap();
            prop_assert!(bytes(&slot) == image.memory());
        }
    }
}
