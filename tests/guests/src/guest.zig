//! What the guests share: numbers from the parameters, numbers printed, and waiting.

const std = @import("std");
const stdio = @import("stdio");
const wasi = std.os.wasi;

/// The parameters: a flat JSON object of whole numbers, as far as these guests look into it.
pub const Parameters = struct {
    text: []const u8,

    pub fn read() Parameters {
        const text = std.mem.trim(u8, stdio.readAll(), &std.ascii.whitespace);
        if (text.len < 2 or text[0] != '{' or text[text.len - 1] != '}') {
            stdio.fail("standard input must be a JSON object of parameters", .{});
        }
        return .{ .text = text };
    }

    /// The whole number called `name`, or `default` when there is none. A fraction of zeros is
    /// accepted: some senders only have floating-point numbers.
    pub fn number(self: Parameters, comptime name: []const u8, default: u64) u64 {
        const key = "\"" ++ name ++ "\"";
        const found = std.mem.indexOf(u8, self.text, key) orelse return default;
        const after = std.mem.trimLeft(u8, self.text[found + key.len ..], ": \t\r\n");
        const length = std.mem.indexOfAny(u8, after, ",} \t\r\n") orelse after.len;
        const digits = after[0..length];
        const whole = std.mem.indexOfScalar(u8, digits, '.') orelse length;
        for (digits[@min(whole + 1, length)..]) |digit| {
            if (digit != '0') stdio.fail("parameter \"" ++ name ++ "\" must be a whole number", .{});
        }
        return std.fmt.parseInt(u64, digits[0..whole], 10) catch
            stdio.fail("parameter \"" ++ name ++ "\" must be a whole number, zero or more", .{});
    }
};

/// A line of text and whole numbers, for standard output.
pub fn line(buffer: []u8, pieces: []const Piece) []const u8 {
    var used: usize = 0;
    for (pieces) |piece| switch (piece) {
        .text => |text| {
            @memcpy(buffer[used..][0..text.len], text);
            used += text.len;
        },
        .number => |number| used += std.fmt.printInt(buffer[used..], number, 10, .lower, .{}),
    };
    return buffer[0..used];
}

pub const Piece = union(enum) { text: []const u8, number: u64 };

/// Sleeps on the monotonic clock, through `poll_oneoff` as every WASI program does.
pub fn sleep(milliseconds: u64) void {
    const wait = wasi.subscription_t{
        .userdata = 0,
        .u = .{ .tag = .CLOCK, .u = .{ .clock = .{
            .id = .MONOTONIC,
            .timeout = milliseconds *| 1_000_000,
            .precision = 0,
            .flags = 0,
        } } },
    };
    var event: wasi.event_t = undefined;
    var count: usize = 0;
    const code = wasi.poll_oneoff(&wait, &event, 1, &count);
    if (code != .SUCCESS) stdio.fail("poll_oneoff: {s}", .{@tagName(code)});
}
