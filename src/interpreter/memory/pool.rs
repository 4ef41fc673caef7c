//! Slots, kept for the tenant they served.

use super::heap::Heaps;
use super::pagemap::Pagemap;
use super::slot::Slot;
use super::stack::{Home, Stacks};
use super::{Image, MAX_MEMORY};
use parking_lot::Mutex;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;
use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

/// Whom a slot serves. One that served a tenant serves no other: it is thrown away instead. One of nobody (an
/// empty name) is thrown away after its only use.
pub type Tenant = Arc<str>;

/// Bytes of written pages that are copied back and stay with a slot; beyond it pages are given back.
const KEEP: usize = 4 << 20;

/// All slots of a server.
#[derive(Clone)]
pub struct Slots(Arc<Inner>);

struct Inner {
    /// `None` where the kernel has no page map to scan: slower, never wrong.
    pagemap: Option<Pagemap>,
    /// The most recently used last.
    idle: Mutex<VecDeque<(Slot, Tenant)>>,
    max_idle: usize,
    stacks: Arc<Home>,
    heaps: Arc<Heaps>,
    made: AtomicU64,
    reused: AtomicU64,
    spent: Spending,
}

/// Time that isolates took, by what they took it for, in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Isolates that were started.
    pub started: u64,
    /// Making the store: what the engine keeps of an isolate.
    pub store: Duration,
    /// Making the instance in it, on a memory that shows the image.
    pub instantiate: Duration,
    /// Turns that ran.
    pub turns: u64,
    /// Running them, what they waited for included.
    pub run: Duration,
    /// Memories that were made to show the image again.
    pub resets: u64,
    /// Finding the pages that were written.
    pub scan: Duration,
    /// Copying them back, or giving them back.
    pub copy: Duration,
    /// Those pages.
    pub pages: u64,
}

/// The same while it is counted; times in nanoseconds.
#[derive(Default)]
struct Spending {
    started: AtomicU64,
    store: AtomicU64,
    instantiate: AtomicU64,
    turns: AtomicU64,
    run: AtomicU64,
    resets: AtomicU64,
    scan: AtomicU64,
    copy: AtomicU64,
    pages: AtomicU64,
}

fn add(counter: &AtomicU64, time: Duration) {
    counter.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
}

/// What the slots say of themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotFacts {
    /// Slots that wait for their tenant's next run.
    pub idle: usize,
    /// Slots made since the start.
    pub made: u64,
    /// Runs that got a slot of an earlier run of the same tenant.
    pub reused: u64,
    /// Whether written pages are found through the kernel's page map.
    pub pagemap: bool,
}

impl Slots {
    /// Keeps at most `max_idle` slots and as many stacks; each holds a few MiB at most.
    pub fn new(max_idle: usize, use_pagemap: bool) -> Slots {
        let pagemap = match use_pagemap.then(Pagemap::open) {
            Some(Ok(pagemap)) => Some(pagemap),
            Some(Err(error)) => {
                tracing::info!(%error, "no page map to scan; interpreters' memories are discarded after each run, which is slower");
                None
            }
            None => None,
        };
        Slots(Arc::new(Inner {
            pagemap,
            idle: Mutex::default(),
            max_idle,
            stacks: Home::new(max_idle),
            heaps: Heaps::new(max_idle),
            made: AtomicU64::new(0),
            reused: AtomicU64::new(0),
            spent: Spending::default(),
        }))
    }

    /// What these say of themselves.
    pub fn facts(&self) -> SlotFacts {
        SlotFacts {
            idle: self.0.idle.lock().len(),
            made: self.0.made.load(Relaxed),
            reused: self.0.reused.load(Relaxed),
            pagemap: self.0.pagemap.is_some(),
        }
    }

    /// What isolates took so far.
    pub fn spent(&self) -> Spent {
        let spent = &self.0.spent;
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        let time = |counter: &AtomicU64| Duration::from_nanos(counter.load(Relaxed));
        Spent {
            started: count(&spent.started),
            store: time(&spent.store),
            instantiate: time(&spent.instantiate),
            turns: count(&spent.turns),
            run: time(&spent.run),
            resets: count(&spent.resets),
            scan: time(&spent.scan),
            copy: time(&spent.copy),
            pages: count(&spent.pages),
        }
    }

    /// Notes the start of an isolate.
    pub fn note_start(&self, store: Duration, instantiate: Duration) {
        self.0.spent.started.fetch_add(1, Relaxed);
        add(&self.0.spent.store, store);
        add(&self.0.spent.instantiate, instantiate);
    }

    /// Notes a turn.
    pub fn note_turn(&self, run: Duration) {
        self.0.spent.turns.fetch_add(1, Relaxed);
        add(&self.0.spent.run, run);
    }

    /// Makes an engine take its memories and stacks from here.
    pub fn serve(&self, config: &mut wasmtime::Config) {
        config
            .with_host_memory(Arc::new(Creator(self.0.heaps.clone())))
            .with_host_stack(Arc::new(Stacks(self.0.stacks.clone())));
    }

