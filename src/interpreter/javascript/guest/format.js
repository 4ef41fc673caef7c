// Values as `console.log` writes them: `util.format`.
casemate$part(($) => {
  "use strict";
  const { inspect, slice, includes, numberText } = $;

  /** Values as one line the way `console.log` writes them, with %s, %d, %i, %f, %j, %o, %O and %c. */
  const formatAll = (values) => {
    let text = "";
    let at = 0;
    if (typeof values[0] === "string") {
      const first = values[0];
      if (values.length === 1) return first;
      at = 1;
      let from = 0;
      for (let i = 0; i < first.length - 1; i++) {
        if (first[i] !== "%") continue;
        const kind = first[i + 1];
        if (kind === "%") {
          text += slice(first, from, i) + "%";
          from = i + 2;
          i++;
          continue;
        }
        if (at >= values.length || !includes("sdifjoOc", kind)) continue;
        const value = values[at++];
        text += slice(first, from, i) + directive(kind, value);
        from = i + 2;
        i++;
      }
      text += slice(first, from);
    }
    for (; at < values.length; at++) {
      const value = values[at];
      text += (at > 0 ? " " : "") + (typeof value === "string" ? value : typeof value === "number" ? numberText(value) : inspect(value));
    }
    return text;
  };

  const directive = (kind, value) => {
    switch (kind) {
      case "s":
        if (typeof value === "object" && value !== null) return hasUserToString(value) ? `${value}` : inspect(value, { depth: 0 });
        return typeof value === "bigint" ? `${value}n` : typeof value === "symbol" ? $.symbolToString(value) :
          typeof value === "number" ? numberText(value) : `${value}`;
      case "d": return typeof value === "bigint" ? `${value}n` : typeof value === "symbol" ? "NaN" : typeof value === "object" ? "NaN" : numberText(Number(value));
      case "i": return typeof value === "bigint" ? `${value}n` : typeof value === "object" || typeof value === "symbol" ? "NaN" : numberText(parseInt(value));
      case "f": return typeof value === "symbol" ? "NaN" : numberText(parseFloat(value));
      case "j":
        try {
          return `${$.stringify(value)}`;
        } catch (problem) {
          if (includes(`${problem?.message}`, "circular")) return "[Circular]";
          throw problem;
        }
      case "o": return inspect(value, { showHidden: true, depth: 4 });
      case "O": return inspect(value);
      default: return "";
    }
  };
  const hasUserToString = (value) => {
    const method = value.toString;
    return typeof method === "function" && !includes($.functionToString(method), "[native code]");
  };

  $.format = formatAll;
});
