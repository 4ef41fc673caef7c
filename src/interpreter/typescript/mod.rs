//! TypeScript as JavaScript: types become blanks, so every line and column stays where it was.
//!
//! Only what can be erased is taken, as in Node: an enum or a namespace with values has a meaning at run time and
//! is refused, with its place.

mod apart;

pub use apart::{child_main, strip_apart};

use parking_lot::Mutex;
use std::sync::Arc;
use swc_common::errors::{DiagnosticBuilder, Emitter, Handler, Level};
use swc_common::sync::Lrc;
use swc_common::{BytePos, FileName, SourceMap};
use swc_ts_fast_strip::{Mode, Options, operate};

/// Bytes of one source at most.
pub const MAX_SOURCE: usize = 512 << 10;

/// Words and signs of one source at most. Each may open a level of nesting, and so use some stack.
const MAX_LEVELS: usize = 100_000;

/// Stack for each level: three times what `nesting_never_overflows` could make the parser use.
const STACK_PER_LEVEL: usize = 8 << 10;

/// Stack that the parser needs anyway.
const STACK: usize = 2 << 20;

/// Why a source is no TypeScript that can run here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// Line, from 1; 0 when the problem has no place.
    pub line: u32,
    /// Column in characters, from 1; 0 when the problem has no place.
    pub column: u32,
    /// What is wrong, and what to do.
    pub message: String,
}

/// Blanks the types of a source. Computes for about a microsecond per hundred bytes, on a thread of its own.
pub fn strip(name: &str, source: &str) -> Result<String, Problem> {
    if source.len() > MAX_SOURCE {
        let message = format!(
            "TypeScript of {} bytes; at most {MAX_SOURCE} can be taken at once: split it, or send it as JavaScript",
            source.len()
        );
        return Err(Problem { message, ..Problem::default() });
    }
    let nesting = nesting(source);
    if nesting > MAX_LEVELS {
        let message = format!(
            "TypeScript of {nesting} words and signs; at most {MAX_LEVELS} can be taken at once: split it, or send it as \
             JavaScript"
        );
        return Err(Problem { message, ..Problem::default() });
    }
    let stack = STACK + nesting * STACK_PER_LEVEL;
    std::thread::scope(|scope| {
        // The parser recurses as deep as the source nests, and running out of stack would end the process. The
        // stack is only reserved; what is not used costs nothing.
        let worker = std::thread::Builder::new().name("typescript".into()).stack_size(stack);
        let worker = worker.spawn_scoped(scope, || operate_on(name, source));
        let worker = worker.map_err(|error| Problem {
            message: format!("there is no memory to read TypeScript now ({error}); try again"),
            ..Problem::default()
        })?;
        worker.join().unwrap_or_else(|_| {
            Err(Problem {
                message: "the TypeScript parser failed on it; send it as JavaScript".into(),
                ..Problem::default()
            })
        })
    })
}

/// How deep a source can nest at most: the bytes that could each open a level. Letters, digits and blanks between
/// them count once for a whole word, since only a word as such can.
fn nesting(source: &str) -> usize {
    let mut levels = 1;
    let mut in_word = false;
    for byte in source.bytes() {
        let word = byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
        levels += usize::from(!(byte.is_ascii_whitespace() || word && in_word));
        in_word = word;
    }
    levels
}

fn operate_on(name: &str, source: &str) -> Result<String, Problem> {
    let map: Lrc<SourceMap> = Lrc::default();
    let found = Arc::new(Mutex::new(None));
    let handler = Handler::with_emitter(false, false, Box::new(First(found.clone())));
    let options = Options {
        filename: Some(name.into()),
        mode: Mode::StripOnly,
        ..serde_json::from_str("{}").unwrap_or_default()
    };
    let result = operate(&map, &handler, source.to_owned(), options);
    let first = found.lock().take();
    match (result, first) {
        (Ok(output), None) => Ok(output.code),
        (Err(error), None) => Err(Problem { message: error.message, ..Problem::default() }),
        (_, Some((place, message))) => Err(problem(&map, name, place, message)),
    }
}

fn problem(map: &SourceMap, name: &str, place: Option<BytePos>, message: String) -> Problem {
    let message = explained(message);
    let file = map.get_source_file(&FileName::Real(name.into()));
    match place.filter(|place| !place.is_dummy()).filter(|_| file.is_some()) {
        Some(place) => {
            let at = map.lookup_char_pos(place);
            Problem { line: at.line as u32, column: at.col.0 as u32 + 1, message }
        }
        None => Problem { message, ..Problem::default() },
    }
}

