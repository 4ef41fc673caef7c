//! From the error a run ended with to the result a caller reads.

use super::limiter::Denied;
use super::variant::MAX_FRAMES;
use crate::domain::execution::{Exit, Trap};
use crate::domain::limits::Limits;
use wasmtime::{ThrownException, Trap as Code, WasmBacktrace};
use wasmtime_wasi::I32Exit;

/// Characters of one line of a backtrace, and of a host's message: names in a module can be of any length.
const MAX_TEXT: usize = 512;

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// Why.
    pub exit: Exit,
    /// One sentence for people; empty for a plain success.
    pub message: String,
}

impl Ended {
    /// The program returned or exited. Only the low eight bits of a code count, as in a process.
    pub(super) fn exited(code: i32) -> Ended {
        let code = code & 0xff;
        let message = match code {
            0 => String::new(),
            _ => format!("the tool exited with code {code}; its standard error may say why"),
        };
        Ended { exit: Exit::Exited { code }, message }
    }

    /// The wall-time limit passed.
    pub(crate) fn timed_out(limits: &Limits) -> Ended {
        let limit = humantime::format_duration(limits.wall_time);
        Ended {
            exit: Exit::TimedOut,
            message: format!("the tool ran longer than its limit of {limit} (limits.wall_time) and was ended"),
        }
    }

    /// The guest's program ended by itself.
    pub(crate) fn plain(code: i32) -> Ended {
        Ended::exited(code)
    }

    /// An interpreter ended with an error; `denied` is the memory it was refused, in bytes beyond its image.
    pub(crate) fn of_interpreter(error: &wasmtime::Error, denied: Option<u64>, limits: &Limits) -> Ended {
        Ended::failed(error, denied.map(Denied::Memory), limits)
    }

    /// The guest ended with an error.
    pub(super) fn failed(error: &wasmtime::Error, denied: Option<Denied>, limits: &Limits) -> Ended {
        if let Some(exit) = error.downcast_ref::<I32Exit>() {
            return Ended::exited(exit.0);
        }
        let code = error.downcast_ref::<Code>().copied();
        match (code, denied) {
            (Some(Code::OutOfFuel), _) => Ended {
                exit: Exit::OutOfFuel,
                message: format!(
                    "the tool used up its {} units of fuel (limits.fuel); give it more, or less to do",
                    limits.fuel.unwrap_or_default()
                ),
            },
            (Some(Code::StackOverflow), _) => Ended {
                exit: Exit::StackOverflow,
                message: format!(
                    "the tool recursed deeper than its stack of {} bytes allows (limits.stack_bytes)",
                    limits.stack_bytes
                ),
            },
            // A program that is refused memory aborts, and an abort is a trap.
            (_, Some(Denied::Memory(asked))) => Ended {
                exit: Exit::OutOfMemory,
                message: format!(
                    "the tool asked for {asked} bytes of memory, its limit is {} (limits.memory_bytes), and it did not \
                     survive the refusal; raise the limit, or give it less to do",
                    limits.memory_bytes
                ),
            },
            (_, Some(Denied::Table(asked))) => Ended {
                exit: Exit::OutOfMemory,
                message: format!(
                    "the tool asked for a table of {asked} elements, its limit is {} (limits.table_elements), and it \
                     did not survive the refusal; raise the limit, or give it less to do",
                    limits.table_elements
                ),
            },
            (Some(code), None) => trapped(code_name(code), &code_text(code), error),
            (None, None) if error.is::<ThrownException>() => {
                trapped("uncaught_exception", "an exception was thrown and not caught", error)
            }
            (None, None) => trapped("host_error", &cut(&format!("{:#}", error.root_cause())), error),
        }
    }
}

fn trapped(code: &str, text: &str, error: &wasmtime::Error) -> Ended {
    let backtrace = error.downcast_ref::<WasmBacktrace>().map(frames).unwrap_or_default();
    let place = backtrace.first().map(|frame| format!(" in {frame}")).unwrap_or_default();
    let message = format!("the tool trapped: {text}{place}");
    Ended { exit: Exit::Trapped(Trap { code: code.into(), message: text.into(), backtrace }), message }
}

fn frames(backtrace: &WasmBacktrace) -> Vec<String> {
    let frame = |frame: &wasmtime::FrameInfo| {
        let name = match frame.func_name() {
            Some(name) => name.to_owned(),
            None => format!("function {}", frame.func_index()),
        };
        let offset = frame.module_offset().map(|offset| format!(" at {offset:#x}")).unwrap_or_default();
        format!("{}{offset}", cut(&name))
    };
    backtrace.frames().iter().take(MAX_FRAMES).map(frame).collect()
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Names that stay, whatever wasmtime calls them.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::UnreachableCodeReached => "unreachable",
        Code::MemoryOutOfBounds => "memory_out_of_bounds",
        Code::TableOutOfBounds => "table_out_of_bounds",
        Code::IndirectCallToNull => "indirect_call_to_null",
        Code::BadSignature => "bad_signature",
        Code::IntegerOverflow => "integer_overflow",
        Code::IntegerDivisionByZero => "integer_division_by_zero",
        Code::BadConversionToInteger => "bad_conversion_to_integer",
        Code::HeapMisaligned => "misaligned_atomic",
        Code::NullReference => "null_reference",
        Code::CannotEnterComponent => "cannot_enter_component",
        Code::CannotLeaveComponent => "cannot_leave_component",
        Code::StringOutOfBounds => "string_out_of_bounds",
        Code::ListOutOfBounds => "list_out_of_bounds",
        Code::InvalidChar => "invalid_char",
        Code::InvalidDiscriminant => "invalid_discriminant",
        Code::UnalignedPointer => "unaligned_pointer",
        _ => "other",
    }
}

fn code_text(code: Code) -> String {
    let text = code.to_string();
    text.strip_prefix("wasm trap: ").map(str::to_owned).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::limits::LimitsPolicy;

    fn failed(error: wasmtime::Error, denied: Option<Denied>) -> Ended {
        Ended::failed(&error, denied, &LimitsPolicy::default().defaults)
    }

    #[test]
    fn codes_are_those_of_a_process() {
        assert_eq!(Ended::exited(-1).exit, Exit::Exited { code: 255 });
        assert_eq!(Ended::exited(256).message, "");
        assert_eq!(failed(I32Exit(3).into(), Some(Denied::Memory(1))).exit, Exit::Exited { code: 3 });
    }

    #[test]
    fn a_trap_after_a_refusal_is_the_memory_limit() {
        let trap = || wasmtime::Error::from(Code::UnreachableCodeReached);
        assert_eq!(failed(trap(), Some(Denied::Memory(1))).exit, Exit::OutOfMemory);
        assert_eq!(failed(trap(), Some(Denied::Table(1))).exit, Exit::OutOfMemory);
        assert_eq!(failed(Code::StackOverflow.into(), Some(Denied::Memory(1))).exit, Exit::StackOverflow);
        let Exit::Trapped(trap) = failed(trap(), None).exit else { panic!("expected a trap") };
        assert_eq!(
            (trap.code.as_str(), trap.message.as_str()),
            ("unreachable", "wasm `unreachable` instruction executed")
        );
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        assert_eq!(cut(&"ä".repeat(MAX_TEXT + 1)), format!("{}...", "ä".repeat(MAX_TEXT)));
    }
}
