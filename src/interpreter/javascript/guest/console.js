// `console`: what is information goes to standard output, what is trouble to standard error.
casemate$part(($) => {
  "use strict";
  const { std, format, inspect, repeat, replaceAll, isArray } = $;
  const { out, err } = std;
  const puts = $.uncurry(out.puts), flush = $.uncurry(out.flush);
  let indent = "";
  let counts = $.create(null), timers = $.create(null);

  /** Writes text at once, unless the run is over: after `process.exit()` nothing more is said. */
  $.write = (stream, text) => {
    if ($.exiting !== undefined) return;
    puts(stream, text);
    flush(stream);
  };
  const line = (stream, values) => {
    let text = format(values);
    if (indent !== "") text = indent + replaceAll(text, "\n", `\n${indent}`);
    $.write(stream, `${text}\n`);
  };

  $.resetConsole = () => {
    indent = "";
  };

  const width = (text) => {
    let columns = 0;
    for (const character of text) {
      const code = character.codePointAt(0);
      // East Asian wide characters and most emoji take two columns.
      columns += (code >= 0x1100 && code <= 0x115f) || (code >= 0x2e80 && code <= 0xa4cf) || (code >= 0xac00 && code <= 0xd7a3) ||
        (code >= 0xf900 && code <= 0xfaff) || (code >= 0xfe30 && code <= 0xfe6f) || (code >= 0xff00 && code <= 0xff60) ||
        (code >= 0x1f300 && code <= 0x1faff) ? 2 : 1;
    }
    return columns;
  };
  const cell = (value) => inspect(value, { depth: typeof value === "object" && value !== null ? 0 : 2, maxArrayLength: 3, breakLength: Infinity });
  const table = (data, only) => {
    if (typeof data !== "object" || data === null) return line(out, [data]);
    const isMap = data instanceof Map, isSet = data instanceof Set;
    const rows = isMap ? [...data].map(([key, value], index) => [`${index}`, value, key])
      : isSet ? [...data].map((value, index) => [`${index}`, value])
      : $.keys(data).map((key) => [key, data[key]]);
    const columns = [];
    let hasValues = false;
    for (const [, row] of rows) {
      if (typeof row === "object" && row !== null && !isMap) {
        for (const key of $.keys(row)) if (!columns.includes(key)) columns.push(key);
      } else hasValues = true;
    }
    const shown = isArray(only) ? only.map((name) => `${name}`) : columns;
    const head = [isMap || isSet ? "(iteration index)" : "(index)", ...(isMap ? ["Key"] : []), ...shown, ...(hasValues ? ["Values"] : [])];
    const body = rows.map(([index, row, key]) => {
      const isRow = typeof row === "object" && row !== null && !isMap;
      return [index, ...(isMap ? [cell(key)] : []),
        ...shown.map((name) => isRow && $.hasOwn(row, name) ? cell(row[name]) : ""), ...(hasValues ? [isRow ? "" : cell(row)] : [])];
    });
    const widths = head.map((name, column) => $.max(width(name), ...body.map((row) => width(row[column]))) + 2);
    const row = (cells) => `│${cells.map((text, column) => ` ${text}${repeat(" ", widths[column] - 1 - width(text))}`).join("│")}│`;
    const rule = (left, middle, right) => left + widths.map((room) => repeat("─", room)).join(middle) + right;
    line(out, [[rule("┌", "┬", "┐"), row(head), rule("├", "┼", "┤"), ...body.map(row), rule("└", "┴", "┘")].join("\n")]);
  };

  const elapsed = (since) => {
    const ms = $.now() - since;
    return ms >= 1000 ? `${$.toFixed(ms / 1000, 3)}s` : `${$.toFixed(ms, 3).replace(/\.?0+$/, "")}ms`;
  };

  const console = {
    log(...values) { line(out, values); },
    info(...values) { line(out, values); },
    debug(...values) { line(out, values); },
    warn(...values) { line(err, values); },
    error(...values) { line(err, values); },
    trace(...values) {
      const text = values.length ? `Trace: ${format(values)}` : "Trace";
      const { stack } = new $.Error();
      line(err, [`${text}\n${$.userStack(stack)}`]);
    },
    assert(condition, ...values) {
      if (condition) return;
      if (typeof values[0] === "string") values[0] = `Assertion failed: ${values[0]}`;
      else values = ["Assertion failed", ...values];
      line(err, values);
    },
    dir(value, options) { line(out, [inspect(value, { customInspect: false, ...options })]); },
    dirxml(...values) { line(out, values); },
    table,
    count(label = "default") {
      label = `${label}`;
      counts[label] = (counts[label] ?? 0) + 1;
      line(out, [`${label}: ${counts[label]}`]);
    },
    countReset(label = "default") { delete counts[`${label}`]; },
    group(...values) {
      if (values.length) line(out, values);
      indent += "  ";
    },
    groupCollapsed(...values) { console.group(...values); },
    groupEnd() { indent = $.slice(indent, 2); },
    time(label = "default") { timers[`${label}`] = $.now(); },
    timeLog(label = "default", ...values) {
      if (timers[`${label}`] === undefined) return line(err, [`Warning: No such label '${label}' for console.timeLog()`]);
      line(out, [`${label}: ${elapsed(timers[`${label}`])}`, ...values]);
    },
    timeEnd(label = "default") {
      if (timers[`${label}`] === undefined) return line(err, [`Warning: No such label '${label}' for console.timeEnd()`]);
      line(out, [`${label}: ${elapsed(timers[`${label}`])}`]);
      delete timers[`${label}`];
    },
    clear() {},
  };
  $.defineProperty(console, Symbol.toStringTag, { value: "console", configurable: true });
  $.console = console;
  $.globals({ console });
});
