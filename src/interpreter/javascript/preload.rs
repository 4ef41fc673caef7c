//! Making the memory of an image: starts the engine, evaluates the guest's scripts, and freezes.

use super::super::runtime::Isolate;
use super::super::talk::{Said, Talk, Turn};
use super::guest::{As, Guest, Machine, Value, inner};
use super::{Ask, SCRIPTS};
use crate::domain::io::{Meter, OutputSink};
use crate::engine::DenyAll;
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use wasmtime::{Error, Instance, Memory, Result, Store};

/// Turns that the image has behind it, so that no isolate has to warm up.
pub(super) const WARM: &[&str] = &[
    "console.log(40+2)",
    "const x = { a: [1, 2.5, null, 'b'], m: new Map([[1, new Set('ab')]]) }; console.log(x, [1, 2, 3], -0, 10n); x",
    "const f = (n) => n < 2 ? n : f(n - 1) + f(n - 2); f(10)",
    "import fs from 'fs';\nfs.existsSync('a.txt') || JSON.parse('{\"a\":[1,2]}')",
    "await new Promise((resolve) => setTimeout(resolve, 0)); new TextDecoder().decode(new TextEncoder().encode('é'))",
    "function g() { throw new TypeError('x'); }\ng()",
    "let a = ;",
    "Promise.reject(new Error('late'))",
];

/// Stack of the engine for calls, in bytes. Beyond it a RangeError is thrown. The module's stack has 2 MiB; the
/// rest is for what the engine calls without looking.
const STACK: u32 = 1536 << 10;

/// A value that occurs nowhere by chance.
const MARK: u32 = 0x00a5_f0e4;

/// Makes the memory of an image. `Err` says what is not as it must be in this module.
pub async fn preload(isolate: &mut Isolate, output: Arc<dyn OutputSink>) -> Result<()> {
    isolate.call("_initialize").await?;
    let (store, instance, memory) = isolate.parts();
    start(store, instance, memory).await?;
    let mut machine = Machine::find(store, instance, None).await?;
    limit_stack(store, instance, memory, &machine).await?;
    let mut guest = Guest::new(store, memory, &machine)?;
    for (name, script) in SCRIPTS {
        let value = guest.evaluate(script.as_bytes(), &format!("<casemate {name}>"), As::Plain).await?;
        checked(&mut guest, value, name).await?;
    }
    guest.leave()?;
    machine.find_driver(store, memory).await?;
    let mut guest = Guest::new(store, memory, &machine)?;
    let lexicals = find_lexicals(&mut guest, instance).await?;
    guest.ask(Ask::Lexicals, lexicals).await?;
    let rejections = find_rejections(&mut guest).await?;
    guest.ask(Ask::Rejections, Value::number(rejections as i32)).await?;
    // The one that was made to find the list is still in it; it means nothing.
    guest.report_rejections(rejections).await?;
    add_modules(&mut guest).await?;
    guest.leave()?;
    for code in WARM {
        let turned = isolate.turn(warm(code, output.clone())).await;
        turned.result?;
        if turned.said.code.is_none() {
            return Err(Error::msg(format!("a first turn has no end: {code}")));
        }
    }
    let (store, _, memory) = isolate.parts();
    let mut guest = Guest::new(store, memory, &machine)?;
    guest.ask(Ask::Freeze, Value::UNDEFINED).await?;
    guest.leave()
}

fn warm(code: &'static str, output: Arc<dyn OutputSink>) -> Talk {
    Talk {
        turn: Turn {
            name: "<code>".into(),
            code: Bytes::from_static(code.as_bytes()),
            reseed: true,
            ..Turn::default()
        },
        warm: Mutex::default(),
        output,
        egress: Arc::new(DenyAll),
        children: None,
        meter: Arc::new(Meter::default()),
        host_calls: 0,
        said: Mutex::new(Said::default()),
    }
}

/// Starts the engine with its modules `std`, `os` and `bjson` as globals, which the first script takes away.
async fn start<T: Send>(store: &mut Store<T>, instance: &Instance, memory: Memory) -> Result<()> {
    let malloc = instance.get_typed_func::<i32, i32>(&mut *store, "malloc")?;
    let init = instance.get_typed_func::<(i32, i32), i32>(&mut *store, "qjs_init_argv")?;
    let texts = b"qjs\0--std\0";
    let at = malloc.call_async(&mut *store, 32).await?;
    let (first, second) = (at.wrapping_add(12), at.wrapping_add(16));
    memory.write(&mut *store, first as u32 as usize, texts)?;
    let list = [first, second, 0].map(i32::to_le_bytes).concat();
    memory.write(&mut *store, at as u32 as usize, &list)?;
    match init.call_async(&mut *store, (2, at)).await? {
        0 => Ok(()),
        status => Err(Error::msg(format!("the engine does not start: {status}"))),
    }
}

