//! One turn: evaluate the code, then run jobs and timers until nothing is left.

use super::super::talk::Turn;
use super::Ask;
use super::guest::{As, Guest, Machine, Value};
use wasmtime::{Memory, Result, Store};

/// Bits of how a turn begins; the same numbers as in `guest/driver.js`.
const RESEED: i32 = 1;
const PLAIN: i32 = 2;
const SOURCES: i32 = 4;

/// Code beyond this many bytes is not searched for imports of TypeScript.
const MAX_SEARCHED: usize = 1 << 20;

/// Runs a turn. Gives its exit code, if it has one; what else came of it is said through the conversation with the
/// host.
///
/// `Err` when the guest did not come to its end: a trap, no memory for its driver. Its state is not to be trusted
/// then.
pub(crate) async fn turn<T: Send>(
    store: &mut Store<T>,
    memory: Memory,
    machine: &Machine,
    turn: &Turn,
) -> Result<Option<u8>> {
    let mut guest = Guest::new(store, memory, machine)?;
    let imports = turn.code.len() <= MAX_SEARCHED && turn.code.windows(6).any(|word| word == b"import");
    let plain = turn.arguments.is_empty() && turn.environment.is_empty() && turn.name == "<code>";
    let how = [(turn.reseed, RESEED), (plain, PLAIN), (imports, SOURCES)];
    let how = how.iter().filter(|(set, _)| *set).map(|(_, bit)| bit).sum();
    let rejections = guest.ask(Ask::Begin, Value::number(how)).await?.as_number().unwrap_or_default() as u32;
    if imports {
        find_sources(&mut guest).await?;
    }
    let how = if turn.module { As::Module } else { As::Script };
    let value = guest.evaluate(&turn.code, &turn.name, how).await?;
    settle(&mut guest, turn, value).await?;
    loop {
        if guest.run_job().await? {
            continue;
        }
        guest.report_rejections(rejections).await?;
        let next = guest.ask(Ask::Idle, Value::UNDEFINED).await?;
        match next.as_number() {
            Some(end) if end < 0 => {
                guest.leave()?;
                return Ok(u8::try_from(-1 - end).ok());
            }
            Some(_) => {}
            None => {
                let value = again(&mut guest, turn, next).await?;
                settle(&mut guest, turn, value).await?;
            }
        }
    }
}

/// Makes the TypeScript files known that the code may import.
async fn find_sources<T: Send>(guest: &mut Guest<'_, T>) -> Result<()> {
    loop {
        let source = guest.ask(Ask::Source, Value::UNDEFINED).await?;
        if source.is_undefined() {
            return Ok(());
        }
        if guest.make_known(source).await?.is_exception() {
            // The loader finds the file itself when it is imported, and tells what is wrong with it.
            let problem = guest.exception().await?;
            guest.release(problem).await?;
        }
    }
}

/// Hands the promise of evaluated code to the driver. When it was not evaluated, the driver may give other code
/// that means the same and can be.
async fn settle<T: Send>(guest: &mut Guest<'_, T>, turn: &Turn, mut value: Value) -> Result<()> {
    while value.is_exception() {
        let problem = guest.exception().await?;
        let other = guest.ask(Ask::Threw, problem).await?;
        guest.release(problem).await?;
        if !other.is_text() {
            return guest.release(other).await;
        }
        value = again(guest, turn, other).await?;
    }
    guest.ask(Ask::Ran, value).await?;
    guest.release(value).await
}

/// Evaluates code that the driver gave. Its first letter says how: `m` as a module, else as a script.
async fn again<T: Send>(guest: &mut Guest<'_, T>, turn: &Turn, code: Value) -> Result<Value> {
    let text = guest.text(code).await?;
    guest.release(code).await?;
    let (how, code) = match text.strip_prefix('m') {
        Some(code) => (As::Module, code),
        None => (As::Script, text.get(1..).unwrap_or_default()),
    };
    guest.evaluate(code.as_bytes(), &turn.name, how).await
}
