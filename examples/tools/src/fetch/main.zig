//! fetch: one HTTP request through the host. The module has no network of its own: what it may
//! reach is the host's decision, and a refusal is an answer like any other.

const std = @import("std");
const stdio = @import("stdio");
const json = @import("json");
const Parameters = @import("parameters").Parameters;
const host = @import("host");

pub const panic = std.debug.no_panic;

const methods = [_][]const u8{ "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE" };

pub export fn _start() void {
    const given = Parameters.read();
    given.only(&.{ "url", "method", "headers", "body" });
    const url = given.requiredString("url");
    if (!startsWith(url, "https://") and !startsWith(url, "http://")) {
        stdio.fail("parameter \"url\" must begin with https:// or http://; found \"{s}\"", .{url});
    }
    const method = given.string("method") orelse "GET";
    for (methods) |known| {
        if (std.mem.eql(u8, method, known)) break;
    } else stdio.fail("parameter \"method\" must be one of GET, HEAD, POST, PUT, PATCH, DELETE; found \"{s}\"", .{method});

    var request: json.Writer = .{};
    request.raw("{\"url\":");
    request.string(url);
    request.raw(",\"method\":");
    request.string(method);
    request.raw(",\"headers\":");
    request.value(headers(given));
    request.raw(",\"body\":");
    if (given.string("body")) |body| request.string(body) else request.raw("null");
    request.raw("}");

    log("info", &.{ method, " ", url });
    const answer = host.call("http_request", request.buffer.items);

    var result: json.Writer = .{};
    switch (answer) {
        .ok => |response| {
            log("info", &.{ "answered with status ", status(response) });
            result.raw("{\"response\":");
            result.value(response);
        },
        .failed => |refusal| {
            const reason = refusal.get("error").?;
            log("warn", &.{ "refused or failed: ", if (reason == .string) reason.string else "see the result" });
            result.raw("{\"error\":");
            result.value(reason);
            if (refusal.get("reason")) |short| {
                result.raw(",\"reason\":");
                result.value(short);
            }
        },
    }
    result.raw("}");
    result.print();
}

fn headers(given: Parameters) json.Value {
    const found = given.value("headers") orelse return .{ .object = .empty };
    if (found != .object) {
        stdio.fail("parameter \"headers\" must be an object of strings, found {s}", .{found.kind()});
    }
    for (found.object.keys(), found.object.values()) |name, content| {
        if (content != .string) stdio.fail("header \"{s}\" must be a string, found {s}", .{ name, content.kind() });
    }
    return found;
}

fn status(response: json.Value) []const u8 {
    if (response != .object) return "unknown";
    const code = response.object.get("status") orelse return "unknown";
    return if (code == .number) code.number else "unknown";
}

/// Tells the operator what happens. A log line the host refuses is no reason to give up.
fn log(level: []const u8, pieces: []const []const u8) void {
    const message = std.mem.concat(stdio.allocator, u8, pieces) catch stdio.outOfMemory();
    var entry: json.Writer = .{};
    entry.raw("{\"level\":");
    entry.string(level);
    entry.raw(",\"message\":");
    entry.string(message);
    entry.raw("}");
    _ = host.call("log", entry.buffer.items);
}

fn startsWith(text: []const u8, prefix: []const u8) bool {
    return text.len >= prefix.len and std.ascii.eqlIgnoreCase(text[0..prefix.len], prefix);
}
