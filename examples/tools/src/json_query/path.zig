//! The path language:
//!
//!   path      = ["$"] segment*           a leading name may come without its dot: items[0].name
//!   segment   = "." name | ".*" | "[" selector ("," selector)* "]"
//!             | ".." (name | "*" | "[" ... "]")   the same at every depth
//!   selector  = 'name' | "name" | * | index | start:end | start:end:step
//!
//! Negative indexes count from the end.

const std = @import("std");
const stdio = @import("stdio");

pub const Slice = struct { start: ?i64 = null, end: ?i64 = null, step: i64 = 1 };

pub const Selector = union(enum) {
    name: []const u8,
    every,
    index: i64,
    slice: Slice,
};

pub const Segment = struct {
    /// Whether it applies to the node and everything below it.
    descend: bool,
    selectors: []const Selector,
};

/// Parses a path, or ends the run with the place and the reason.
pub fn parse(text: []const u8) []const Segment {
    var parser = Parser{ .text = text };
    return parser.path() catch stdio.outOfMemory();
}

const Parser = struct {
    text: []const u8,
    at: usize = 0,

    const Error = std.mem.Allocator.Error;

    fn path(self: *Parser) Error![]const Segment {
        var segments: std.ArrayList(Segment) = .empty;
        if (!self.take("$") and self.at < self.text.len and self.text[0] != '.' and self.text[0] != '[') {
            try segments.append(stdio.allocator, try self.named(false));
        }
        while (self.at < self.text.len) {
            const descend = self.take("..");
            if (self.peek() == '[') {
                try segments.append(stdio.allocator, try self.bracketed(descend));
            } else if (descend or self.take(".")) {
                try segments.append(stdio.allocator, try self.named(descend));
            } else self.stop("expected '.', '..' or '['");
        }
        return segments.items;
    }

    fn named(self: *Parser, descend: bool) Error!Segment {
        if (self.take("*")) return single(descend, .every);
        const start = self.at;
        while (self.peek()) |byte| switch (byte) {
            'a'...'z', 'A'...'Z', '0'...'9', '_', '-', 0x80...0xff => self.at += 1,
            else => break,
        };
        if (self.at == start) self.stop("expected a name or '*'; put other names in brackets and quotes: ['a b']");
        return single(descend, .{ .name = self.text[start..self.at] });
    }

    fn bracketed(self: *Parser, descend: bool) Error!Segment {
        _ = self.take("[");
        var selectors: std.ArrayList(Selector) = .empty;
        while (true) {
            self.skipSpace();
            try selectors.append(stdio.allocator, try self.selector());
            self.skipSpace();
            if (self.take("]")) return .{ .descend = descend, .selectors = selectors.items };
            if (!self.take(",")) self.stop("expected ',' or ']'");
        }
    }

    fn selector(self: *Parser) Error!Selector {
        if (self.take("*")) return .every;
        const byte = self.peek() orelse self.stop("expected ']'");
        if (byte == '\'' or byte == '"') return .{ .name = try self.quoted(byte) };
        if (byte == '?') self.stop("filters are not part of this path language");
        if (byte == '(') self.stop("functions are not part of this path language");

        const first = self.integer();
        self.skipSpace();
        if (!self.take(":")) {
            return .{ .index = first orelse self.stop("expected a quoted name, an index, a slice or '*'") };
        }
        var slice: Slice = .{ .start = first };
        self.skipSpace();
        slice.end = self.integer();
        self.skipSpace();
        if (self.take(":")) {
            self.skipSpace();
            slice.step = self.integer() orelse 1;
        }
        return .{ .slice = slice };
    }

    fn quoted(self: *Parser, quote: u8) Error![]const u8 {
        const start = self.at;
        self.at += 1;
        var name: std.ArrayList(u8) = .empty;
        while (self.peek()) |byte| {
            self.at += 1;
            if (byte == quote) return name.items;
            if (byte == '\\') {
                const escaped = self.peek() orelse break;
                if (escaped != '\\' and escaped != '\'' and escaped != '"') {
                    self.stop("only quotes and the backslash can be escaped in a name");
                }
                self.at += 1;
                try name.append(stdio.allocator, escaped);
            } else try name.append(stdio.allocator, byte);
        }
        self.at = start;
        self.stop("this quoted name does not end");
    }

    fn integer(self: *Parser) ?i64 {
        const start = self.at;
        _ = self.take("-");
        while (self.peek()) |byte| {
            if (!std.ascii.isDigit(byte)) break;
            self.at += 1;
        }
        if (self.at == start) return null;
        // 32 bits are more than an array here can have, and leave room to count with.
        return std.fmt.parseInt(i32, self.text[start..self.at], 10) catch {
            self.at = start;
            self.stop("this is not an index");
        };
    }

    fn peek(self: *const Parser) ?u8 {
        return if (self.at < self.text.len) self.text[self.at] else null;
    }

    fn take(self: *Parser, token: []const u8) bool {
        if (!std.mem.startsWith(u8, self.text[self.at..], token)) return false;
        self.at += token.len;
        return true;
    }

    fn skipSpace(self: *Parser) void {
        while (self.peek() == ' ') self.at += 1;
    }

    fn single(descend: bool, selected: Selector) Error!Segment {
        const selectors = try stdio.allocator.alloc(Selector, 1);
        selectors[0] = selected;
        return .{ .descend = descend, .selectors = selectors };
    }

    fn stop(self: *const Parser, reason: []const u8) noreturn {
        stdio.fail("parameter \"path\" is not a path at character {d} of \"{s}\": {s}", .{ self.at + 1, self.text, reason });
    }
};
