//! The kinds of compiled code and stacks there are, and the one place that configures wasmtime.
//!
//! Two properties cannot be chosen per run, because wasmtime fixes them per engine: whether code counts
//! fuel, and how much stack a guest may use. Each combination is a [`Variant`] with an engine of its own.

use super::EngineConfig;
use crate::domain::limits::Limits;
use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

/// Stack sizes there are, in bytes. A run gets the smallest one that holds its `stack_bytes`.
pub(super) const STACK_CLASSES: [u64; 4] = [128 << 10, 512 << 10, 2 << 20, 8 << 20];

/// Position in [`STACK_CLASSES`] of the class made at start: it holds the default limit.
const USUAL_CLASS: usize = 1;

/// Room above the guest's stack for host functions, which run on the same one. Only touched pages cost.
const HOST_STACK: usize = 1 << 20;

/// Guest frames kept of a trap.
pub(super) const MAX_FRAMES: usize = 32;

/// Memories, and four times as many tables, a component may have. Each takes a slot of the pool.
pub(super) const MAX_MEMORIES: u32 = 4;
/// Tables per slot.
pub(super) const TABLES_PER_SLOT: u32 = 4;
/// Core instances a component may consist of. They take no slots, only bookkeeping.
const MAX_CORE_INSTANCES: u32 = 64;

/// Bytes a slot keeps resident between runs, where resetting them is cheaper than giving them back.
const KEEP_MEMORY: usize = 1 << 20;
const KEEP_TABLE: usize = 64 << 10;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// What an engine of wasmtime fixes for all its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Variant {
    /// Whether code counts fuel.
    pub metered: bool,
    class: usize,
}

impl Variant {
    /// How many there are.
    pub const COUNT: usize = 2 * STACK_CLASSES.len();

    /// The one made at start.
    pub const PLAIN: Variant = Variant { metered: false, class: USUAL_CLASS };

    /// The one that can hold a run to its limits.
    pub fn of(limits: &Limits) -> Result<Variant> {
        match STACK_CLASSES.iter().position(|size| *size >= limits.stack_bytes) {
            Some(class) => Ok(Variant { metered: limits.fuel.is_some(), class }),
            None => {
                let largest = STACK_CLASSES[STACK_CLASSES.len() - 1];
                Err(Error::invalid("call.limits.stack_bytes", format!("expected at most {largest}")))
            }
        }
    }

    /// A number below [`Variant::COUNT`].
    pub fn index(self) -> usize {
        self.class * 2 + usize::from(self.metered)
    }

    /// All of them, by index.
    pub fn all() -> impl Iterator<Item = Variant> {
        (0..Self::COUNT).map(|index| Variant { metered: index % 2 == 1, class: index / 2 })
    }

    /// How errors call its pool.
    pub fn pool_name(self) -> String {
        let fuel = if self.metered { "with" } else { "without" };
        format!("the pool of runs {fuel} fuel and with {} KiB of stack", self.stack_bytes() >> 10)
    }

    /// Bytes of stack.
    pub fn stack_bytes(self) -> u64 {
        STACK_CLASSES[self.class]
    }

    /// Slots of the pool. The rarer variants get fewer: a pool is only address space, but that ends too.
    pub fn slots(self, max_running: u32) -> u32 {
        let rare = max_running.min(64.max(max_running / 4));
        // One component may take several.
        (if self == Variant::PLAIN { max_running } else { rare }).max(MAX_MEMORIES)
    }
}

/// What decides the machine code: the same for the server and for the process that compiles.
pub(super) fn code_config(metered: bool) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .consume_fuel(metered)
        // Said explicitly, although they are the defaults of 64-bit machines: a reservation of 4 GiB and
        // the guard behind it are what lets compiled code go without bounds checks.
        .memory_reservation(4 * GIB)
        .memory_guard_size(32 * MIB)
        .memory_init_cow(true)
        .wasm_backtrace_max_frames(NonZeroUsize::new(MAX_FRAMES))
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .native_unwind_info(false)
        // What toolchains emit today, and no more: no shared memory, no 64-bit memory, no second memory.
        .wasm_simd(true)
        .wasm_relaxed_simd(true)
        // The same result on every machine.
        .relaxed_simd_deterministic(true)
        .wasm_bulk_memory(true)
        .wasm_reference_types(true)
        .wasm_multi_value(true)
        .wasm_tail_call(true)
        .wasm_extended_const(true)
        .wasm_multi_memory(false)
        .wasm_memory64(false)
        .wasm_function_references(false)
        .wasm_gc(false)
        .wasm_exceptions(true)
        .wasm_component_model(true)
        .concurrency_support(false);
    config
}

