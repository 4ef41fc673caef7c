// Errors as people see them: `stack` with its first line, without the frames of these scripts, and the report of
// the error that ended a turn.
casemate$part(($) => {
  "use strict";
  const { split, startsWith, slice, join, indexOf, includes, exec, uncurry } = $;
  const native = $.getOwn(Error.prototype, "stack");
  const rawStack = uncurry(native.get);
  $.rawStack = rawStack;
  const MAX_TRACEBACK = 64 << 10, MAX_MESSAGE = 16 << 10, MAX_LINE = 1000, MAX_FRAMES = 64;

  const isFrame = (line) => startsWith(line, "    at ");
  const isOurs = (line) => includes(line, "<casemate ") || includes(line, "<input>");

  /** Frames without ours and without what only they called. */
  const users = (stack) => {
    const kept = [];
    for (const line of split(`${stack}`, "\n")) {
      if (line === "") continue;
      if (isOurs(line)) {
        // What these scripts called by way of the engine is theirs too.
        while (kept.length > 0 && $.endsWith(kept[kept.length - 1], " (native)")) kept.length--;
        continue;
      }
      kept[kept.length] = startsWith(line, "    at <eval> (") ? `    at ${slice(line, 15, -1)}` : line;
    }
    return join(kept, "\n");
  };
  $.userStack = users;

  const text = (value) => {
    try {
      return `${value}`;
    } catch {
      return "<cannot be shown>";
    }
  };

  /** `Name: message`, as the first line of a stack. */
  const headline = (error) => {
    let name = error.name, message = error.message;
    name = name === undefined ? "Error" : text(name);
    message = message === undefined ? "" : text(message);
    // A class without a name of its own goes by that of the class.
    if (name === "Error") {
      const own = error.constructor?.name;
      if (typeof own === "string" && own !== "" && own !== "Object" && error instanceof Error) name = own;
    }
    return message === "" ? name : name === "" ? message : `${name}: ${message}`;
  };

  /** The stack with its first line; `[Name: message]` where there are no frames. */
  $.errorText = (error) => {
    let stack;
    try {
      const own = $.getOwn(error, "stack");
      stack = own === undefined ? rawStack(error) : own.value;
    } catch {}
    if (typeof stack !== "string") stack = "";
    const frames = users(stack);
    if (frames !== "" && !isFrame(frames)) return frames;
    return frames === "" ? `[${headline(error)}]` : `${headline(error)}\n${frames}`;
  };

  $.defineProperty(Error.prototype, "stack", {
    configurable: true, enumerable: false, set: native.set,
    get() {
      const stack = rawStack(this);
      if (typeof stack !== "string") return stack;
      const frames = users(stack);
      return frames !== "" && !isFrame(frames) ? stack : `${headline(this)}${frames && `\n${frames}`}`;
    },
  });

  // -- sources, for the lines that frames point at --------------------------------------------------------------

  const KEPT = 16, MAX_KEPT = 256 << 10;
  const sources = new $.Map();
  let order = [];
  /** Keeps the code of a turn for a while. */
  $.keepSource = (name, bytes) => {
    if (bytes.length > MAX_KEPT) return;
    if (!$.mapHas(sources, name)) order[order.length] = name;
    $.mapSet(sources, name, bytes);
    if (order.length > KEPT) {
      $.mapDelete(sources, order[0]);
      order = $.arraySlice(order, 1);
    }
  };
  $.forgetSources = () => {
    $.mapClear(sources);
    order = [];
  };
  const sourceLine = (file, number) => {
    try {
      let source = $.mapGet(sources, file) ?? $.sourceOfTurn(file);
      if (source === undefined) {
        if (file[0] === "<") return "";
        source = $.readBytes(file);
      }
      return slice($.replace(split($.decode(source), "\n")[number - 1] ?? "", /\r$/, ""), 0, MAX_LINE);
    } catch {
      return "";
    }
  };

  const isUsers = (file) => file === "<code>" || startsWith(file, "<turn ") || startsWith(file, "/work/") || startsWith(file, "/tmp/");
  const FRAME = /^ {4}at (?:(.*) \()?([^()]*?):(\d+)(?::(\d+))?\)?$/;
  const frames = (stack) => {
    const found = [];
    for (const line of split(`${stack}`, "\n")) {
      if (isOurs(line)) continue;
      const parts = exec(FRAME, line);
      if (parts === null) continue;
      let file = parts[2];
      if ($.isBuiltin?.(file)) continue;
      // The loader names modules as they were asked for, from the working directory.
      if (file[0] !== "<" && file[0] !== "/") file = `/work/${file}`;
      if (!isUsers(file)) continue;
      const at = +parts[3];
      found[found.length] = {
        file, line: at, column: +(parts[4] ?? 0),
        function: parts[1] === undefined || parts[1] === "<eval>" || parts[1] === "<module>" ? "" : $.replace(parts[1], /^async /, ""),
        source: sourceLine(file, at),
      };
      if (found.length === MAX_FRAMES) break;
    }
    // The engine begins with the innermost.
    const outermostFirst = [];
    for (let i = found.length - 1; i >= 0; i--) outermostFirst[outermostFirst.length] = found[i];
    return outermostFirst;
  };

  const cut = (long, max) => long.length <= max ? long : `${slice(long, 0, max)}... (cut)`;

  /** Tells standard error and the host what ended the turn. */
  $.report = (problem) => {
    let type, message, stack = "", traceback;
    if ($.isError(problem)) {
      const line = headline(problem);
      const colon = indexOf(line, ": ");
      message = text(problem.message ?? "");
      type = message !== "" && colon > 0 ? slice(line, 0, line.length - message.length - 2) : line;
      stack = rawStack(problem);
      const explained = $.explain?.(message);
      if (explained !== undefined) message = explained;
      traceback = $.inspect(problem, { depth: 4 });
      if (explained !== undefined) traceback = `${type}: ${message}${users(stack) && `\n${users(stack)}`}`;
      const found = frames(stack);
      const at = found[found.length - 1];
      if (at !== undefined && at.source !== "") {
        const caret = at.column > 0 && at.column <= 200 ? `\n${$.replace(slice(at.source, 0, at.column - 1), /[^\t]/g, " ")}^` : "";
        traceback = `${at.file}:${at.line}\n${at.source}${caret}\n\n${traceback}`;
      }
      traceback = `${cut(traceback, MAX_TRACEBACK)}\n`;
    } else {
      type = problem === null ? "null" : typeof problem === "object" || typeof problem === "function"
        ? problem.constructor?.name ?? "Object" : typeof problem;
      message = $.inspect(problem);
      traceback = `Uncaught ${message}\n`;
    }
    try {
      $.write($.std.err, traceback);
    } catch {}
    $.ask({ m: "exception", type: cut(`${type}`, 512), message: cut(message, MAX_MESSAGE), frames: frames(stack) },
      $.encode(traceback));
  };
});
