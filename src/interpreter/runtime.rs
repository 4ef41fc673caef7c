//! An interpreter's compiled code, and isolates of it.

use super::javascript;
use super::memory::{Image, Slots, Tenant, WASM_PAGE};
use super::module::{INNER, STACK_POINTER};
use super::talk::{MAX_MESSAGE, Said, Talk};
use super::wasi::{self, Wasi};
use crate::domain::io::Meter;
use bytes::Bytes;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use wasmtime::{
    Caller, Config, Error, Extern, Global, Instance, InstancePre, Linker, Memory, Module, ResourceLimiter, Result,
    Store, TypedFunc,
};

/// Stack of a guest's own calls, in bytes. Python checks its depth by itself well before that.
const STACK: usize = 8 << 20;

/// What host functions need on top of it.
const HOST_STACK: usize = 1 << 20;

/// Settings that decide machine code, the same for whoever compiles and whoever runs.
fn code_config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .wasm_exceptions(true)
        .wasm_simd(true)
        .relaxed_simd_deterministic(true)
        // A quarter of the size; backtraces through an interpreter's own functions help nobody.
        .generate_address_map(false)
        .native_unwind_info(false)
        .memory_reservation(4 << 30)
        .memory_guard_size(32 << 20)
        .memory_init_cow(false)
        .concurrency_support(false)
        .max_wasm_stack(STACK)
        .async_stack_size(STACK + HOST_STACK);
    config
}

/// Compiles an interpreter's code. Takes a minute and some GiB for Python.
pub fn compile(code: &[u8]) -> Result<Vec<u8>> {
    wasmtime::Engine::new(&code_config())?.precompile_module(code)
}

/// Says whether compiled code fits this build and this machine.
pub fn fingerprint() -> Result<[u8; 32]> {
    Ok(crate::engine::code_fingerprint(&wasmtime::Engine::new(&code_config())?))
}

/// The language of an interpreter decides how a turn is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// CPython: `turn(pointer, length)`.
    Python,
    /// QuickJS: an evaluation, then waiting for its promise.
    JavaScript,
}

/// Compiled code, linked. Cheap to clone.
#[derive(Clone)]
pub struct Runtime(Arc<Inner>);

struct Inner {
    engine: wasmtime::Engine,
    pre: InstancePre<State>,
    language: Language,
    slots: Slots,
    /// Where things are in QuickJS, once somebody looked.
    places: OnceLock<javascript::Places>,
}

/// What belongs to one isolate.
pub(super) struct State {
    pub wasi: Wasi,
    limiter: Limiter,
    /// Whom the guest talks to now; nobody between turns.
    talk: Option<Arc<Talk>>,
    /// The guest's memory and its allocator, for answers: looked up at the first turn.
    answers: Option<(Memory, TypedFunc<i32, i32>)>,
}

impl wasi::View for State {
    fn wasi(&mut self) -> &mut Wasi {
        &mut self.wasi
    }
}

/// Holds an isolate to the memory of its image and what it was allowed beyond.
struct Limiter {
    limit: usize,
    image: usize,
    table: usize,
    meter: Option<Arc<Meter>>,
    denied: Option<u64>,
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        if desired > self.limit.max(self.image) {
            self.denied.get_or_insert((desired - self.image.min(desired)) as u64);
            return Ok(false);
        }
        if let Some(meter) = &self.meter {
            meter.memory(desired.saturating_sub(self.image) as u64);
        }
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        Ok(desired <= self.table)
    }
}

/// Elements a table may have: the interpreter's own, made by its module.
const TABLE: usize = 1 << 20;

impl Runtime {
    /// Loads compiled code. `Err` says why it does not fit.
    ///
    /// # Safety
    /// Loading compiled code is running it: the file must be what [`compile`] made, verified by its digest,
    /// where no other user can write.
    pub unsafe fn load(code: &Path, language: Language, slots: &Slots) -> Result<Runtime> {
        let mut config = code_config();
        slots.serve(&mut config);
        let engine = wasmtime::Engine::new(&config)?;
        // SAFETY: promised by the caller.
        let module = unsafe { Module::deserialize_file(&engine, code) }?;
        let mut linker = Linker::new(&engine);
        wasi::add_to_linker(&mut linker)?;
        if language == Language::Python {
            linker.func_wrap_async("host", "call", |caller: Caller<'_, State>, (from, length, to, size)| {
                Box::new(host_call(caller, [from, length], [to, size]))
            })?;
        }
        let pre = linker.instantiate_pre(&module)?;
        Ok(Runtime(Arc::new(Inner { engine, pre, language, slots: slots.clone(), places: OnceLock::new() })))
    }

    /// The engine, for the clock that interrupts its guests.
    pub fn engine(&self) -> &wasmtime::Engine {
        &self.0.engine
    }
}