/// The whole configuration of one variant in the server.
pub(super) fn server_config(config: &EngineConfig, variant: Variant, pagemap: bool) -> Result<Config> {
    let slots = variant.slots(config.max_running);
    let bytes = |field: &str, value: u64| {
        usize::try_from(value).map_err(|_| Error::invalid(field, "does not fit the address space of this machine"))
    };
    let mut pool = PoolingAllocationConfig::new();
    // A run that throws exceptions keeps them in a heap of its own, which takes a memory of the pool.
    pool.total_memories(slots.saturating_mul(2))
        .total_tables(slots.saturating_mul(TABLES_PER_SLOT))
        .total_stacks(slots)
        .total_core_instances(slots.saturating_mul(MAX_CORE_INSTANCES))
        .total_component_instances(slots)
        .total_gc_heaps(slots)
        .max_memories_per_module(1)
        .max_tables_per_module(TABLES_PER_SLOT)
        .max_memories_per_component(MAX_MEMORIES)
        .max_tables_per_component(MAX_MEMORIES * TABLES_PER_SLOT)
        .max_core_instances_per_component(MAX_CORE_INSTANCES)
        .max_memory_size(bytes("caps.memory_bytes", config.caps.memory_bytes)?)
        .table_elements(bytes("caps.table_elements", config.caps.table_elements)?)
        .pagemap_scan(if pagemap { Enabled::Yes } else { Enabled::No });
    if pagemap {
        // Without the scan, keeping pages is slower than giving them back (each reset copies all of them).
        pool.linear_memory_keep_resident(KEEP_MEMORY).table_keep_resident(KEEP_TABLE);
    }
    let stack = bytes("limits.stack_bytes", variant.stack_bytes())?;
    let mut all = code_config(variant.metered);
    all.max_wasm_stack(stack)
        .async_stack_size(stack + HOST_STACK)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Ok(all)
}

/// A number for everything that decides whether compiled code fits: wasmtime's version, its settings, the
/// processor's features.
pub(crate) fn fingerprint(engine: &wasmtime::Engine) -> [u8; 32] {
    // The standard library's hasher may change with the compiler; this one stays.
    struct Stable(Sha256);
    impl Hasher for Stable {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            let digest = self.0.clone().finalize();
            digest.iter().take(8).fold(0, |word, byte| word << 8 | u64::from(*byte))
        }
    }
    let mut hasher = Stable(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.0.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::limits::LimitsPolicy;

    fn engine(variant: Variant) -> wasmtime::Engine {
        let config = EngineConfig { max_running: 2, ..EngineConfig::default() };
        wasmtime::Engine::new(&server_config(&config, variant, false).unwrap()).unwrap()
    }

    #[test]
    fn a_run_gets_the_smallest_stack_that_holds_its_limit() {
        let mut limits = LimitsPolicy::default().defaults;
        for (asked, given) in [(1, 128 << 10), (128 << 10, 128 << 10), ((512 << 10) + 1, 2 << 20), (8 << 20, 8 << 20)] {
            limits.stack_bytes = asked;
            assert_eq!(Variant::of(&limits).unwrap().stack_bytes(), given, "{asked}");
        }
        limits.stack_bytes = (8 << 20) + 1;
        assert!(matches!(Variant::of(&limits), Err(Error::InvalidArgument(_))));
        assert_eq!(Variant::of(&LimitsPolicy::default().defaults).unwrap(), Variant::PLAIN);
    }

    #[test]
    fn code_compiled_elsewhere_fits_every_stack_class_but_not_the_other_metering() {
        for metered in [false, true] {
            let compiler = wasmtime::Engine::new(&code_config(metered)).unwrap();
            for class in 0..STACK_CLASSES.len() {
                assert_eq!(fingerprint(&compiler), fingerprint(&engine(Variant { metered, class })), "{class}");
                assert_ne!(fingerprint(&compiler), fingerprint(&engine(Variant { metered: !metered, class })));
            }
        }
    }

    #[test]
    fn every_variant_has_its_own_index() {
        assert!(Variant::all().enumerate().all(|(index, variant)| variant.index() == index));
        let mut seen = [false; Variant::COUNT];
        for class in 0..STACK_CLASSES.len() {
            for metered in [false, true] {
                assert!(!std::mem::replace(&mut seen[Variant { metered, class }.index()], true));
            }
        }
        assert!(seen.iter().all(|seen| *seen));
    }
}
