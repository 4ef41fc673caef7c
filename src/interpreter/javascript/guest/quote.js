// Texts and other primitive values as they stand in code.
casemate$part(($) => {
  "use strict";
  const { slice, includes, padStart, repeat } = $;
  const ESCAPE = /[\x00-\x1f\x7f-\x9f\\']|[\ud800-\udfff]/g;
  const NAMES = { __proto__: null, "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", "\\": "\\\\" };

  const escaped = (text, quote) => $.replace(text, ESCAPE, (one, at) => {
    if (one === "'") return quote === "'" ? "\\'" : one;
    const code = $.charCodeAt(one, 0);
    if (code >= 0xd800) {
      // A pair is a character; a half alone is not.
      const next = $.charCodeAt(text, at + 1), before = $.charCodeAt(text, at - 1);
      if (code < 0xdc00 ? (next & 0xfc00) === 0xdc00 : (before & 0xfc00) === 0xd800) return one;
      return `\\u${$.numberToString(code, 16)}`;
    }
    return NAMES[one] ?? `\\x${padStart($.numberToString(code, 16).toUpperCase(), 2, "0")}`;
  });

  const quoted = (text) => {
    const quote = !includes(text, "'") ? "'" : !includes(text, '"') ? '"' :
      !includes(text, "`") && !includes(text, "${") ? "`" : "'";
    return quote + escaped(text, quote) + quote;
  };

  const numberText = (value) => Object.is(value, -0) ? "-0" : `${value}`;

  const stringText = (how, value) => {
    let rest = "";
    if (value.length > how.maxStringLength) {
      const more = value.length - how.maxStringLength;
      value = slice(value, 0, how.maxStringLength);
      rest = `... ${more} more character${more > 1 ? "s" : ""}`;
    }
    // Long texts of several lines are easier to read as lines.
    if (how.compact !== true && value.length > 16 && value.length > how.breakLength - how.indent - 4 && includes(value, "\n")) {
      const lines = $.split(value, /(?<=\n)/);
      let text = "";
      for (let i = 0; i < lines.length; i++) text += (i ? ` +\n${repeat(" ", how.indent + 2)}` : "") + quoted(lines[i]);
      return text + rest;
    }
    return quoted(value) + rest;
  };

  const primitive = (how, value) => {
    switch (typeof value) {
      case "string": return stringText(how, value);
      case "number": return numberText(value);
      case "bigint": return `${value}n`;
      case "symbol": return $.symbolToString(value);
      default: return `${value}`;
    }
  };

  $.quoted = quoted;
  $.numberText = numberText;
  $.primitive = primitive;
});