/// A live interpreter.
pub struct Isolate {
    store: Store<State>,
    instance: Instance,
    memory: Memory,
    stack_pointer: Global,
    stack_start: i32,
    runtime: Runtime,
    entry: Option<Entry>,
    image: Arc<Image>,
}

/// Functions of a turn, looked up at the first.
#[derive(Clone)]
enum Entry {
    JavaScript(Arc<javascript::Machine>),
    Python { alloc: TypedFunc<i32, i32>, turn: TypedFunc<(i32, i32), i32> },
}

/// How a turn ended.
pub struct Turned {
    /// What it said.
    pub said: Said,
    /// `Err` when the guest did not come to its end by itself: a trap, or `proc_exit`.
    pub result: Result<()>,
    /// Memory it asked for beyond its limit, in bytes; `None` when it did not.
    pub denied: Option<u64>,
}

impl Isolate {
    /// A fresh isolate that shows an image. `memory_bytes` is what it may use beyond the image.
    pub async fn start(
        runtime: &Runtime,
        image: &Arc<Image>,
        tenant: &Tenant,
        wasi: Wasi,
        memory_bytes: u64,
    ) -> Result<Isolate> {
        let inner = &*runtime.0;
        let beyond = usize::try_from(memory_bytes).unwrap_or(usize::MAX);
        let limiter = Limiter {
            limit: image.memory_bytes().saturating_add(beyond),
            image: image.memory_bytes(),
            table: TABLE,
            meter: None,
            denied: None,
        };
        let began = Instant::now();
        let mut store = Store::new(&inner.engine, State { wasi, limiter, talk: None, answers: None });
        store.limiter(|state| &mut state.limiter);
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        let stored = began.elapsed();
        let instance = inner.slots.instantiate(image, tenant, inner.pre.instantiate_async(&mut store)).await??;
        let memory = instance.get_memory(&mut store, "memory").ok_or_else(|| Error::msg("it exports no memory"))?;
        let stack_pointer =
            instance.get_global(&mut store, STACK_POINTER).ok_or_else(|| Error::msg("it exports no stack pointer"))?;
        let stack_start = stack_pointer.get(&mut store).i32().unwrap_or_default();
        inner.slots.note_start(stored, began.elapsed().saturating_sub(stored));
        Ok(Isolate {
            store,
            instance,
            memory,
            stack_pointer,
            stack_start,
            runtime: runtime.clone(),
            entry: None,
            image: image.clone(),
        })
    }

    /// Runs one turn. After an error the isolate's state is not to be trusted: drop it.
    pub(super) async fn turn(&mut self, talk: Talk) -> Turned {
        let talk = Arc::new(talk);
        let state = self.store.data_mut();
        state.limiter.meter = Some(talk.meter.clone());
        state.limiter.denied = None;
        state.talk = Some(talk.clone());
        if self.runtime.0.language == Language::JavaScript {
            state.wasi.set_channel(Some(talk.clone()));
        }
        let began = Instant::now();
        let result = match self.enter().await {
            Ok(()) => self.check_stack(),
            Err(error) => Err(error),
        };
        self.runtime.0.slots.note_turn(began.elapsed());
        let state = self.store.data_mut();
        state.talk = None;
        state.wasi.set_channel(None);
        state.limiter.meter = None;
        let denied = state.limiter.denied.take();
        let said = std::mem::take(&mut *talk.said.lock());
        Turned { said, result, denied }
    }

    async fn enter(&mut self) -> Result<()> {
        let entry = match &self.entry {
            Some(entry) => entry.clone(),
            None => {
                let pristine = self.store.data().talk.as_ref().is_some_and(|talk| talk.turn.pristine);
                let entry = self.look_up(pristine).await?;
                self.entry.insert(entry).clone()
            }
        };
        match entry {
            Entry::Python { alloc, turn } => {
                // The driver asks the host for the code; what is passed here is only there to be passed.
                let at = alloc.call_async(&mut self.store, 1).await?;
                self.memory.write(&mut self.store, at as u32 as usize, b" ")?;
                turn.call_async(&mut self.store, (at, 1)).await?;
            }
            Entry::JavaScript(machine) => {
                let talk = self.store.data().talk.clone().ok_or_else(|| Error::msg("nobody to talk to"))?;
                let code = javascript::turn(&mut self.store, self.memory, &machine, &talk.turn).await?;
                talk.said.lock().code = code;
            }
        }
        Ok(())
    }

    async fn look_up(&mut self, pristine: bool) -> Result<Entry> {
        let (instance, store) = (&self.instance, &mut self.store);
        Ok(match self.runtime.0.language {
            Language::Python => Entry::Python {
                alloc: instance.get_typed_func(&mut *store, "host_alloc")?,
                turn: instance.get_typed_func(&mut *store, "turn")?,
            },
            Language::JavaScript => {
                let known = &self.runtime.0.places;
                let places = match known.get() {
                    Some(places) => *places,
                    None => {
                        let places = javascript::Machine::places(store, instance, self.memory).await?;
                        // What a session says of itself is true of that session at most.
                        if pristine { *known.get_or_init(|| places) } else { places }
                    }
                };
                Entry::JavaScript(Arc::new(javascript::Machine::find(store, instance, Some(places)).await?))
            }
        })
    }

