//! The host interface: one imported function that takes and gives JSON.
//!
//! Request: `{"method":"...","params":{...}}`. Answer: `{"ok":...}` or `{"error":...}`.

const std = @import("std");
const stdio = @import("stdio");
const json = @import("json");

/// Returns how many bytes of the answer were written, or -1 when the request could not be read.
extern "clawbox" fn host_call(request: [*]const u8, request_length: i32, response: [*]u8, response_capacity: i32) i32;

pub const Answer = union(enum) {
    ok: json.Value,
    failed: json.Value,
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
    if (written < 0 or written > buffer.len) stdio.fail("the host could not take the request \"{s}\"", .{method});
    // The host cuts an answer to the space there is, without a word.
    if (written == buffer.len) stdio.fail("the answer to \"{s}\" is larger than {d} bytes", .{ method, response_capacity });

    // Values point into the text they were parsed from; the buffer is used again.
    const text = stdio.allocator.dupe(u8, buffer[0..@intCast(written)]) catch stdio.outOfMemory();
    const answer = json.parse(text, "the host's answer");
    if (answer == .object) {
        if (answer.object.get("ok")) |value| return .{ .ok = value };
        if (answer.object.get("error")) |value| return .{ .failed = value };
    }
    stdio.fail("the host's answer to \"{s}\" has neither \"ok\" nor \"error\"", .{method});
}
