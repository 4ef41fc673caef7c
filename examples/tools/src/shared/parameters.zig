//! The parameters of a tool: one JSON object on standard input, read with errors that name the
//! parameter, what was expected and what was found.

const std = @import("std");
const stdio = @import("stdio");
const json = @import("json");

pub const Parameters = struct {
    object: json.Object,

    /// Reads and parses all of standard input.
    pub fn read() Parameters {
        const root = json.parse(stdio.readAll(), "standard input");
        return switch (root) {
            .object => |object| .{ .object = object },
            else => stdio.fail("standard input must be a JSON object of parameters, found {s}", .{root.kind()}),
        };
    }

    /// Refuses parameters that the tool does not know.
    pub fn only(self: Parameters, comptime known: []const []const u8) void {
        for (self.object.keys()) |key| {
            inline for (known) |name| {
                if (std.mem.eql(u8, key, name)) break;
            } else stdio.fail("unknown parameter \"{s}\"; known are: {s}", .{ key, comptime list(known) });
        }
    }

    /// A parameter that may be missing; null counts as missing.
    pub fn value(self: Parameters, name: []const u8) ?json.Value {
        const found = self.object.get(name) orelse return null;
        return if (found == .null) null else found;
    }

    pub fn string(self: Parameters, name: []const u8) ?[]const u8 {
        const found = self.value(name) orelse return null;
        return switch (found) {
            .string => |text| text,
            else => stdio.fail("parameter \"{s}\" must be a string, found {s}", .{ name, found.kind() }),
        };
    }

    pub fn requiredString(self: Parameters, name: []const u8) []const u8 {
        return self.string(name) orelse stdio.fail("parameter \"{s}\" is missing; it must be a string", .{name});
    }

    pub fn boolean(self: Parameters, name: []const u8, default: bool) bool {
        const found = self.value(name) orelse return default;
        return switch (found) {
            .boolean => |flag| flag,
            else => stdio.fail("parameter \"{s}\" must be true or false, found {s}", .{ name, found.kind() }),
        };
    }

    /// A whole number from `min` to `max`, both included.
    pub fn integer(self: Parameters, name: []const u8, default: u32, min: u32, max: u32) u32 {
        const found = self.value(name) orelse return default;
        if (found == .number) {
            if (wholeNumber(found.number)) |number| {
                if (number >= min and number <= max) return @intCast(number);
            }
        }
        stdio.fail("parameter \"{s}\" must be a whole number from {d} to {d}", .{ name, min, max });
    }
};

/// The value of a number if it is whole and fits: `5`, `5.0`, `5e0` and `50e-1` are all five,
/// because some senders only have floating-point numbers.
fn wholeNumber(digits: []const u8) ?i64 {
    var mantissa: i64 = 0;
    var exponent: i64 = 0;
    var negative = false;
    var after_point = false;
    for (digits, 0..) |byte, i| switch (byte) {
        '-' => negative = true,
        '.' => after_point = true,
        'e', 'E' => {
            exponent += std.fmt.parseInt(i16, digits[i + 1 ..], 10) catch return null;
            break;
        },
        else => {
            mantissa = std.math.mul(i64, mantissa, 10) catch return null;
            mantissa = std.math.add(i64, mantissa, byte - '0') catch return null;
            if (after_point) exponent -= 1;
        },
    };
    if (mantissa == 0) return 0;
    while (exponent < 0) : (exponent += 1) {
        if (@rem(mantissa, 10) != 0) return null;
        mantissa = @divExact(mantissa, 10);
    }
    while (exponent > 0) : (exponent -= 1) mantissa = std.math.mul(i64, mantissa, 10) catch return null;
    return if (negative) -mantissa else mantissa;
}

fn list(comptime names: []const []const u8) []const u8 {
    var text: []const u8 = names[0];
    for (names[1..]) |name| text = text ++ ", " ++ name;
    return text;
}
