//! A strict JSON parser (RFC 8259) for documents in memory.
//!
//! Numbers stay text, so no digit is lost on the way through a tool, and strings without escapes
//! are slices of the document, found sixteen bytes at a time. The standard library's parser goes
//! byte by byte and brings the tables for floating-point numbers along: `echo` built on it took
//! about eight times as many instructions for 1 KiB of text, and was larger by a third.

const std = @import("std");
const stdio = @import("stdio");

const Allocator = std.mem.Allocator;

/// Deeper documents are refused: reading and writing are recursive, and the stack is small.
pub const max_depth = 128;

pub const Object = std.StringArrayHashMapUnmanaged(Value);

pub const Value = union(enum) {
    null,
    boolean: bool,
    /// As it was written.
    number: []const u8,
    /// Without quotes and escapes.
    string: []const u8,
    array: []const Value,
    /// In the order of the document.
    object: Object,

    /// What it is, with its article, for messages.
    pub fn kind(self: Value) []const u8 {
        return switch (self) {
            .null => "null",
            .boolean => "a boolean",
            .number => "a number",
            .string => "a string",
            .array => "an array",
            .object => "an object",
        };
    }
};

/// Parses one document. Anything else ends the run; `source` names the text in the message.
pub fn parse(text: []const u8, source: []const u8) Value {
    if (text.len == 0) stdio.fail("{s} is empty; it must be JSON", .{source});
    if (!std.unicode.utf8ValidateSlice(text)) stdio.fail("{s} is not UTF-8", .{source});
    var parser = Parser{ .text = text, .source = source };
    const value = parser.value(0) catch stdio.outOfMemory();
    parser.skipSpace();
    if (parser.at < text.len) parser.stop("there is more after the document");
    return value;
}

const Parser = struct {
    text: []const u8,
    source: []const u8,
    at: usize = 0,

    fn value(self: *Parser, depth: usize) Allocator.Error!Value {
        self.skipSpace();
        return switch (self.peek()) {
            '"' => .{ .string = try self.string() },
            '{' => self.object(depth),
            '[' => self.array(depth),
            '-', '0'...'9' => .{ .number = self.number() },
            't' => self.word("true", .{ .boolean = true }),
            'f' => self.word("false", .{ .boolean = false }),
            'n' => self.word("null", .null),
            else => self.stop("expected a value"),
        };
    }

    fn object(self: *Parser, depth: usize) Allocator.Error!Value {
        self.enter(depth);
        var members: Object = .empty;
        if (self.closes('}')) return .{ .object = members };
        while (true) {
            self.skipSpace();
            if (self.peek() != '"') self.stop("expected a name in quotes");
            const name = try self.string();
            self.skipSpace();
            if (self.peek() != ':') self.stop("expected ':'");
            self.at += 1;
            // Of a name that comes twice, the last value counts.
            try members.put(stdio.allocator, name, try self.value(depth + 1));
            if (self.closes('}')) return .{ .object = members };
            if (self.peek() != ',') self.stop("expected ',' or '}'");
            self.at += 1;
        }
    }

    fn array(self: *Parser, depth: usize) Allocator.Error!Value {
        self.enter(depth);
        var items: std.ArrayList(Value) = .empty;
        if (self.closes(']')) return .{ .array = items.items };
        while (true) {
            const item = try self.value(depth + 1);
            try items.append(stdio.allocator, item);
            if (self.closes(']')) return .{ .array = items.items };
            if (self.peek() != ',') self.stop("expected ',' or ']'");
            self.at += 1;
        }
    }

    fn enter(self: *Parser, depth: usize) void {
        if (depth == max_depth) self.stop("it is nested more than 128 levels deep");
        self.at += 1;
    }

    fn closes(self: *Parser, bracket: u8) bool {
        self.skipSpace();
        if (self.at >= self.text.len or self.text[self.at] != bracket) return false;
        self.at += 1;
        return true;
    }

    fn string(self: *Parser) Allocator.Error![]const u8 {
        self.at += 1;
        const start = self.at;
        self.at = special(self.text, start);
        if (self.peek() == '"') {
            self.at += 1;
            return self.text[start .. self.at - 1];
        }
        var plain: std.ArrayList(u8) = .empty;
        try plain.appendSlice(stdio.allocator, self.text[start..self.at]);
        while (true) {
            switch (self.peek()) {
                '"' => {
                    self.at += 1;
                    return plain.items;
                },
                '\\' => try self.escape(&plain),
                else => self.stop("control characters must be escaped in a string"),
            }
            const piece = self.at;
            self.at = special(self.text, piece);
            try plain.appendSlice(stdio.allocator, self.text[piece..self.at]);
        }
    }

    fn escape(self: *Parser, plain: *std.ArrayList(u8)) Allocator.Error!void {
        self.at += 1;
        const byte: u8 = switch (self.peek()) {
            '"', '\\', '/' => |same| same,
            'b' => 8,
            'f' => 12,
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                var point: u21 = self.codeUnit();
                if (point >= 0xdc00 and point <= 0xdfff) self.stop("this half of a surrogate pair has no first half");
                if (point >= 0xd800 and point <= 0xdbff) {
                    if (!std.mem.startsWith(u8, self.text[self.at..], "\\u")) self.stop("the second half of a surrogate pair is missing");
                    self.at += 1;
                    const low = self.codeUnit();
                    if (low < 0xdc00 or low > 0xdfff) self.stop("the second half of a surrogate pair is missing");
                    point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
                }
                var bytes: [4]u8 = undefined;
                // A surrogate is the only thing it refuses, and those are dealt with.
                const length = std.unicode.utf8Encode(point, &bytes) catch unreachable;
                return plain.appendSlice(stdio.allocator, bytes[0..length]);
            },
            else => self.stop("this is not an escape"),
        };
        self.at += 1;
        return plain.append(stdio.allocator, byte);
    }

    /// The four hexadecimal digits after a `u`.
    fn codeUnit(self: *Parser) u16 {
        self.at += 1;
        var unit: u16 = 0;
        for (0..4) |_| {
            const digit = std.fmt.charToDigit(self.peek(), 16) catch self.stop("expected four hexadecimal digits");
            unit = unit << 4 | digit;
            self.at += 1;
        }
        return unit;
    }

    fn number(self: *Parser) []const u8 {
        const start = self.at;
        if (self.text[self.at] == '-') self.at += 1;
        if (self.peek() == '0') self.at += 1 else self.digits();
        if (self.at < self.text.len and self.text[self.at] == '.') {
            self.at += 1;
            self.digits();
        }
        if (self.at < self.text.len and self.text[self.at] | 0x20 == 'e') {
            self.at += 1;
            if (self.peek() == '+' or self.peek() == '-') self.at += 1;
            self.digits();
        }
        return self.text[start..self.at];
    }

    fn digits(self: *Parser) void {
        if (!std.ascii.isDigit(self.peek())) self.stop("expected a digit");
        while (self.at < self.text.len and std.ascii.isDigit(self.text[self.at])) self.at += 1;
    }

    fn word(self: *Parser, expected: []const u8, meaning: Value) Value {
        if (!std.mem.startsWith(u8, self.text[self.at..], expected)) self.stop("expected a value");
        self.at += expected.len;
        return meaning;
    }

    fn skipSpace(self: *Parser) void {
        while (self.at < self.text.len) switch (self.text[self.at]) {
            ' ', '\t', '\n', '\r' => self.at += 1,
            else => return,
        };
    }

    fn peek(self: *Parser) u8 {
        if (self.at >= self.text.len) stdio.fail("{s} is not complete JSON: it ends after {d} bytes", .{ self.source, self.text.len });
        return self.text[self.at];
    }

    fn stop(self: *const Parser, reason: []const u8) noreturn {
        const before = self.text[0..self.at];
        const line = 1 + std.mem.count(u8, before, "\n");
        const column = self.at - (if (std.mem.lastIndexOfScalar(u8, before, '\n')) |newline| newline + 1 else 0) + 1;
        stdio.fail("{s} is not valid JSON: line {d}, column {d}: {s}", .{ self.source, line, column, reason });
    }
};

