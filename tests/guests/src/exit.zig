//! Writes "bye" to standard output and exits with code `code` (default 0). Hosts differ in
//! whether they accept codes from 126 on.

const std = @import("std");
const stdio = @import("stdio");
const guest = @import("guest");

pub const panic = std.debug.no_panic;

pub export fn _start() void {
    const given = guest.Parameters.read();
    const code = given.number("code", 0);
    stdio.writeOut("bye\n");
    std.os.wasi.proc_exit(std.math.cast(u32, code) orelse stdio.fail("parameter \"code\" must fit 32 bits", .{}));
}
