//! json_query: selects values from a JSON document by a JSON Pointer (RFC 6901) or by a path in
//! the part of JSONPath (RFC 9535) that has no filters and no functions.

const std = @import("std");
const stdio = @import("stdio");
const json = @import("json");
const Parameters = @import("parameters").Parameters;
const select = @import("select.zig");
const path_syntax = @import("path.zig");

pub const panic = std.debug.no_panic;

pub export fn _start() void {
    const given = Parameters.read();
    given.only(&.{ "document", "text", "pointer", "path", "limit" });
    const limit = given.integer("limit", 1000, 1, 100_000);

    // A document may be `null`, which `value` takes for missing.
    const inlined = given.object.get("document");
    const text = given.string("text");
    if ((inlined == null) == (text == null)) {
        stdio.fail("give exactly one of the parameters \"document\" and \"text\"", .{});
    }
    const pointer = given.string("pointer");
    const path = given.string("path");
    if ((pointer == null) == (path == null)) {
        stdio.fail("give exactly one of the parameters \"pointer\" and \"path\"", .{});
    }

    const document = inlined orelse json.parse(text.?, "parameter \"text\"");
    const matches = if (pointer) |wanted|
        select.byPointer(document, wanted)
    else
        select.byPath(document, path_syntax.parse(path.?));

    const shown = @min(limit, matches.len);
    var result: json.Writer = .{};
    result.raw("{\"count\":");
    result.number(matches.len);
    result.raw(",\"truncated\":");
    result.raw(if (shown < matches.len) "true" else "false");
    result.raw(",\"matches\":[");
    for (matches[0..shown], 0..) |match, i| {
        if (i > 0) result.raw(",");
        result.raw("{\"pointer\":");
        result.string(match.pointer());
        result.raw(",\"value\":");
        result.value(match.value);
        result.raw("}");
    }
    result.raw("]}");
    result.print();
}
