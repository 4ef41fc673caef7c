//! QuickJS: what is frozen into its image, and how a turn is entered.
//!
//! The module is QuickJS-ng's own reactor, without a host function of ours. The host evaluates code and runs the
//! jobs that follow by calling the engine's C functions; scripts in the guest (`guest/*.js`) keep what became of
//! it and talk to the host through `/dev/host`.

mod guest;
mod preload;
mod turn;
pub(super) mod url;

pub(super) use guest::{Machine, Places};
pub(super) use preload::preload;
pub(super) use turn::turn;

/// Functions of the module that are called by the host, by their names in its name section.
pub const INNER_FUNCTIONS: &[&str] = &[
    "JS_Call",
    "JS_Eval",
    "JS_ExecutePendingJob",
    "JS_FreeCString",
    "JS_FreeValue",
    "JS_GetException",
    "JS_GetGlobalObject",
    "JS_GetRuntime",
    "JS_SetMaxStackSize",
    "JS_ToCStringLen2",
    "js_std_promise_rejection_tracker",
];

/// The guest's scripts, in the order in which they are evaluated.
const SCRIPTS: [(&str, &str); 18] = [
    ("start", include_str!("guest/start.js")),
    ("text", include_str!("guest/text.js")),
    ("host", include_str!("guest/host.js")),
    ("quote", include_str!("guest/quote.js")),
    ("inspect", include_str!("guest/inspect.js")),
    ("format", include_str!("guest/format.js")),
    ("errors", include_str!("guest/errors.js")),
    ("buffer", include_str!("guest/buffer.js")),
    ("files", include_str!("guest/files.js")),
    ("random", include_str!("guest/random.js")),
    ("timers", include_str!("guest/timers.js")),
    ("console", include_str!("guest/console.js")),
    ("process", include_str!("guest/process.js")),
    ("web", include_str!("guest/web.js")),
    ("outputs", include_str!("guest/outputs.js")),
    ("modules", include_str!("guest/modules.js")),
    ("typescript", include_str!("guest/typescript.js")),
    ("driver", include_str!("guest/driver.js")),
];

/// All that this build freezes into an image.
pub(super) fn scripts() -> impl Iterator<Item = &'static str> {
    SCRIPTS.iter().map(|(_, script)| *script).chain(preload::WARM.iter().copied())
}

/// What the host asks of the guest's driver; the same numbers as in `guest/driver.js`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
enum Ask {
    /// Begin a turn; given how, as bits; gives the address of the list of rejections.
    Begin = 0,
    /// The code was evaluated: here is its promise.
    Ran = 1,
    /// The code could not be evaluated: here is the error. Gives other code to evaluate, or nothing.
    Threw = 2,
    /// No job is left. Gives 1 to go on, a negative number after the end, or code to evaluate.
    Idle = 3,
    /// A promise was rejected and nobody handles it: here is the reason.
    Rejected = 4,
    /// Keep the object that holds what `let`, `const` and `class` declare at the top level.
    Lexicals = 5,
    /// Keep the address of the list of rejections.
    Rejections = 6,
    /// Name and source of a module that exists without a file, by its number; nothing after the last.
    Module = 7,
    /// Forget what preparing has left behind.
    Freeze = 9,
    /// Name and code of a TypeScript file that the code may import; nothing after the last.
    Source = 11,
}

#[cfg(test)]
mod tests;
