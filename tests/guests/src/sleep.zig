//! Says "asleep", sleeps `ms` milliseconds (default 0) inside the host, says "awake".

const std = @import("std");
const stdio = @import("stdio");
const guest = @import("guest");

pub const panic = std.debug.no_panic;

pub export fn _start() void {
    const given = guest.Parameters.read();
    const milliseconds = given.number("ms", 0);
    stdio.writeOut("asleep\n");
    guest.sleep(milliseconds);
    stdio.writeOut("awake\n");
}
