//! echo: answers with the text it was given. The smallest complete tool, and the one to
//! measure the way of a call with.

const std = @import("std");
const stdio = @import("stdio");
const json = @import("json");
const Parameters = @import("parameters").Parameters;

pub const panic = std.debug.no_panic;

// `_start` itself instead of `main`: returning is cheaper for the host than `proc_exit(0)`.
pub export fn _start() void {
    const given = Parameters.read();
    given.only(&.{"text"});
    const text = given.requiredString("text");

    var result: json.Writer = .{};
    result.raw("{\"text\":");
    result.string(text);
    result.raw("}");
    result.print();
}