/// Makes recursion throw. The engine checks its stack against an address that its build for WASI leaves at zero;
/// it stands behind the size that can be set, and is set here.
async fn limit_stack<T: Send>(
    store: &mut Store<T>,
    instance: &Instance,
    memory: Memory,
    machine: &Machine,
) -> Result<()> {
    let set = instance.get_typed_func::<(i32, i32), ()>(&mut *store, &inner("JS_SetMaxStackSize"))?;
    set.call_async(&mut *store, (machine.runtime, MARK as i32)).await?;
    let stack = instance.get_global(&mut *store, super::super::module::STACK_POINTER);
    let top = stack.and_then(|stack| stack.get(&mut *store).i32()).unwrap_or_default() as u32;
    let runtime = machine.runtime as u32 as usize;
    let fields = memory.data(&*store).get(runtime..runtime.saturating_add(4096)).unwrap_or_default();
    let size =
        only(fields, &MARK.to_le_bytes(), 4).ok_or_else(|| Error::msg("the engine's stack size is not found"))?;
    let known = fields.get(size + 4..size + 12).unwrap_or_default();
    let nearly_top =
        |word: &[u8]| word.try_into().map(u32::from_le_bytes).is_ok_and(|at| at <= top && at > top - 65536);
    if known.len() != 8 || !nearly_top(&known[..4]) || known[4..] != [0; 4] || top < STACK + (256 << 10) {
        return Err(Error::msg("the engine's stack is not where it should be"));
    }
    let limits = [STACK, top, top - STACK].map(u32::to_le_bytes).concat();
    memory.write(&mut *store, runtime + size, &limits)?;
    Ok(())
}

/// Where a pattern stands in memory at this alignment, if that is one place only.
fn only(bytes: &[u8], pattern: &[u8], align: usize) -> Option<usize> {
    let mut found = (0..bytes.len().saturating_sub(pattern.len() - 1))
        .step_by(align)
        .filter(|at| bytes[*at..*at + pattern.len()] == *pattern);
    found.next().filter(|_| found.next().is_none())
}

/// The object that holds top-level declarations: the engine keeps it right behind the global object.
async fn find_lexicals<T: Send>(guest: &mut Guest<'_, T>, instance: &Instance) -> Result<Value> {
    let global = instance.get_typed_func::<i32, i64>(&mut *guest.store, &inner("JS_GetGlobalObject"))?;
    let global = global.call_async(&mut *guest.store, guest.machine.context).await?;
    guest.release(Value(global)).await?;
    let context = guest.machine.context as u32 as usize;
    let fields = guest.memory.data(&*guest.store).get(context..context.saturating_add(1024)).unwrap_or_default();
    let missing = || Error::msg("the engine's top-level declarations are not found");
    let at = only(fields, &global.to_le_bytes(), 8).ok_or_else(missing)?;
    let behind = fields.get(at + 8..at + 16).and_then(|bytes| bytes.try_into().ok()).map(i64::from_le_bytes);
    behind.map(Value).filter(|value| value.is_object()).ok_or_else(missing)
}

/// Where the engine keeps its list of rejections: rejects a promise with a mark and looks for it.
async fn find_rejections<T: Send>(guest: &mut Guest<'_, T>) -> Result<u32> {
    let reject = format!("void Promise.reject({MARK})");
    let value = guest.evaluate(reject.as_bytes(), "<casemate>", As::Plain).await?;
    checked(guest, value, "reject").await?;
    let memory = guest.memory.data(&*guest.store);
    let word = |at: usize| memory.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    let reason = Value::number(MARK as i32).0.to_le_bytes();
    let entry = |at: usize| {
        // Two links, the promise, the reason. In a list of one both links lead to the head, and back.
        let (entry, head) = (at.checked_sub(16)?, word(at.checked_sub(16)?)?);
        let back = u32::try_from(entry).ok();
        let linked = word(entry + 4) == Some(head) && word(head as usize) == back && word(head as usize + 4) == back;
        linked.then_some(head)
    };
    let places = (0..memory.len().saturating_sub(7)).step_by(8).filter(|at| memory[*at..*at + 8] == reason);
    let mut heads = places.filter_map(entry);
    match (heads.next(), heads.next()) {
        (Some(head), None) => Ok(head),
        _ => Err(Error::msg("the engine's list of rejections is not found")),
    }
}

/// Makes the modules known that exist without a file, so that the engine's loader finds them.
async fn add_modules<T: Send>(guest: &mut Guest<'_, T>) -> Result<()> {
    for number in 0.. {
        let module = guest.ask(Ask::Module, Value::number(number)).await?;
        if module.is_undefined() {
            break;
        }
        let value = guest.make_known(module).await?;
        if value.is_exception() {
            checked(guest, value, "modules").await?;
        }
    }
    Ok(())
}

/// Releases what a script of ours gave. `Err` when it threw.
async fn checked<T: Send>(guest: &mut Guest<'_, T>, value: Value, script: &str) -> Result<()> {
    if !value.is_exception() {
        return guest.release(value).await;
    }
    let problem = guest.exception().await?;
    let text = guest.text(problem).await?;
    Err(Error::msg(format!("script {script}: {text}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_counts_only_when_it_is_the_only_one() {
        assert_eq!(only(b"....abcd", b"abcd", 4), Some(4));
        assert_eq!(only(b"abcdabcd", b"abcd", 4), None);
        assert_eq!(only(b".abcd...", b"abcd", 4), None);
        assert_eq!(only(b"abc", b"abcd", 4), None);
    }
}
