//! Selection: walks the document and keeps, for every match, how it was reached.

const std = @import("std");
const stdio = @import("stdio");
const json = @import("json");
const path = @import("path.zig");

const Value = json.Value;

/// Paths such as `$..*..*` visit a node once for every way to it; this bounds the work.
const max_nodes = 200_000;

pub const Match = struct {
    value: Value,
    parent: ?*const Match = null,
    step: Step = .root,

    const Step = union(enum) { root, key: []const u8, index: usize };

    /// The JSON Pointer of this match.
    pub fn pointer(self: *const Match) []const u8 {
        var text: std.ArrayList(u8) = .empty;
        self.append(&text) catch stdio.outOfMemory();
        return text.items;
    }

    fn append(self: *const Match, text: *std.ArrayList(u8)) std.mem.Allocator.Error!void {
        if (self.parent) |parent| try parent.append(text);
        switch (self.step) {
            .root => {},
            .key => |key| {
                try text.append(stdio.allocator, '/');
                for (key) |byte| switch (byte) {
                    '~' => try text.appendSlice(stdio.allocator, "~0"),
                    '/' => try text.appendSlice(stdio.allocator, "~1"),
                    else => try text.append(stdio.allocator, byte),
                };
            },
            .index => |index| {
                var digits: [20]u8 = undefined;
                try text.append(stdio.allocator, '/');
                try text.appendSlice(stdio.allocator, digits[0..std.fmt.printInt(&digits, index, 10, .lower, .{})]);
            },
        }
    }
};

const Matches = std.ArrayList(*const Match);
const Error = std.mem.Allocator.Error;

pub fn byPointer(document: Value, wanted: []const u8) []const *const Match {
    return followPointer(document, wanted) catch stdio.outOfMemory();
}

pub fn byPath(document: Value, segments: []const path.Segment) []const *const Match {
    return followPath(document, segments) catch stdio.outOfMemory();
}

fn followPointer(document: Value, wanted: []const u8) Error![]const *const Match {
    if (wanted.len > 0 and wanted[0] != '/') {
        stdio.fail("parameter \"pointer\" must be empty or begin with '/'; found \"{s}\"", .{wanted});
    }
    var walk: Walk = .{};
    var node: ?*const Match = try walk.root(document);
    var tokens = std.mem.splitScalar(u8, wanted, '/');
    _ = tokens.first();
    // The whole pointer is read even after a miss: a malformed one is an error either way.
    while (tokens.next()) |token| {
        const name = try unescape(token, wanted);
        if (node) |parent| node = switch (parent.value) {
            .object => try walk.member(parent, name),
            .array => |array| if (arrayIndex(name, array.len)) |index| try walk.element(parent, index) else null,
            else => null,
        };
    }
    var matches: Matches = .empty;
    if (node) |found| try matches.append(stdio.allocator, found);
    return matches.items;
}

fn unescape(token: []const u8, wanted: []const u8) Error![]const u8 {
    var name: std.ArrayList(u8) = .empty;
    var at: usize = 0;
    while (at < token.len) : (at += 1) {
        var byte = token[at];
        if (byte == '~') {
            at += 1;
            byte = switch (if (at < token.len) token[at] else 0) {
                '0' => '~',
                '1' => '/',
                else => stdio.fail("parameter \"pointer\" has a '~' that is neither \"~0\" nor \"~1\": \"{s}\"", .{wanted}),
            };
        }
        try name.append(stdio.allocator, byte);
    }
    return name.items;
}

/// An array index as RFC 6901 writes it: digits without a leading zero.
fn arrayIndex(token: []const u8, length: usize) ?usize {
    if (token.len == 0 or (token.len > 1 and token[0] == '0')) return null;
    for (token) |byte| if (!std.ascii.isDigit(byte)) return null;
    const index = std.fmt.parseInt(usize, token, 10) catch return null;
    return if (index < length) index else null;
}

fn followPath(document: Value, segments: []const path.Segment) Error![]const *const Match {
    var walk: Walk = .{};
    var nodes: Matches = .empty;
    try nodes.append(stdio.allocator, try walk.root(document));
    for (segments) |segment| {
        var selected: Matches = .empty;
        for (nodes.items) |node| try walk.apply(segment, node, &selected);
        nodes = selected;
    }
    return nodes.items;
}

const Walk = struct {
    nodes: usize = 0,

    fn root(self: *Walk, document: Value) Error!*const Match {
        return self.create(.{ .value = document });
    }

    fn create(self: *Walk, match: Match) Error!*const Match {
        self.nodes += 1;
        if (self.nodes > max_nodes) stdio.fail("parameter \"path\" visits more than {d} nodes; make it narrower", .{max_nodes});
        const node = try stdio.allocator.create(Match);
        node.* = match;
        return node;
    }

    fn member(self: *Walk, parent: *const Match, name: []const u8) Error!?*const Match {
        const value = parent.value.object.get(name) orelse return null;
        return try self.create(.{ .value = value, .parent = parent, .step = .{ .key = name } });
    }

    fn element(self: *Walk, parent: *const Match, index: usize) Error!*const Match {
        return self.create(.{ .value = parent.value.array[index], .parent = parent, .step = .{ .index = index } });
    }

    /// Recursive, but no deeper than the parser lets a document be.
    fn apply(self: *Walk, segment: path.Segment, node: *const Match, selected: *Matches) Error!void {
        for (segment.selectors) |selector| try self.choose(selector, node, selected);
        if (!segment.descend) return;
        var children: Matches = .empty;
        try self.choose(.every, node, &children);
        for (children.items) |child| try self.apply(segment, child, selected);
    }

    fn choose(self: *Walk, selector: path.Selector, node: *const Match, selected: *Matches) Error!void {
        switch (node.value) {
            .object => |object| switch (selector) {
                .name => |name| if (try self.member(node, name)) |found| try selected.append(stdio.allocator, found),
                .every => for (object.keys()) |key| {
                    if (try self.member(node, key)) |found| try selected.append(stdio.allocator, found);
                },
                .index, .slice => {},
            },
            .array => |array| {
                const length: i64 = @intCast(array.len);
                switch (selector) {
                    .name => {},
                    .every => for (0..array.len) |index| try selected.append(stdio.allocator, try self.element(node, index)),
                    .index => |index| {
                        const from_start = if (index < 0) index + length else index;
                        if (from_start < 0 or from_start >= length) return;
                        try selected.append(stdio.allocator, try self.element(node, @intCast(from_start)));
                    },
                    .slice => |slice| {
                        var index, const end = bounds(slice, length);
                        while (if (slice.step > 0) index < end else slice.step < 0 and index > end) : (index += slice.step) {
                            try selected.append(stdio.allocator, try self.element(node, @intCast(index)));
                        }
                    },
                }
            },
            else => {},
        }
    }
};

/// First index and the one where to stop, by the rules of RFC 9535, section 2.3.4.
fn bounds(slice: path.Slice, length: i64) struct { i64, i64 } {
    const forward = slice.step > 0;
    const low: i64 = if (forward) 0 else -1;
    const high: i64 = if (forward) length else length - 1;
    const start = if (slice.start) |start| std.math.clamp(fromStart(start, length), low, high) else if (forward) low else high;
    const end = if (slice.end) |end| std.math.clamp(fromStart(end, length), low, high) else if (forward) high else low;
    return .{ start, end };
}

fn fromStart(index: i64, length: i64) i64 {
    return if (index < 0) index + length else index;
}
