//! text_stats: counts what a text consists of, and its most frequent words.

const std = @import("std");
const stdio = @import("stdio");
const json = @import("json");
const Parameters = @import("parameters").Parameters;
const letters = @import("letters.zig");

pub const panic = std.debug.no_panic;

const Counts = struct {
    characters: usize = 0,
    spaces: usize = 0,
    words: usize = 0,
    lines: usize = 0,
    sentences: usize = 0,
};

const WordCount = struct {
    word: []const u8,
    count: usize,

    /// Most frequent first; equal counts in byte order, so that the same text always gives the
    /// same answer.
    fn before(_: void, a: WordCount, b: WordCount) bool {
        if (a.count != b.count) return a.count > b.count;
        return std.mem.order(u8, a.word, b.word) == .lt;
    }
};

pub export fn _start() void {
    const given = Parameters.read();
    given.only(&.{ "text", "top", "case_sensitive" });
    const text = given.requiredString("text");
    const top = given.integer("top", 10, 0, 1000);
    const case_sensitive = given.boolean("case_sensitive", false);

    var tally = std.StringArrayHashMap(usize).init(stdio.allocator);
    const counts = count(text, &tally, case_sensitive) catch stdio.outOfMemory();
    var ranking = stdio.allocator.alloc(WordCount, tally.count()) catch stdio.outOfMemory();
    for (tally.keys(), tally.values(), ranking) |word, occurrences, *entry| {
        entry.* = .{ .word = word, .count = occurrences };
    }
    // Heap sort: no recursion and no bad case, so a text made to be slow stays fast.
    std.sort.heap(WordCount, ranking, {}, WordCount.before);

    var result: json.Writer = .{};
    result.raw("{\"bytes\":");
    result.number(text.len);
    result.raw(",\"characters\":");
    result.number(counts.characters);
    result.raw(",\"characters_without_spaces\":");
    result.number(counts.characters - counts.spaces);
    result.raw(",\"words\":");
    result.number(counts.words);
    result.raw(",\"unique_words\":");
    result.number(ranking.len);
    result.raw(",\"lines\":");
    result.number(counts.lines);
    result.raw(",\"sentences\":");
    result.number(counts.sentences);
    result.raw(",\"top_words\":[");
    for (ranking[0..@min(top, ranking.len)], 0..) |entry, i| {
        if (i > 0) result.raw(",");
        result.raw("{\"word\":");
        result.string(entry.word);
        result.raw(",\"count\":");
        result.number(entry.count);
        result.raw("}");
    }
    result.raw("]}");
    result.print();
}

/// One pass over the text. The JSON parser has checked that it is UTF-8.
fn count(text: []const u8, tally: *std.StringArrayHashMap(usize), case_sensitive: bool) !Counts {
    var counts: Counts = .{};
    var word_start: ?usize = null;
    // A sentence is counted where it ends; `open` says that a word came since the last one.
    var open = false;
    var at: usize = 0;
    while (at < text.len) {
        const here = letters.decode(text, at);
        const after = at + here.length;
        counts.characters += 1;

        const class = letters.classify(here.point);
        const in_word = class == .letter or
            (word_start != null and after < text.len and joins(text, at, after, here.point, class));
        if (in_word) {
            word_start = word_start orelse at;
        } else if (word_start) |start| {
            try add(text[start..at], tally, &counts, case_sensitive);
            word_start = null;
        }
        // Ideographs stand for a word each: where words end would take a dictionary to say.
        if (class == .ideograph) try add(text[at..after], tally, &counts, case_sensitive);
        if (in_word or class == .ideograph) open = true;

        if (class == .space) counts.spaces += 1;
        if (here.point == '\n' or (here.point == '\r' and (after == text.len or text[after] != '\n'))) counts.lines += 1;
        if (open and endsSentence(text, here.point, after)) {
            counts.sentences += 1;
            open = false;
        }
        at = after;
    }
    if (word_start) |start| try add(text[start..], tally, &counts, case_sensitive);
    if (open) counts.sentences += 1;
    // The last line need not end with a line break.
    if (text.len > 0 and text[text.len - 1] != '\n' and text[text.len - 1] != '\r') counts.lines += 1;
    return counts;
}

/// Whether a character inside a word keeps it together: "don't", "well-known", "3.14", "1,000".
fn joins(text: []const u8, at: usize, after: usize, point: u21, class: letters.Class) bool {
    if (point == '.' or point == ',') return std.ascii.isDigit(text[at - 1]) and std.ascii.isDigit(text[after]);
    return class == .joiner and letters.classify(letters.decode(text, after).point) == .letter;
}

fn add(word: []const u8, tally: *std.StringArrayHashMap(usize), counts: *Counts, case_sensitive: bool) !void {
    counts.words += 1;
    // Only a word that is new needs a copy of its own.
    const lower = if (case_sensitive) word else letters.lower(word, try scratch(word.len));
    const entry = try tally.getOrPut(lower);
    if (!entry.found_existing) {
        entry.key_ptr.* = if (case_sensitive) word else try stdio.allocator.dupe(u8, lower);
        entry.value_ptr.* = 0;
    }
    entry.value_ptr.* += 1;
}

var scratch_buffer: []u8 = &.{};

fn scratch(length: usize) ![]u8 {
    if (scratch_buffer.len < length) scratch_buffer = try stdio.allocator.alloc(u8, @max(length * 2, 256));
    return scratch_buffer[0..length];
}

/// A full stop ends a sentence only before white space or the end ("3.14" does not), closing
/// quotes and brackets in between; the full stops of Chinese and Japanese always do.
fn endsSentence(text: []const u8, point: u21, after: usize) bool {
    switch (point) {
        0x3002, 0xff01, 0xff1f => return true,
        '.', '!', '?', 0x2026, 0x203d => {},
        else => return false,
    }
    var at = after;
    while (at < text.len) {
        const here = letters.decode(text, at);
        switch (here.point) {
            '"', '\'', ')', ']', '}', 0x2019, 0x201d, 0xbb => at += here.length,
            else => return letters.classify(here.point) == .space,
        }
    }
    return true;
}
