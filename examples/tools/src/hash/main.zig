//! hash: a digest or checksum of a text or of bytes in base64.

const std = @import("std");
const stdio = @import("stdio");
const json = @import("json");
const Parameters = @import("parameters").Parameters;

pub const panic = std.debug.no_panic;

const Algorithm = enum { sha256, sha1, md5, crc32 };

pub export fn _start() void {
    const given = Parameters.read();
    given.only(&.{ "text", "base64", "algorithm" });
    const name = given.string("algorithm") orelse "sha256";
    const algorithm = std.meta.stringToEnum(Algorithm, name) orelse
        stdio.fail("parameter \"algorithm\" must be one of sha256, sha1, md5, crc32; found \"{s}\"", .{name});
    const text = given.string("text");
    const base64 = given.string("base64");
    if ((text == null) == (base64 == null)) {
        stdio.fail("give exactly one of the parameters \"text\" and \"base64\"", .{});
    }
    const input = text orelse decode(base64.?);

    var result: json.Writer = .{};
    result.raw("{\"algorithm\":");
    result.string(name);
    result.raw(",\"hex\":");
    switch (algorithm) {
        .sha256 => digest(std.crypto.hash.sha2.Sha256, input, &result),
        .sha1 => digest(std.crypto.hash.Sha1, input, &result),
        .md5 => digest(std.crypto.hash.Md5, input, &result),
        .crc32 => {
            var bytes: [4]u8 = undefined;
            std.mem.writeInt(u32, &bytes, std.hash.Crc32.hash(input), .big);
            hex(&bytes, &result);
        },
    }
    result.raw(",\"bytes\":");
    result.number(input.len);
    result.raw("}");
    result.print();
}

fn digest(comptime Hash: type, input: []const u8, result: *json.Writer) void {
    var bytes: [Hash.digest_length]u8 = undefined;
    Hash.hash(input, &bytes, .{});
    hex(&bytes, result);
}

fn hex(bytes: []const u8, result: *json.Writer) void {
    result.raw("\"");
    for (bytes) |byte| result.raw(&std.fmt.hex(byte));
    result.raw("\"");
}

/// Standard base64 with padding. White space is skipped, because encoders break lines.
fn decode(encoded: []const u8) []const u8 {
    var characters: usize = 0;
    for (encoded) |byte| characters += @intFromBool(!std.ascii.isWhitespace(byte));
    if (characters % 4 != 0) {
        stdio.fail("parameter \"base64\" must be padded with '=' to a multiple of 4 characters, found {d}", .{characters});
    }
    const decoder = std.base64.standard.decoderWithIgnore(&std.ascii.whitespace);
    const size = decoder.calcSizeUpperBound(encoded.len) catch encoded.len;
    const buffer = stdio.allocator.alloc(u8, size) catch stdio.outOfMemory();
    const length = decoder.decode(buffer, encoded) catch |reason| switch (reason) {
        error.InvalidPadding => stdio.fail("parameter \"base64\" is not padded as it should be: '=' only at its end, spare bits zero", .{}),
        else => stdio.fail("parameter \"base64\" must be standard base64: A-Z, a-z, 0-9, '+', '/' and '=' at the end", .{}),
    };
    return buffer[0..length];
}