/// The parser's words, with what to do where types alone are not the problem.
fn explained(message: String) -> String {
    let instead = [
        ("enum", "write it as an object: const Color = { Red: 0, Green: 1 } as const"),
        ("namespace", "write it as an object or as a module"),
        ("module", "write it as an object or as a module"),
        ("parameter propert", "declare the field and assign it in the constructor"),
        ("decorator", "call the function instead"),
        ("import equals", "write: import name from \"module\""),
        ("export assignment", "write: export default value"),
    ];
    let lower = message.to_ascii_lowercase();
    let text = message.replace(" in strip-only mode", "");
    match instead.iter().find(|(what, _)| lower.contains("not supported") && lower.contains(what)) {
        Some((_, instead)) => format!("{text}: only types are removed here; {instead}"),
        None => text,
    }
}

/// The first error, and where it begins.
type Found = Arc<Mutex<Option<(Option<BytePos>, String)>>>;

struct First(Found);

impl Emitter for First {
    fn emit(&mut self, diagnostic: &mut DiagnosticBuilder<'_>) {
        if matches!(diagnostic.level, Level::Warning | Level::Note | Level::Help) {
            return;
        }
        let place = diagnostic.span.primary_span().map(|span| span.lo);
        self.0.lock().get_or_insert_with(|| (place, diagnostic.message()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_become_blanks_in_place() {
        let source = "interface A { x: number }\nconst f = <T,>(a: T, b?: string): T => a as T;\nf<number>(1)!.toFixed();\n\
                      class B<T> implements A { private x!: number; declare y: string; m(this: B<T>): void {} }\n\
                      import type { C } from './c';\nlet z = { a: 1 } satisfies object; abstract class D { abstract m(): void }\n";
        let code = strip("main.ts", source).unwrap();
        assert_eq!(code.len(), source.len());
        assert_eq!(code.lines().count(), source.lines().count());
        for (before, after) in source.lines().zip(code.lines()) {
            for (at, (old, new)) in before.bytes().zip(after.bytes()).enumerate() {
                assert!(old == new || new == b' ' || new == b';', "{at}: {before:?} {after:?}");
            }
        }
        assert!(!code.contains("interface") && !code.contains("satisfies") && !code.contains(": string"));
    }

    #[test]
    fn what_is_more_than_a_type_is_refused_where_it_stands() {
        for (source, line, column, what) in [
            ("let a = 1;\n  enum E { A }", 2, 3, "enum"),
            ("namespace N { export const x = 1 }", 1, 1, "namespace"),
            ("class A { constructor(private x: number) {} }", 1, 31, "constructor"),
            ("let é = 1; let x: = 2", 1, 19, ""),
            ("let x = (1", 1, 0, ""),
        ] {
            let problem = strip("main.ts", source).unwrap_err();
            assert_eq!(problem.line, line, "{problem:?}");
            assert!(column == 0 || problem.column == column, "{problem:?}");
            assert!(problem.message.to_lowercase().contains(what), "{problem:?}");
        }
        assert!(strip("main.ts", &"x".repeat(MAX_SOURCE + 1)).unwrap_err().message.contains("at most"));
    }

    #[test]
    fn nesting_never_overflows() {
        for piece in [
            "(",
            "[",
            "{",
            "!",
            "a=>",
            "if(a)",
            "`${",
            "new ",
            "a?",
            "a?b:",
            "x=",
            "1**",
            "-",
            "typeof ",
            "{a:",
            "class{[",
            "async()=>",
            "function(){",
            "<",
            "A<",
            "a as ",
            "keyof ",
            "let x:(",
            "let x:{a:",
            "let x:A extends B?",
            "a?.[",
            "f(",
            "@",
            "for(;;)",
            "x:",
            "else ",
            "if(a);else ",
            "1+",
            "a,",
            "...",
            "yield ",
            "await ",
            "import(",
            "\"a\"+",
            "/a/+",
            "a!",
            "a.b",
        ] {
            // More would take the parser minutes for some of them: in a server its time is bounded.
            let bytes = 2 << 10;
            // Any answer will do: what counts is that there is one.
            let _ = strip("main.ts", &piece.repeat(bytes / piece.len()));
            let _ = strip("main.ts", &format!("let x = {}", piece.repeat(bytes / piece.len())));
        }
    }
}
