//! Standard input and output of a WASI preview 1 command, by the system interface itself:
//! no file layer, no locale, no start-up code, so a module stays a few kilobytes small.

const std = @import("std");
const wasi = std.os.wasi;

pub const allocator = @import("heap.zig").allocator;

const stdin = 0;
const stdout = 1;
const stderr = 2;

/// Input up to this size is read without asking for more memory, which is what most calls need.
var small_input: [16 * 1024]u8 = undefined;

/// Reads at most `buffer.len` bytes as they arrive; an empty slice means the end of input.
pub fn readSome(buffer: []u8) []u8 {
    const vector = [1]wasi.iovec_t{.{ .base = buffer.ptr, .len = buffer.len }};
    var count: usize = 0;
    while (true) {
        switch (wasi.fd_read(stdin, &vector, vector.len, &count)) {
            .SUCCESS => return buffer[0..count],
            .INTR, .AGAIN => continue,
            else => |code| fail("cannot read standard input: {s}", .{@tagName(code)}),
        }
    }
}

/// Reads standard input to its end. The slice lives as long as the module. Call it once.
pub fn readAll() []u8 {
    var used: usize = 0;
    while (used < small_input.len) {
        const piece = readSome(small_input[used..]);
        if (piece.len == 0) return small_input[0..used];
        used += piece.len;
    }
    var input: std.ArrayList(u8) = .empty;
    input.appendSlice(allocator, &small_input) catch outOfMemory();
    while (true) {
        input.ensureUnusedCapacity(allocator, small_input.len) catch outOfMemory();
        const piece = readSome(input.unusedCapacitySlice());
        if (piece.len == 0) return input.items;
        input.items.len += piece.len;
    }
}

/// Writes all of `bytes` to standard output.
pub fn writeOut(bytes: []const u8) void {
    if (!writeAll(stdout, bytes)) wasi.proc_exit(1);
}

/// Writes all of `bytes` to standard error.
pub fn writeErr(bytes: []const u8) void {
    if (!writeAll(stderr, bytes)) wasi.proc_exit(1);
}

fn writeAll(descriptor: wasi.fd_t, bytes: []const u8) bool {
    var rest = bytes;
    while (rest.len > 0) {
        const vector = [1]wasi.ciovec_t{.{ .base = rest.ptr, .len = rest.len }};
        var count: usize = 0;
        switch (wasi.fd_write(descriptor, &vector, vector.len, &count)) {
            .SUCCESS => rest = rest[count..],
            .INTR, .AGAIN => {},
            // Nobody reads: there is no one left to tell.
            else => return false,
        }
    }
    return true;
}

/// Ends the run with exit code 1 and one line on standard error. A message longer than the
/// buffer is cut; control characters, which may come from the input, become '?'.
pub fn fail(comptime message: []const u8, arguments: anytype) noreturn {
    var buffer: [512]u8 = undefined;
    var writer = std.Io.Writer.fixed(buffer[0 .. buffer.len - 1]);
    // The only error is a full buffer, and a cut message is better than none.
    writer.print(message, arguments) catch {};
    var length = writer.end;
    // A cut must not leave half a character behind.
    if (length == buffer.len - 1) {
        while (length > 0 and buffer[length - 1] & 0xc0 == 0x80) length -= 1;
        if (length > 0 and buffer[length - 1] >= 0xc0) length -= 1;
    }
    for (buffer[0..length]) |*byte| {
        if (byte.* < ' ' or byte.* == 0x7f) byte.* = '?';
    }
    buffer[length] = '\n';
    _ = writeAll(stderr, buffer[0 .. length + 1]);
    wasi.proc_exit(1);
}

pub fn outOfMemory() noreturn {
    fail("out of memory: the input is too large for the memory limit of this run", .{});
}