const lanes = 16;
const Block = @Vector(lanes, u8);

/// Where the next quote, backslash or control character is at or after `from`; the length of
/// `text` if there is none.
pub fn special(text: []const u8, from: usize) usize {
    var at = from;
    while (at + lanes <= text.len) : (at += lanes) {
        const block: Block = text[at..][0..lanes].*;
        const quotes: u16 = @bitCast(block == @as(Block, @splat('"')));
        const escapes: u16 = @bitCast(block == @as(Block, @splat('\\')));
        const controls: u16 = @bitCast(block < @as(Block, @splat(' ')));
        const found = quotes | escapes | controls;
        if (found != 0) return at + @ctz(found);
    }
    while (at < text.len) : (at += 1) {
        if (text[at] < ' ' or text[at] == '"' or text[at] == '\\') break;
    }
    return at;
}

/// Collects JSON text. Commas and nesting are the caller's: results are small and their shape is
/// known.
pub const Writer = struct {
    buffer: std.ArrayList(u8) = .empty,

    /// Adds text that is JSON already.
    pub fn raw(self: *Writer, text: []const u8) void {
        self.buffer.appendSlice(stdio.allocator, text) catch stdio.outOfMemory();
    }

    pub fn number(self: *Writer, amount: usize) void {
        var digits: [20]u8 = undefined;
        self.raw(digits[0..std.fmt.printInt(&digits, amount, 10, .lower, .{})]);
    }

    /// Adds a string with its quotes; only quotes, backslashes and control characters are escaped.
    pub fn string(self: *Writer, text: []const u8) void {
        self.raw("\"");
        var at: usize = 0;
        while (true) {
            const stop = special(text, at);
            self.raw(text[at..stop]);
            if (stop == text.len) break;
            const byte = text[stop];
            switch (byte) {
                '"', '\\' => self.raw(&.{ '\\', byte }),
                '\n' => self.raw("\\n"),
                '\r' => self.raw("\\r"),
                '\t' => self.raw("\\t"),
                else => {
                    const hex = "0123456789abcdef";
                    self.raw(&.{ '\\', 'u', '0', '0', hex[byte >> 4], hex[byte & 15] });
                },
            }
            at = stop + 1;
        }
        self.raw("\"");
    }

    /// Adds any value; numbers come out digit by digit as they were read.
    pub fn value(self: *Writer, any: Value) void {
        switch (any) {
            .null => self.raw("null"),
            .boolean => |flag| self.raw(if (flag) "true" else "false"),
            .number => |digits| self.raw(digits),
            .string => |text| self.string(text),
            .array => |items| {
                self.raw("[");
                for (items, 0..) |item, i| {
                    if (i > 0) self.raw(",");
                    self.value(item);
                }
                self.raw("]");
            },
            .object => |object| {
                self.raw("{");
                for (object.keys(), object.values(), 0..) |name, item, i| {
                    if (i > 0) self.raw(",");
                    self.string(name);
                    self.raw(":");
                    self.value(item);
                }
                self.raw("}");
            },
        }
    }

    /// Writes all of it to standard output, as one line.
    pub fn print(self: *Writer) void {
        self.raw("\n");
        stdio.writeOut(self.buffer.items);
    }
};
