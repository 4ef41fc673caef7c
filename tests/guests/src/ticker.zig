//! Prints "tick 0", "tick 1", ... `count` lines (default 10), `interval_ms` milliseconds apart
//! (default 100).

const std = @import("std");
const stdio = @import("stdio");
const guest = @import("guest");

pub const panic = std.debug.no_panic;

pub export fn _start() void {
    const given = guest.Parameters.read();
    const interval = given.number("interval_ms", 100);
    const count = given.number("count", 10);
    var buffer: [32]u8 = undefined;
    for (0..@intCast(count)) |i| {
        if (i > 0) guest.sleep(interval);
        stdio.writeOut(guest.line(&buffer, &.{ .{ .text = "tick " }, .{ .number = i }, .{ .text = "\n" } }));
    }
}
