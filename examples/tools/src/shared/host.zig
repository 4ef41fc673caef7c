//! The host interface: one imported function that takes and gives JSON.
//!
//! Request: `{"method":"...","params":{...}}`. Answer: `{"ok":...}`, or `{"error":...}` with
//! whatever else the host has to say about it.

const std = @import("std");
const stdio = @import("stdio");
const json = @import("json");

/// Returns how many bytes of the answer were written, or -1 when the request could not be read or
/// the answer does not fit.
extern "clawbox" fn host_call(request: [*]const u8, request_length: i32, response: [*]u8, response_capacity: i32) i32;

pub const Answer = union(enum) {
    ok: json.Value,
    /// The whole answer; it has a member "error".
    failed: json.Object,
};

const response_capacity = 1024 * 1024;
var response_buffer: ?[]u8 = null;

/// Calls `method` with parameters that are JSON already.
pub fn call(method: []const u8, params: []const u8) Answer {
    const request = std.mem.concat(stdio.allocator, u8, &.{ "{\"method\":\"", method, "\",\"params\":", params, "}" }) catch
        stdio.outOfMemory();
    const buffer = response_buffer orelse (stdio.allocator.alloc(u8, response_capacity) catch stdio.outOfMemory());
    response_buffer = buffer;
    const written = host_call(request.ptr, @intCast(request.len), buffer.ptr, @intCast(buffer.len));
    // Some hosts cut an answer to the space there is, without a word: then the buffer is full.
    if (written < 0 or written >= buffer.len) {
        stdio.fail("the host refused \"{s}\", or its answer is larger than {d} bytes", .{ method, response_capacity - 1 });
    }

    // Values point into the text they were parsed from; the buffer is used again.
    const text = stdio.allocator.dupe(u8, buffer[0..@intCast(written)]) catch stdio.outOfMemory();
    const answer = json.parse(text, "the host's answer");
    if (answer == .object) {
        if (answer.object.get("ok")) |value| return .{ .ok = value };
        if (answer.object.contains("error")) return .{ .failed = answer.object };
    }
    stdio.fail("the host's answer to \"{s}\" has neither \"ok\" nor \"error\"", .{method});
}
