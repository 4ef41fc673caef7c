//! Writes `bytes` bytes to standard output in pieces of `chunk` (1 to 1048576; default 65536).
//! The byte at offset i is 'a' + i % 26, so a reader can tell which bytes it got.

const std = @import("std");
const stdio = @import("stdio");
const guest = @import("guest");

pub const panic = std.debug.no_panic;

const letters = 26;
/// One piece at any phase of the alphabet.
var pattern: [1024 * 1024 + letters]u8 = undefined;

pub export fn _start() void {
    const given = guest.Parameters.read();
    const bytes = given.number("bytes", 0);
    const chunk = given.number("chunk", 65536);
    if (chunk < 1 or chunk > pattern.len - letters) stdio.fail("parameter \"chunk\" must be 1 to {d}", .{pattern.len - letters});
    const piece: usize = @intCast(chunk);
    for (pattern[0 .. piece + letters], 0..) |*byte, i| byte.* = 'a' + @as(u8, @intCast(i % letters));

    var offset: u64 = 0;
    while (offset < bytes) {
        const length: usize = @intCast(@min(piece, bytes - offset));
        const phase: usize = @intCast(offset % letters);
        stdio.writeOut(pattern[phase..][0..length]);
        offset += length;
    }
}
