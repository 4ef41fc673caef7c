//! The engine's C functions, as the host calls them.
//!
//! Nothing here trusts the guest: addresses are bounds-checked by `Memory`, and a wrong one ends the run.

use super::super::module::{INNER, STACK_POINTER};
use super::Ask;
use wasmtime::{Error, Global, Instance, Memory, Result, Store, TypedFunc, Val, WasmParams, WasmResults};

/// A value of the engine's: 32 bits of tag, the highest first, and 32 bits of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value(pub i64);

impl Value {
    pub const UNDEFINED: Value = Value(3 << 32);

    pub fn number(number: i32) -> Value {
        Value(i64::from(number as u32))
    }

    pub fn as_number(self) -> Option<i32> {
        (self.tag() == 0).then_some(self.0 as i32)
    }

    pub fn is_exception(self) -> bool {
        self.tag() == 6
    }

    pub fn is_undefined(self) -> bool {
        self == Value::UNDEFINED
    }

    pub fn is_object(self) -> bool {
        self.tag() == -1
    }

    /// Whether it is a reference that is counted.
    fn is_counted(self) -> bool {
        self.tag() < 0
    }

    /// Whether it is a text, in one piece or not yet joined.
    pub fn is_text(self) -> bool {
        matches!(self.tag(), -7 | -6)
    }

    fn tag(self) -> i32 {
        (self.0 >> 32) as i32
    }
}

/// How code is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum As {
    /// As a script, at once.
    Plain = 0,
    /// As a module.
    Module = 1,
    /// As a module, which is only made known by its name.
    Known = 1 | 1 << 5,
    /// As a script with `await` at the top level, whose names later scripts see.
    Script = 1 << 7,
}

/// Where things are in the image, the same in every isolate of it: made before any code of users ran.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    context: i32,
    runtime: i32,
    /// The driver's function. It cannot be replaced: its name is a constant of the global object.
    driver: Value,
}

/// The functions of an instance, and where its engine is.
#[derive(Clone)]
pub struct Machine {
    pub(super) context: i32,
    pub(super) runtime: i32,
    driver: Value,
    /// For functions that most turns never need.
    instance: Instance,
    eval: TypedFunc<(i32, i32, i32, i32, i32), i64>,
    call: TypedFunc<(i32, i64, i64, i32, i32), i64>,
    run_job: TypedFunc<(i32, i32), i32>,
    release: TypedFunc<(i32, i64), ()>,
    stack: Global,
}

impl Machine {
    /// Looks the functions up, in an instance whose engine is there. Without places the driver is not known.
    pub(crate) async fn find<T: Send>(
        store: &mut Store<T>,
        instance: &Instance,
        places: Option<Places>,
    ) -> Result<Machine> {
        let (context, runtime, driver) = match places {
            Some(places) => (places.context, places.runtime, places.driver),
            None => {
                let context = instance.get_typed_func::<(), i32>(&mut *store, "qjs_get_context")?;
                let context = context.call_async(&mut *store, ()).await?;
                let runtime = instance.get_typed_func::<i32, i32>(&mut *store, &inner("JS_GetRuntime"))?;
                (context, runtime.call_async(&mut *store, context).await?, Value::UNDEFINED)
            }
        };
        let stack = instance.get_global(&mut *store, STACK_POINTER);
        Ok(Machine {
            context,
            runtime,
            driver,
            instance: *instance,
            eval: instance.get_typed_func(&mut *store, &inner("JS_Eval"))?,
            call: instance.get_typed_func(&mut *store, &inner("JS_Call"))?,
            run_job: instance.get_typed_func(&mut *store, &inner("JS_ExecutePendingJob"))?,
            release: instance.get_typed_func(&mut *store, &inner("JS_FreeValue"))?,
            stack: stack.ok_or_else(|| Error::msg("it exports no stack pointer"))?,
        })
    }

    /// Where things are, in an instance that ran no code of users.
    pub(crate) async fn places<T: Send>(store: &mut Store<T>, instance: &Instance, memory: Memory) -> Result<Places> {
        let mut machine = Machine::find(store, instance, None).await?;
        machine.find_driver(store, memory).await?;
        Ok(Places { context: machine.context, runtime: machine.runtime, driver: machine.driver })
    }

