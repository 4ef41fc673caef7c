//! From code to something that can be instantiated: what a program may import and must export.

use super::host;
use super::program::ModuleKind;
use super::state::State;
use super::variant::TABLES_PER_SLOT;
use std::sync::Arc;
use tokio::sync::Semaphore;
use wasmtime::component::{self, Component};
use wasmtime::{ExternType, InstancePre, Linker, Module, ModuleExport, ResourcesRequired};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::{I32Exit, p0, p1, p2};

const PAGE: u64 = 64 << 10;

/// One engine of wasmtime and all that hangs on it.
pub(super) struct VariantEngine {
    pub engine: wasmtime::Engine,
    pub slots: Arc<Semaphore>,
    modules: Linker<State>,
    components: component::Linker<State>,
}

impl VariantEngine {
    pub fn new(engine: wasmtime::Engine, slots: u32) -> wasmtime::Result<VariantEngine> {
        let mut modules = Linker::new(&engine);
        p1::add_to_linker_async(&mut modules, |state: &mut State| &mut state.wasi)?;
        // What toolchains before 2020 emit.
        p0::add_to_linker_async(&mut modules, |state: &mut State| &mut state.wasi)?;
        host::add_to_linker(&mut modules)?;
        modules.allow_shadowing(true);
        for module in ["wasi_snapshot_preview1", "wasi_unstable"] {
            // The one of wasmtime-wasi traps on codes from 126 on, which programs do use.
            modules
                .func_wrap(module, "proc_exit", |code: i32| -> wasmtime::Result<()> { Err(I32Exit(code).into()) })?;
        }
        let mut components = component::Linker::new(&engine);
        p2::add_to_linker_async(&mut components)?;
        let slots = usize::try_from(slots)?.min(Semaphore::MAX_PERMITS);
        Ok(VariantEngine { engine, slots: Arc::new(Semaphore::new(slots)), modules, components })
    }
}

/// A program in one variant.
pub(super) struct Linked {
    pub engine: wasmtime::Engine,
    pub pre: Pre,
    /// Memory of a fresh instance in bytes; of a component with several memories, the largest.
    pub initial_memory: u64,
    /// Slots of the pool an instance takes.
    pub slots: u32,
}

/// What a fresh instance is made from.
pub(super) enum Pre {
    Module { pre: InstancePre<State>, start: ModuleExport },
    Component(CommandPre<State>),
}

/// Loads code and links it; `Err` says what is wrong with the module.
pub(super) fn link(variant: &VariantEngine, kind: ModuleKind, code: &[u8]) -> Result<Linked, String> {
    let unfit = |error: wasmtime::Error| format!("it does not fit the server: {error:#}");
    let (pre, needs) = match kind {
        ModuleKind::WasiP1 => {
            // SAFETY: `deserialize` trusts its input to be wasmtime's own output, because loading machine code
            // is running it. These bytes come from our compiler, either directly or through the cache, which
            // verifies their hash and keeps them where no other user can write.
            let module = unsafe { Module::deserialize(&variant.engine, code) }.map_err(unfit)?;
            check_exports(&module)?;
            let pre = variant.modules.instantiate_pre(&module).map_err(|error| bad_import(&error, false))?;
            let start = module.get_export_index("_start").ok_or_else(|| NO_START.to_owned())?;
            let needs = module.resources_required();
            // Made now, so that the first run does not wait for it.
            module.initialize_copy_on_write_image().map_err(unfit)?;
            (Pre::Module { pre, start }, Some(needs))
        }
        ModuleKind::Component => {
            // SAFETY: as above.
            let component = unsafe { Component::deserialize(&variant.engine, code) }.map_err(unfit)?;
            let pre = variant.components.instantiate_pre(&component).map_err(|error| bad_import(&error, true))?;
            let command = CommandPre::new(pre).map_err(|error| {
                format!(
                    "it is not a command: it must export wasi:cli/run ({:#}); build it as a WASI 0.2 command",
                    error
                )
            })?;
            let needs = component.resources_required();
            component.initialize_copy_on_write_image().map_err(unfit)?;
            (Pre::Component(command), needs)
        }
    };
    let needs = needs.ok_or("it imports core modules, which nothing here provides")?;
    Ok(Linked {
        engine: variant.engine.clone(),
        initial_memory: needs.max_initial_memory_size.unwrap_or(0).saturating_mul(PAGE),
        slots: slots(&needs),
        pre,
    })
}

const NO_START: &str = "it exports no function _start; build it as a WASI command (a program with main)";

fn check_exports(module: &Module) -> Result<(), String> {
    match module.get_export("_start") {
        Some(ExternType::Func(start)) if start.params().len() == 0 && start.results().len() == 0 => {}
        Some(_) => return Err("its export _start is not a function without parameters and results".into()),
        None if module.get_export("_initialize").is_some() => {
            return Err(format!("{NO_START}, not as a reactor or library (it exports _initialize)"));
        }
        None => return Err(NO_START.into()),
    }
    let imports_any = module.imports().len() > 0;
    match module.get_export("memory") {
        Some(ExternType::Memory(_)) => Ok(()),
        _ if imports_any => {
            Err("it exports no memory named \"memory\", through which it would talk to its imports".into())
        }
        _ => Ok(()),
    }
}

fn bad_import(error: &wasmtime::Error, component: bool) -> String {
    let offered = if component {
        "the interfaces of WASI 0.2's command world (wasi:cli, wasi:io, wasi:clocks, wasi:random, wasi:filesystem, wasi:sockets)"
    } else {
        "wasi_snapshot_preview1 and host_call of casemate or clawbox"
    };
    format!("it imports what there is not: {error:#}; offered are {offered}")
}

fn slots(needs: &ResourcesRequired) -> u32 {
    needs.num_memories.max(needs.num_tables.div_ceil(TABLES_PER_SLOT)).max(1)
}
