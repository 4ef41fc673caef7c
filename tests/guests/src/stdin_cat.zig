//! Copies standard input to standard output as it arrives, one write for each line, until the end.
//! A last line without a line break is copied too, and so is a piece of a line above 64 KiB.

const std = @import("std");
const stdio = @import("stdio");

pub const panic = std.debug.no_panic;

var buffer: [64 * 1024]u8 = undefined;

pub export fn _start() void {
    var used: usize = 0;
    while (true) {
        const piece = stdio.readSome(buffer[used..]);
        if (piece.len == 0) break;
        used += piece.len;
        var written: usize = 0;
        while (std.mem.indexOfScalarPos(u8, buffer[0..used], written, '\n')) |newline| {
            stdio.writeOut(buffer[written .. newline + 1]);
            written = newline + 1;
        }
        if (written == 0 and used == buffer.len) {
            stdio.writeOut(&buffer);
            written = used;
        }
        std.mem.copyForwards(u8, &buffer, buffer[written..used]);
        used -= written;
    }
    stdio.writeOut(buffer[0..used]);
}