    /// Finds the driver.
    pub(super) async fn find_driver<T: Send>(&mut self, store: &mut Store<T>, memory: Memory) -> Result<()> {
        let mut guest = Guest::new(store, memory, self)?;
        let driver = guest.evaluate(b"casemate$driver", "<casemate>", As::Plain).await?;
        // The global object keeps it.
        guest.release(driver).await?;
        guest.leave()?;
        self.driver = driver;
        if driver.is_object() { Ok(()) } else { Err(Error::msg("the guest has no driver")) }
    }
}

/// Name under which an inner function is exported.
pub(super) fn inner(name: &str) -> String {
    format!("{INNER}{name}")
}

/// Bytes of the block that [`Guest`] passes arguments in.
const ARGUMENTS: i32 = 16;

/// The most that is passed to the engine on its stack at a time.
const ON_STACK: usize = 16 << 10;

/// An engine that is being used. What is passed to it lies on its own stack, as if a caller in C had put it there.
pub(super) struct Guest<'a, T: 'static> {
    pub store: &'a mut Store<T>,
    pub memory: Memory,
    pub machine: &'a Machine,
    /// The stack pointer, to be put back.
    top: i32,
    /// A block for arguments and results, right below.
    arguments: i32,
}

impl<'a, T: Send> Guest<'a, T> {
    pub fn new(store: &'a mut Store<T>, memory: Memory, machine: &'a Machine) -> Result<Guest<'a, T>> {
        let top = machine.stack.get(&mut *store).i32().unwrap_or_default();
        let arguments = top.wrapping_sub(ARGUMENTS) & !15;
        machine.stack.set(&mut *store, Val::I32(arguments))?;
        Ok(Guest { store, memory, machine, top, arguments })
    }

    /// Gives back what [`Guest::new`] took. An engine that failed is not used again, and needs no leave.
    pub fn leave(self) -> Result<()> {
        self.machine.stack.set(&mut *self.store, Val::I32(self.top))
    }

    /// Evaluates code. The result is the caller's to release.
    pub async fn evaluate(&mut self, code: &[u8], name: &str, how: As) -> Result<Value> {
        let length = i32::try_from(code.len())?;
        let text = [code, b"\0", name.as_bytes(), b"\0"].concat();
        let size = i32::try_from(text.len())?;
        let on_stack = text.len() <= ON_STACK;
        let at = if on_stack {
            let at = self.arguments.wrapping_sub(size) & !15;
            self.machine.stack.set(&mut *self.store, Val::I32(at))?;
            at
        } else {
            self.allocate(size).await?
        };
        self.memory.write(&mut *self.store, at as u32 as usize, &text)?;
        let named = at.wrapping_add(length).wrapping_add(1);
        let eval = (self.machine.context, at, length, named, how as i32);
        let value = self.machine.eval.call_async(&mut *self.store, eval).await?;
        if on_stack {
            self.machine.stack.set(&mut *self.store, Val::I32(self.arguments))?;
        } else {
            self.function::<i32, ()>("free")?.call_async(&mut *self.store, at).await?;
        }
        Ok(Value(value))
    }

    fn function<P: WasmParams, R: WasmResults>(&mut self, name: &str) -> Result<TypedFunc<P, R>> {
        self.machine.instance.get_typed_func(&mut *self.store, name)
    }

    /// Memory of the guest's. `Err` when there is none left.
    async fn allocate(&mut self, size: i32) -> Result<i32> {
        match self.function::<i32, i32>("malloc")?.call_async(&mut *self.store, size).await? {
            0 => Err(Error::msg("the guest has no memory left")),
            at => Ok(at),
        }
    }

    /// Asks the driver. What it is given stays the caller's; the answer is the caller's to release. `Err` when
    /// the driver itself failed.
    pub async fn ask(&mut self, what: Ask, given: Value) -> Result<Value> {
        let arguments = [i64::from(what as i32).to_le_bytes(), given.0.to_le_bytes()].concat();
        self.memory.write(&mut *self.store, self.arguments as u32 as usize, &arguments)?;
        let call = (self.machine.context, self.machine.driver.0, Value::UNDEFINED.0, 2, self.arguments);
        let answer = Value(self.machine.call.call_async(&mut *self.store, call).await?);
        if !answer.is_exception() {
            return Ok(answer);
        }
        let problem = self.exception().await?;
        let text = self.text(problem).await?;
        Err(Error::msg(format!("the guest's driver failed at {what:?}: {text}")))
    }

    /// The error that is being thrown; it is no longer thrown then, and the caller's to release.
    pub async fn exception(&mut self) -> Result<Value> {
        let exception = self.function::<i32, i64>(&inner("JS_GetException"))?;
        exception.call_async(&mut *self.store, self.machine.context).await.map(Value)
    }

    /// Makes a module known to the engine's loader; it is not run before somebody imports it. The text is its name,
    /// a newline, and its code, and is released.
    ///
    /// What comes back is an exception, or the module, which nobody releases: the loader goes on using it.
    pub async fn make_known(&mut self, module: Value) -> Result<Value> {
        let text = self.text(module).await?;
        self.release(module).await?;
        let (name, code) = text.split_once('\n').ok_or_else(|| Error::msg("a module of the guest has no name"))?;
        self.evaluate(code.as_bytes(), name, As::Known).await
    }

    /// Releases a value.
    pub async fn release(&mut self, value: Value) -> Result<()> {
        if !value.is_counted() {
            return Ok(());
        }
        self.machine.release.call_async(&mut *self.store, (self.machine.context, value.0)).await
    }

    /// The text of a value.
    pub async fn text(&mut self, value: Value) -> Result<String> {
        let to_text = self.function::<(i32, i32, i64, i32), i32>(&inner("JS_ToCStringLen2"))?;
        let given = (self.machine.context, self.arguments, value.0, 0);
        let at = to_text.call_async(&mut *self.store, given).await?;
        if at == 0 {
            return Err(Error::msg("a value of the guest has no text"));
        }
        let length = self.word(self.arguments as u32)? as usize;
        let start = at as u32 as usize;
        let bytes = self.memory.data(&*self.store).get(start..start.saturating_add(length));
        let bytes = bytes.ok_or_else(|| Error::msg("a text of the guest lies outside of its memory"))?;
        let text = String::from_utf8_lossy(bytes).into_owned();
        let release_text = self.function::<(i32, i32), ()>(&inner("JS_FreeCString"))?;
        release_text.call_async(&mut *self.store, (self.machine.context, at)).await?;
        Ok(text)
    }

    /// Runs one job, such as what follows an `await`. Says whether there was one.
    pub async fn run_job(&mut self) -> Result<bool> {
        let status = self.machine.run_job.call_async(&mut *self.store, (self.machine.runtime, self.arguments)).await?;
        if status < 0 {
            // A job of the engine's own that failed; those of users settle promises instead.
            let problem = self.exception().await?;
            self.ask(Ask::Rejected, problem).await?;
            self.release(problem).await?;
        }
        Ok(status != 0)
    }

    /// Takes the rejections that nobody handles from the engine's list, which would end the process at the next
    /// occasion, and gives them to the driver.
    pub async fn report_rejections(&mut self, list: u32) -> Result<()> {
        loop {
            let first = self.word(list.wrapping_add(4))?;
            if first == list {
                return Ok(());
            }
            let [promise, reason] = [self.long(first.wrapping_add(8))?, self.long(first.wrapping_add(16))?];
            self.ask(Ask::Rejected, Value(reason)).await?;
            let handled = (self.machine.context, promise, reason, 1, 0);
            let track = self.function::<(i32, i64, i64, i32, i32), ()>(&inner("js_std_promise_rejection_tracker"))?;
            track.call_async(&mut *self.store, handled).await?;
            if self.word(list.wrapping_add(4))? == first {
                return Err(Error::msg("the guest's list of rejections is damaged"));
            }
        }
    }

    /// Four bytes of the memory.
    pub fn word(&mut self, at: u32) -> Result<u32> {
        let mut bytes = [0; 4];
        self.memory.read(&*self.store, at as usize, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn long(&mut self, at: u32) -> Result<i64> {
        let mut bytes = [0; 8];
        self.memory.read(&*self.store, at as usize, &mut bytes)?;
        Ok(i64::from_le_bytes(bytes))
    }
}