    /// A memory that shows the image, for one instance.
    fn take(&self, image: &Arc<Image>, tenant: &Tenant) -> std::io::Result<Memory> {
        let kept = {
            let mut idle = self.0.idle.lock();
            let at = idle.iter().rposition(|(slot, of)| Arc::ptr_eq(slot.image(), image) && of == tenant);
            at.and_then(|at| idle.remove(at))
        };
        let slot = match kept {
            Some((slot, _)) => {
                self.0.reused.fetch_add(1, Relaxed);
                slot
            }
            None => {
                self.0.made.fetch_add(1, Relaxed);
                Slot::new(image.clone())?
            }
        };
        Ok(Memory { slot: Some(slot), tenant: tenant.clone(), home: self.clone() })
    }

    /// Instantiates: the future, polled to its end, may make one memory, and gets this one.
    ///
    /// The engine's interface for memories says neither whose a memory is nor what it should show. So the
    /// memory waits on the thread while the future is polled. Instantiation runs no guest code (the module
    /// has no start function), so it is over in one poll; a second one would find no memory and fail.
    pub async fn instantiate<F: Future>(
        &self,
        image: &Arc<Image>,
        tenant: &Tenant,
        future: F,
    ) -> std::io::Result<F::Output> {
        let mut memory = Some(self.take(image, tenant)?);
        let mut future = std::pin::pin!(future);
        Ok(std::future::poll_fn(|cx| with_memory(&mut memory, future.as_mut(), cx)).await)
    }

    /// The pages of a memory that were written since it showed the image. `None` where the kernel cannot say.
    pub fn written(&self, range: Range<usize>) -> Option<std::io::Result<Vec<Range<usize>>>> {
        let pagemap = self.0.pagemap.as_ref()?;
        let mut found = Vec::new();
        Some(pagemap.written(range, |pages| found.push(pages)).map(|()| found))
    }

    /// Drops the idle slots that show this image: it was deleted.
    pub fn forget(&self, image: &Arc<Image>) {
        self.0.idle.lock().retain(|(slot, _)| !Arc::ptr_eq(slot.image(), image));
    }

    fn put_back(&self, mut slot: Slot, tenant: Tenant) {
        if self.0.max_idle == 0 || tenant.is_empty() {
            return;
        }
        match slot.reset(self.0.pagemap.as_ref(), KEEP) {
            Ok(reset) => {
                self.0.spent.resets.fetch_add(1, Relaxed);
                self.0.spent.pages.fetch_add(reset.pages as u64, Relaxed);
                add(&self.0.spent.scan, reset.scan);
                add(&self.0.spent.copy, reset.copy);
            }
            Err(error) => {
                // Whatever it shows now, nobody will see it.
                tracing::warn!(%error, "the memory of an interpreter cannot be reset and is thrown away");
                return;
            }
        }
        let mut idle = self.0.idle.lock();
        let oldest = if idle.len() >= self.0.max_idle { idle.pop_front() } else { None };
        idle.push_back((slot, tenant));
        drop(idle);
        // Unmapping takes a while: not under the lock.
        drop(oldest);
    }
}

thread_local! {
    static NEXT: RefCell<Option<Memory>> = const { RefCell::new(None) };
}

fn with_memory<F: Future>(memory: &mut Option<Memory>, future: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
    NEXT.with_borrow_mut(|next| *next = memory.take());
    let polled = future.poll(cx);
    *memory = NEXT.with_borrow_mut(Option::take);
    polled
}

struct Creator(Arc<Heaps>);

// SAFETY: each memory is a reservation of its own of 4 GiB and a guard, owned by the instance until it is
// dropped, and never moved. It is not zero-filled but shows the image that belongs to the module, whose own
// data segments were taken out; every byte of it is defined.
unsafe impl MemoryCreator for Creator {
    fn new_memory(
        &self,
        _: MemoryType,
        minimum: usize,
        _: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        if reserved.is_some_and(|reserved| reserved > MAX_MEMORY) || guard > super::GUARD {
            return Err(format!("the engine asks for {reserved:?} bytes and a guard of {guard}"));
        }
        // A heap for exceptions begins empty; a module's memory never does (see `take_apart`).
        if minimum == 0 {
            return Ok(Box::new(self.0.take().map_err(|error| error.to_string())?));
        }
        let memory = NEXT.with_borrow_mut(Option::take).ok_or("no memory was prepared for this instance")?;
        if memory.byte_size() < minimum {
            return Err(format!("the image has {} bytes, the module needs {minimum}", memory.byte_size()));
        }
        Ok(Box::new(memory))
    }
}

/// A slot in use. Dropping it resets the slot and keeps it for its tenant.
struct Memory {
    /// Until it is dropped.
    slot: Option<Slot>,
    tenant: Tenant,
    home: Slots,
}

// SAFETY: see `Creator`; growth never moves the memory.
unsafe impl LinearMemory for Memory {
    fn byte_size(&self) -> usize {
        self.slot.as_ref().map_or(0, Slot::len)
    }

    fn byte_capacity(&self) -> usize {
        MAX_MEMORY
    }

    fn grow_to(&mut self, len: usize) -> wasmtime::Result<()> {
        match &mut self.slot {
            Some(slot) => Ok(slot.grow(len)?),
            None => Err(wasmtime::Error::msg("the memory is gone")),
        }
    }

    fn as_ptr(&self) -> *mut u8 {
        self.slot.as_ref().map_or(std::ptr::null_mut(), Slot::base)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.home.put_back(slot, self.tenant.clone());
        }
    }
}
