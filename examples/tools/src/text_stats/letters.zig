//! What a Unicode character is, as far as counting words needs to know. Ranges instead of the
//! full tables: the rare character that lands in the wrong class is worth the hundred kilobytes.

const std = @import("std");

pub const Class = enum {
    /// Part of a word: letters, marks and digits of any script.
    letter,
    /// Part of a word between two letters: apostrophe and hyphen.
    joiner,
    /// A word by itself: Han characters and hiragana.
    ideograph,
    space,
    /// Punctuation, symbols, emoji, control characters.
    other,
};

pub const Decoded = struct { point: u21, length: u3 };

/// The character at `at` of valid UTF-8.
pub fn decode(text: []const u8, at: usize) Decoded {
    const first = text[at];
    if (first < 0x80) return .{ .point = first, .length = 1 };
    const length = std.unicode.utf8ByteSequenceLength(first) catch 1;
    const bytes = text[at..][0..@min(length, text.len - at)];
    return .{ .point = std.unicode.utf8Decode(bytes) catch 0xfffd, .length = @intCast(bytes.len) };
}

pub fn classify(point: u21) Class {
    return switch (point) {
        '0'...'9', 'A'...'Z', 'a'...'z', '_' => .letter,
        '\'', '-', 0x2010, 0x2011, 0x2019 => .joiner,
        '\t'...'\r', ' ', 0x85, 0xa0, 0x1680, 0x2000...0x200a, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000 => .space,
        // Feminine and masculine ordinals and the micro sign are letters among symbols.
        0xaa, 0xb5, 0xba => .letter,
        0...8, 0x0e...0x1f, '!'...'&', '('...',', '.', '/', ':'...'@', '['...'^', '`', '{'...0x84 => .other,
        0x86...0x9f, 0xa1...0xa9, 0xab...0xb4, 0xb6...0xb9, 0xbb...0xbf, 0xd7, 0xf7 => .other,
        // Punctuation of Greek, Armenian, Hebrew, Arabic, Devanagari and Thai.
        0x37e, 0x387, 0x55a...0x55f, 0x589, 0x5be, 0x60c, 0x61b, 0x61f, 0x6d4, 0x964, 0x965, 0xe4f, 0xe5a, 0xe5b => .other,
        // Zero-width joiners keep a word together.
        0x200c, 0x200d => .letter,
        // General punctuation, currency, arrows, mathematics, boxes, dingbats.
        0x200b, 0x200e, 0x200f, 0x2012...0x2018, 0x201a...0x2027, 0x202a...0x202e, 0x2030...0x205e => .other,
        0x2060...0x206f, 0x207a...0x207e, 0x208a...0x208e, 0x20a0...0x20cf, 0x2190...0x2bff, 0x2e00...0x2e7f => .other,
        0x3001...0x3004, 0x3008...0x3020, 0x3030, 0x303d...0x303f, 0x30a0, 0x30fb => .other,
        0x3005...0x3007, 0x3041...0x3096, 0x3400...0x4dbf, 0x4e00...0x9fff, 0xf900...0xfaff, 0x20000...0x3ffff => .ideograph,
        // Surrogates and private use; byte order mark; full-width punctuation; emoji.
        0xd800...0xf8ff, 0xfe00...0xfe1f, 0xfe30...0xfe6f, 0xfeff, 0xff01...0xff0f, 0xff1a...0xff20 => .other,
        0xff3b...0xff40, 0xff5b...0xff65, 0xffe0...0xffff, 0x1f000...0x1faff, 0xe0000...0x10ffff => .other,
        else => .letter,
    };
}

/// Lower case of `word` in `buffer`, which must be as long: ASCII, Latin with accents, Greek and
/// Cyrillic, all of which keep their length. Other scripts have no case or are left as they are.
pub fn lower(word: []const u8, buffer: []u8) []const u8 {
    var at: usize = 0;
    while (at < word.len) {
        const here = decode(word, at);
        const point = lowerPoint(here.point);
        if (here.length == 1) {
            buffer[at] = @intCast(point);
        } else if (here.length == 2 and point >= 0x80) {
            buffer[at] = 0xc0 | @as(u8, @intCast(point >> 6));
            buffer[at + 1] = 0x80 | @as(u8, @intCast(point & 0x3f));
        } else {
            @memcpy(buffer[at..][0..here.length], word[at..][0..here.length]);
        }
        at += here.length;
    }
    return buffer[0..word.len];
}

fn lowerPoint(point: u21) u21 {
    return switch (point) {
        'A'...'Z', 0xc0...0xd6, 0xd8...0xde => point + 32,
        // Latin Extended-A: upper and lower case alternate, but for a few.
        0x100...0x12f, 0x132...0x137, 0x14a...0x177 => point | 1,
        0x139...0x148, 0x179...0x17e => point + (point & 1),
        0x178 => 0xff,
        0x386 => 0x3ac,
        0x388...0x38a => point + 37,
        0x38c => 0x3cc,
        0x38e, 0x38f => point + 63,
        0x391...0x3a1, 0x3a3...0x3ab => point + 32,
        0x400...0x40f => point + 80,
        0x410...0x42f => point + 32,
        0x460...0x481, 0x48a...0x4bf, 0x4d0...0x52f => point | 1,
        else => point,
    };
}
