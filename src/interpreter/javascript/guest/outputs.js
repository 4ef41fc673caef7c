// Rich outputs, the value of a turn, and what a run may ask of the host: other tools.
casemate$part(($) => {
  "use strict";
  const { encode, inspect, keys, isArray, stringify } = $;
  const MAX_TEXT = 256 << 10, MAX_JSON = 100_000;

  const sendRich = (kind, forms) => {
    let size = 0;
    for (const [, content] of forms) size += content.length;
    const body = new Uint8Array(size);
    const listed = [];
    let at = 0;
    for (const [mime, content] of forms) {
      listed[listed.length] = { mime, size: content.length };
      $.setBytes(body, content, at);
      at += content.length;
    }
    const [answer] = $.ask({ m: "rich", kind, forms: listed }, body);
    if (answer.error !== undefined) throw new $.Error(`the output was not taken: ${answer.error}`);
  };

  const textOf = (value) => {
    let text;
    try {
      text = inspect(value);
    } catch (problem) {
      text = `<a value that cannot be shown: ${problem?.message}>`;
    }
    return text.length <= MAX_TEXT ? text : `${$.slice(text, 0, MAX_TEXT)}... (${text.length} characters)`;
  };

  // Only what comes back from JSON as it was: no undefined, no NaN, no instances of classes, no cycles.
  const plain = (value, left, depth) => {
    if (--left.count < 0 || depth > 64) return false;
    switch (typeof value) {
      case "string": case "boolean": return true;
      case "number": return value - value === 0;
      case "object": break;
      default: return false;
    }
    if (value === null) return true;
    if (isArray(value)) {
      for (let i = 0; i < value.length; i++) if (!plain(value[i], left, depth + 1)) return false;
      return true;
    }
    const prototype = $.getPrototypeOf(value);
    if (prototype !== $.Object.prototype && prototype !== null) return false;
    if (typeof value.toJSON === "function") return false;
    for (const key of keys(value)) if (!plain(value[key], left, depth + 1)) return false;
    return true;
  };
  const jsonOf = (value) => {
    try {
      return plain(value, { count: MAX_JSON }, 0) ? stringify(value) : undefined;
    } catch {
      return undefined;
    }
  };
  const formsOf = (value) => {
    const forms = [];
    const json = jsonOf(value);
    if (json !== undefined) forms[0] = ["application/json", encode(json)];
    forms[forms.length] = ["text/plain", encode(textOf(value))];
    return forms;
  };
  /** The value of the turn's last expression. */
  $.sendValue = (value) => sendRich("value", formsOf(value));

  const MIMES = {
    __proto__: null, html: "text/html", svg: "image/svg+xml", png: "image/png", jpeg: "image/jpeg", markdown: "text/markdown", latex: "text/latex",
    json: "application/json", text: "text/plain",
  };
  /**
   * Shows a value as a rich output: `display(value)`, or in the forms given: `display({html: "<b>x</b>", text: "x"})`,
   * `display(value, {png: bytes})`. Images are bytes or Base64.
   */
  const display = (...values) => {
    const last = values[values.length - 1];
    const isForms = typeof last === "object" && last !== null && !isArray(last) && keys(last).length > 0 &&
      keys(last).every((name) => MIMES[name] !== undefined) && (values.length > 1 || keys(last).some((name) => name !== "text" && name !== "json"));
    if (!isForms) {
      for (const value of values) sendRich("display", formsOf(value));
      return;
    }
    const forms = [];
    for (const name of keys(last)) {
      const content = last[name];
      let bytes;
      if (name === "json") bytes = encode(stringify(content));
      else if (typeof content === "string") bytes = name === "png" || name === "jpeg" ? $.unbase64($.replace(content, /^data:[^,]*,/, "")) : encode(content);
      else bytes = $.asBytes(content, `display(): ${name}`);
      forms[forms.length] = [MIMES[name], bytes];
    }
    if (values.length > 1 && last.text === undefined) forms[forms.length] = ["text/plain", encode(textOf(values[0]))];
    sendRich("display", forms);
  };

  // -- tools ------------------------------------------------------------------------------------------------------

  const listTools = () => $.ask({ m: "tools" })[0].tools;
  const typeText = (schema) => {
    if (schema?.enum) return $.join(schema.enum.map((one) => stringify(one)), " | ");
    const type = isArray(schema?.type) ? schema.type.join(" | ") : schema?.type;
    return type === "array" ? `${typeText(schema.items)}[]` : type === "integer" ? "number" : type ?? "any";
  };
  const signature = (tool) => {
    const schema = tool.input_schema ?? {};
    const required = schema.required ?? [];
    const lines = keys(schema.properties ?? {}).map((name) => {
      const one = schema.properties[name];
      return `    ${name}${required.includes(name) ? "" : "?"}: ${typeText(one)}${one?.description ? `  // ${one.description}` : ""}`;
    });
    return `await tools.${tool.name}({${lines.length ? `\n${lines.join("\n")}\n` : ""}})\n    ${tool.description ?? ""}`;
  };
  class ToolError extends Error {
    constructor(tool, answer) {
      super(`${tool}: ${answer.error}`);
      this.name = "ToolError";
      this.tool = tool;
      this.reason = answer.reason;
    }
  }
  const call = async (name, parameters = {}) => {
    if (typeof parameters !== "object" || parameters === null) throw new $.TypeError(`tools.${name}() takes one object with the parameters`);
    const [answer, body] = $.ask({ m: "tool", name }, encode(stringify(parameters)));
    if (answer.error !== undefined) throw new ToolError(name, answer);
    const text = $.decode(body);
    return answer.json ? $.parse(text) : text;
  };
  const help = (name) => {
    const known = listTools();
    const shown = name === undefined ? known : known.filter((tool) => tool.name === name);
    const text = shown.length ? shown.map(signature).join("\n\n") : name === undefined ? "no tools can be called from here" :
      `there is no tool ${stringify(name)}; there are: ${known.map((tool) => tool.name).join(", ") || "none"}`;
    $.console.log(text);
  };
  const tools = new Proxy($.create(null), {
    get(_, name) {
      if (typeof name === "symbol" || name === "then" || name === "toJSON") return undefined;
      if (name === "help") return help;
      if (name === "list") return listTools;
      if (name === "call") return call;
      return (parameters) => call(name, parameters);
    },
    has: (_, name) => typeof name === "string" && listTools().some((tool) => tool.name === name),
    ownKeys: () => listTools().map((tool) => tool.name),
    getOwnPropertyDescriptor: (_, name) => ({ value: (parameters) => call(name, parameters), enumerable: true, configurable: true }),
    set() { throw new $.TypeError("tools are registered with the server, not set here"); },
  });

  const told = (message, body) => {
    const [answer] = $.ask(message, body);
    if (answer.error !== undefined) throw new $.Error(answer.error);
  };
  $.casemate = {
    tools, display, ToolError,
    log: (message, level = "info") => told({ m: "log", level }, encode(typeof message === "string" ? message : inspect(message))),
    progress: (current, total = 0, message = "") => told({ m: "progress", current, total, message }),
  };
  $.globals({ display, tools });
});
