//! Memory of a run: a pointer that only goes up. A module lives for one call, so nothing needs to
//! be given back; only the newest block can grow in place, which is what lists do.
//!
//! It begins with static memory, because growing memory costs the host system calls and most
//! calls need little.

const std = @import("std");
const Alignment = std.mem.Alignment;

const page = 64 * 1024;
/// Memory is grown by at least this much, to grow it seldom.
const step = 4 * page;

var first: [48 * 1024]u8 align(16) = undefined;
// Addresses; zero until the first use.
var top: usize = 0;
var end: usize = 0;

pub const allocator: std.mem.Allocator = .{ .ptr = undefined, .vtable = &.{
    .alloc = alloc,
    .resize = resize,
    .remap = remap,
    .free = free,
} };

fn alloc(_: *anyopaque, length: usize, alignment: Alignment, _: usize) ?[*]u8 {
    if (end == 0) {
        top = @intFromPtr(&first);
        end = top + first.len;
    }
    const start = alignment.forward(top);
    const stop = std.math.add(usize, start, length) catch return null;
    if (stop > end and !grow(stop - end)) return null;
    // `grow` may have moved on to memory elsewhere.
    const place = alignment.forward(top);
    top = place + length;
    return @ptrFromInt(place);
}

/// Makes `missing` more bytes available at the end, or a block with room for all of `first` and
/// `missing` elsewhere.
fn grow(missing: usize) bool {
    const size: usize = @wasmMemorySize(0) * page;
    // Static memory ends before the linear memory does, and somebody else may have grown it.
    const contiguous = end == size;
    const wanted = if (contiguous) missing else missing + (end - top) + 16;
    const bytes = std.mem.alignForward(usize, @max(wanted, step), page);
    // Under a tight memory limit what is needed may fit where a whole step does not.
    if (@wasmMemoryGrow(0, bytes / page) < 0 and
        @wasmMemoryGrow(0, std.mem.alignForward(usize, wanted, page) / page) < 0) return false;
    if (!contiguous) top = size;
    end = @wasmMemorySize(0) * page;
    return true;
}

fn resize(_: *anyopaque, memory: []u8, _: Alignment, length: usize, _: usize) bool {
    if (length <= memory.len) return true;
    const start = @intFromPtr(memory.ptr);
    if (start + memory.len != top) return false;
    const stop = std.math.add(usize, start, length) catch return false;
    // Not beyond static memory: what lies behind it belongs to others.
    if (stop > end and (end != @wasmMemorySize(0) * page or !grow(stop - end))) return false;
    top = stop;
    return true;
}

fn remap(context: *anyopaque, memory: []u8, alignment: Alignment, length: usize, address: usize) ?[*]u8 {
    return if (resize(context, memory, alignment, length, address)) memory.ptr else null;
}

fn free(_: *anyopaque, memory: []u8, _: Alignment, _: usize) void {
    if (@intFromPtr(memory.ptr) + memory.len == top) top = @intFromPtr(memory.ptr);
}
