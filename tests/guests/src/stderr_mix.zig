//! Writes `lines` lines (default 5) by turns to standard output ("out 0") and standard error
//! ("err 0").

const std = @import("std");
const stdio = @import("stdio");
const guest = @import("guest");

pub const panic = std.debug.no_panic;

pub export fn _start() void {
    const given = guest.Parameters.read();
    const lines = given.number("lines", 5);
    var buffer: [32]u8 = undefined;
    for (0..@intCast(lines)) |i| {
        stdio.writeOut(guest.line(&buffer, &.{ .{ .text = "out " }, .{ .number = i }, .{ .text = "\n" } }));
        stdio.writeErr(guest.line(&buffer, &.{ .{ .text = "err " }, .{ .number = i }, .{ .text = "\n" } }));
    }
}
