//! Makes `calls` host calls of method `log` (default 1), level "info", message "call N", and prints
//! how they were answered: {"calls":N,"ok":N,"error":N,"failed":N}, where `failed` counts the
//! calls that returned -1.

const std = @import("std");
const stdio = @import("stdio");
const guest = @import("guest");

pub const panic = std.debug.no_panic;

extern "clawbox" fn host_call(request: [*]const u8, request_length: i32, response: [*]u8, response_capacity: i32) i32;

pub export fn _start() void {
    const given = guest.Parameters.read();
    const calls = given.number("calls", 1);
    var ok: u64 = 0;
    var refused: u64 = 0;
    var failed: u64 = 0;
    var request_buffer: [128]u8 = undefined;
    var response_buffer: [4096]u8 = undefined;
    for (0..@intCast(calls)) |i| {
        const request = guest.line(&request_buffer, &.{
            .{ .text = "{\"method\":\"log\",\"params\":{\"level\":\"info\",\"message\":\"call " },
            .{ .number = i },
            .{ .text = "\"}}" },
        });
        const written = host_call(request.ptr, @intCast(request.len), &response_buffer, response_buffer.len);
        if (written < 0) {
            failed += 1;
        } else if (std.mem.startsWith(u8, response_buffer[0..@intCast(written)], "{\"ok\"")) {
            ok += 1;
        } else refused += 1;
    }
    var buffer: [160]u8 = undefined;
    stdio.writeOut(guest.line(&buffer, &.{
        .{ .text = "{\"calls\":" },  .{ .number = calls },
        .{ .text = ",\"ok\":" },     .{ .number = ok },
        .{ .text = ",\"error\":" },  .{ .number = refused },
        .{ .text = ",\"failed\":" }, .{ .number = failed },
        .{ .text = "}\n" },
    }));
}