    /// The stack pointer is the one piece of state outside of the memory.
    fn check_stack(&mut self) -> Result<()> {
        let now = self.stack_pointer.get(&mut self.store).i32();
        if now == Some(self.stack_start) { Ok(()) } else { Err(Error::msg("the stack pointer is not where it began")) }
    }

    /// Calls an inner function, while an image is made.
    pub(super) async fn call(&mut self, name: &str) -> Result<()> {
        let function = self.instance.get_typed_func::<(), ()>(&mut self.store, name)?;
        function.call_async(&mut self.store, ()).await
    }

    /// Runs a script of Python's before the freeze, and its conversation with the host.
    pub(super) async fn run_private(&mut self, script: &str, talk: Arc<Talk>) -> Result<()> {
        self.store.data_mut().talk = Some(talk);
        let alloc = self.instance.get_typed_func::<i32, i32>(&mut self.store, "host_alloc")?;
        let run = self.instance.get_typed_func::<i32, ()>(&mut self.store, &format!("{INNER}run_private"))?;
        let length = i32::try_from(script.len() + 1)?;
        let at = alloc.call_async(&mut self.store, length).await?;
        let text = [script.as_bytes(), b"\0"].concat();
        self.memory.write(&mut self.store, at as u32 as usize, &text)?;
        let result = run.call_async(&mut self.store, at).await;
        self.store.data_mut().talk = None;
        result
    }

    /// What it is made of, while an image is made.
    pub(super) fn parts(&mut self) -> (&mut Store<State>, &Instance, Memory) {
        (&mut self.store, &self.instance, self.memory)
    }

    /// The whole memory, between turns.
    pub fn memory(&self) -> &[u8] {
        self.memory.data(&self.store)
    }

    /// Its files and streams, between turns.
    pub(super) fn wasi(&self) -> &Wasi {
        &self.store.data().wasi
    }

    /// The same, to be changed.
    pub(super) fn wasi_mut(&mut self) -> &mut Wasi {
        &mut self.store.data_mut().wasi
    }

    /// The whole memory, to be changed between turns.
    pub(super) fn memory_mut(&mut self) -> &mut [u8] {
        self.memory.data_mut(&mut self.store)
    }

    /// Makes the memory at least this long, in bytes.
    pub(super) async fn grow(&mut self, length: usize) -> Result<()> {
        let missing = length.saturating_sub(self.memory().len()).div_ceil(WASM_PAGE);
        if missing > 0 {
            self.memory.grow_async(&mut self.store, missing as u64).await?;
        }
        Ok(())
    }

    /// The image it started from.
    pub fn image(&self) -> &Arc<Image> {
        &self.image
    }
}

fn answers(caller: &mut Caller<'_, State>) -> Option<(Memory, TypedFunc<i32, i32>)> {
    if let Some(known) = &caller.data().answers {
        return Some(known.clone());
    }
    let (Some(Extern::Memory(memory)), Some(Extern::Func(alloc))) =
        (caller.get_export("memory"), caller.get_export("host_alloc"))
    else {
        return None;
    };
    let alloc = alloc.typed::<i32, i32>(&*caller).ok()?;
    caller.data_mut().answers = Some((memory, alloc.clone()));
    Some((memory, alloc))
}

const DONE: i32 = 0;
const FAULT: i32 = -2;

/// `host.call(request, length, &answer, &length) -> status`: a message to the host, and the answer in memory
/// that the guest's own allocator gave.
async fn host_call(mut caller: Caller<'_, State>, request: [i32; 2], answer: [i32; 2]) -> i32 {
    let Some((memory, alloc)) = answers(&mut caller) else { return FAULT };
    let [from, length] = request.map(|word| word as u32 as usize);
    if length > MAX_MESSAGE {
        return FAULT;
    }
    let Some(bytes) = memory.data(&caller).get(from..from.saturating_add(length)) else { return FAULT };
    let request = Bytes::copy_from_slice(bytes);
    let Some(talk) = caller.data().talk.clone() else { return FAULT };
    let response = talk.answer(request).await;
    let Ok(length) = i32::try_from(response.len()) else { return FAULT };
    let Ok(at) = alloc.call_async(&mut caller, length).await else { return FAULT };
    let [to, size] = answer.map(|word| word as u32 as usize);
    let written = at != 0
        && memory.write(&mut caller, at as u32 as usize, &response).is_ok()
        && memory.write(&mut caller, to, &at.to_le_bytes()).is_ok()
        && memory.write(&mut caller, size, &length.to_le_bytes()).is_ok();
    if written { DONE } else { FAULT }
}
