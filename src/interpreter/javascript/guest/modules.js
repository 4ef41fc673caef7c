// Modules: those that exist without a file, `require`, and imports in code that keeps its variables.
casemate$part(($) => {
  "use strict";
  const { fs, path, process, web, keys, stringify, startsWith, slice, exec } = $;

  // -- small modules of Node's that programs take for granted -------------------------------------------------------

  class EventEmitter {
    #listeners = new $.Map();
    static defaultMaxListeners = 10;
    #add(name, callback, once, first) {
      const list = this.#listeners.get(name) ?? [];
      list[first ? "unshift" : "push"]({ callback, once });
      this.#listeners.set(name, list);
      return this;
    }
    on(name, callback) { return this.#add(name, callback, false, false); }
    addListener(name, callback) { return this.on(name, callback); }
    prependListener(name, callback) { return this.#add(name, callback, false, true); }
    once(name, callback) { return this.#add(name, callback, true, false); }
    off(name, callback) {
      const list = this.#listeners.get(name) ?? [];
      const at = list.findLastIndex((one) => one.callback === callback);
      if (at >= 0) this.#listeners.set(name, list.toSpliced(at, 1));
      return this;
    }
    removeListener(name, callback) { return this.off(name, callback); }
    removeAllListeners(name) { name === undefined ? this.#listeners.clear() : this.#listeners.delete(name); return this; }
    emit(name, ...values) {
      const list = this.#listeners.get(name) ?? [];
      if (list.length === 0) {
        if (name === "error") throw values[0] ?? new $.Error("Unhandled error.");
        return false;
      }
      for (const one of [...list]) {
        if (one.once) this.off(name, one.callback);
        one.callback.apply(this, values);
      }
      return true;
    }
    listenerCount(name) { return this.#listeners.get(name)?.length ?? 0; }
    listeners(name) { return (this.#listeners.get(name) ?? []).map((one) => one.callback); }
    eventNames() { return [...this.#listeners].filter(([, list]) => list.length).map(([name]) => name); }
    setMaxListeners() { return this; }
    static once(emitter, name) {
      return new Promise((resolve, reject) => {
        emitter.once(name, (...values) => resolve(values));
        if (name !== "error") emitter.once("error", reject);
      });
    }
  }
  EventEmitter.EventEmitter = EventEmitter;

  const equal = (a, b, strict, seen = []) => {
    if (strict ? Object.is(a, b) : a == b || (a !== a && b !== b)) return true;
    if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
    if (strict && $.getPrototypeOf(a) !== $.getPrototypeOf(b)) return false;
    if (seen.some(([x, y]) => x === a && y === b)) return true;
    seen = [...seen, [a, b]];
    if ($.isArray(a) !== $.isArray(b)) return false;
    if (a instanceof Date) return b instanceof Date && +a === +b;
    if (a instanceof RegExp) return `${a}` === `${b}`;
    if ($.isError(a) && (a.message !== b.message || a.name !== b.name)) return false;
    if (a instanceof Map) {
      if (!(b instanceof Map) || a.size !== b.size) return false;
      for (const [key, value] of a) if (!b.has(key) || !equal(value, b.get(key), strict, seen)) return false;
      return true;
    }
    if (a instanceof Set) {
      if (!(b instanceof Set) || a.size !== b.size) return false;
      for (const value of a) if (!b.has(value) && ![...b].some((other) => equal(value, other, strict, seen))) return false;
      return true;
    }
    const names = keys(a);
    return names.length === keys(b).length && names.every((name) => $.hasOwn(b, name) && equal(a[name], b[name], strict, seen));
  };

  class AssertionError extends Error {
    constructor({ message, actual, expected, operator }) {
      super(message ?? `${$.inspect(actual)} ${operator} ${$.inspect(expected)}`);
      Object.assign(this, { code: "ERR_ASSERTION", actual, expected, operator, generatedMessage: message === undefined });
    }
    get name() { return "AssertionError"; }
  }
  const claim = (holds, actual, expected, operator, message, text) => {
    if (holds) return;
    if ($.isError(message)) throw message;
    throw new AssertionError({ message: message ?? text, actual, expected, operator });
  };
  const show = (text, actual, expected) => `${text}\n\n${$.inspect(actual)} should be\n${$.inspect(expected)}\n`;
  const fits = (problem, expected) => expected === undefined || (expected instanceof RegExp ? expected.test(`${problem}`)
    : typeof expected === "function" ? (expected.prototype !== undefined && problem instanceof expected) || (!(expected.prototype instanceof Error) && expected !== Error && expected(problem) === true)
    : keys(expected).every((name) => expected[name] instanceof RegExp ? expected[name].test(problem[name]) : equal(problem[name], expected[name], true)));
  const assert = (value, message) => claim(value, value, true, "==", message, "The expression evaluated to a falsy value");
  Object.assign(assert, {
    ok: assert, AssertionError,
    equal: (a, b, m) => claim(a == b || (a !== a && b !== b), a, b, "==", m),
    notEqual: (a, b, m) => claim(a != b, a, b, "!=", m),
    strictEqual: (a, b, m) => claim(Object.is(a, b), a, b, "strictEqual", m, show("Expected values to be strictly equal:", a, b)),
    notStrictEqual: (a, b, m) => claim(!Object.is(a, b), a, b, "notStrictEqual", m),
    deepEqual: (a, b, m) => claim(equal(a, b, false), a, b, "deepEqual", m, show("Expected values to be loosely deep-equal:", a, b)),
    deepStrictEqual: (a, b, m) => claim(equal(a, b, true), a, b, "deepStrictEqual", m, show("Expected values to be strictly deep-equal:", a, b)),
    notDeepStrictEqual: (a, b, m) => claim(!equal(a, b, true), a, b, "notDeepStrictEqual", m),
    match: (text, pattern, m) => claim(pattern.test(text), text, pattern, "match", m),
    fail: (m = "Failed") => claim(false, undefined, undefined, "fail", m),
    throws(run, expected, message) {
      let problem;
      try {
        run();
      } catch (thrown) {
        problem = { thrown };
      }
      claim(problem !== undefined, undefined, expected, "throws", message, "Missing expected exception.");
      if (!fits(problem.thrown, expected)) throw problem.thrown;
    },
    doesNotThrow: (run) => { run(); },
    async rejects(run, expected, message) {
      let problem;
      try {
        await (typeof run === "function" ? run() : run);
      } catch (thrown) {
        problem = { thrown };
      }
      claim(problem !== undefined, undefined, expected, "rejects", message, "Missing expected rejection.");
      if (!fits(problem.thrown, expected)) throw problem.thrown;
    },
  });
  assert.strict = assert;

  const promisify = (callee) => (...values) => new Promise((resolve, reject) => {
    callee(...values, (problem, value) => problem ? reject(problem) : resolve(value));
  });
  const util = {
    inspect: $.inspect, format: (...values) => $.format(values), promisify,
    callbackify: (callee) => (...values) => { const callback = values.pop(); callee(...values).then((value) => callback(null, value), callback); },
    isDeepStrictEqual: (a, b) => equal(a, b, true),
    inherits(type, parent) { Object.setPrototypeOf(type.prototype, parent.prototype); },
    deprecate: (callee) => callee,
    types: { isPromise: $.isPromise, isDate: (value) => value instanceof Date, isRegExp: (value) => value instanceof RegExp,
      isMap: (value) => value instanceof Map, isSet: (value) => value instanceof Set, isNativeError: $.isError,
      isTypedArray: (value) => $.isView(value) && !(value instanceof DataView), isUint8Array: (value) => value instanceof Uint8Array },
    TextEncoder, TextDecoder, isArray: $.isArray, stripVTControlCharacters: (text) => text.replace(/\x1b\[[0-9;]*[A-Za-z]/g, ""),
  };

  class Interface extends EventEmitter {
    #lines = null;
    #started = false;
    #closed = false;
    constructor() {
      super();
      setImmediate(() => this.#start());
    }
    #read() {
      if (this.#lines === null) {
        const text = $.decode($.readStdin());
        this.#lines = text.split(/\r?\n/);
        if (this.#lines.at(-1) === "") this.#lines.pop();
      }
      return this.#lines;
    }
    #start() {
      if (this.#started || this.listenerCount("line") + this.listenerCount("close") === 0) return;
      this.#started = true;
      for (const line of this.#read().splice(0)) if (!this.#closed) this.emit("line", line);
      this.close();
    }
    on(name, callback) {
      super.on(name, callback);
      if (name === "line") setImmediate(() => this.#start());
      return this;
    }
    question(text, options, callback = options) {
      process.stdout.write(text);
      const line = this.#read().shift() ?? "";
      if (typeof callback === "function") setImmediate(() => callback(line));
      else return Promise.resolve(line);
    }
    close() {
      if (this.#closed) return;
      this.#closed = true;
      this.emit("close");
    }
    setPrompt() {} prompt() {} pause() { return this; } resume() { return this; }
    async *[Symbol.asyncIterator]() { for (const line of this.#read().splice(0)) yield line; }
  }
  const readline = { createInterface: () => new Interface(), Interface };

  const fileURLToPath = (url) => {
    url = new web.URL(url);
    if (url.protocol !== "file:") throw new $.TypeError("The URL must be of scheme file");
    return $.decodeURIComponent(url.pathname);
  };
  const timers = { setTimeout, setInterval, setImmediate, clearTimeout, clearInterval, clearImmediate, promises: $.timersPromises };

  const modules = {
    __proto__: null, fs, "fs/promises": fs.promises, path, "path/posix": path, util, events: EventEmitter, assert, "assert/strict": assert, process,
    buffer: { Buffer: $.Buffer, atob, btoa, constants: { MAX_LENGTH: 2 ** 31 - 1 } }, timers, "timers/promises": $.timersPromises,
    url: { ...web, fileURLToPath, pathToFileURL: (text) => new web.URL(`file://${path.resolve(text)}`) },
    crypto: { ...$.crypto, webcrypto: $.crypto, randomBytes: (size) => $.Buffer.from($.randomBytes(size)),
      randomInt(low, high) { if (high === undefined) [low, high] = [0, low]; return low + $.floor(Math.random() * (high - low)); } },
    perf_hooks: { performance }, readline, "readline/promises": readline, console: $.console,
    string_decoder: { StringDecoder: class StringDecoder { #d = new TextDecoder(); write(b) { return this.#d.decode(b, { stream: true }); } end(b) { return (b ? this.write(b) : "") + this.#d.decode(); } } },
    os: { EOL: "\n", platform: () => "linux", type: () => "Linux", arch: () => "wasm32", cpus: () => [], tmpdir: () => "/tmp", homedir: () => "/work",
      hostname: () => "casemate", totalmem: () => 0, freemem: () => 0, release: () => "", uptime: () => $.now() / 1000 },
    casemate: $.casemate,
  };

  const NO_PROCESSES = "there are no processes here: do it in JavaScript, or call another tool with `await tools.NAME({...})`";
  const NO_SOCKETS = "there are no sockets here: use fetch() for HTTP, or call another tool with `await tools.NAME({...})`";
  const NO_THREADS = "there are no threads here: use promises, or run the work one after the other";
  const MISSING = {
    __proto__: null, child_process: NO_PROCESSES, cluster: NO_PROCESSES, net: NO_SOCKETS, http: NO_SOCKETS, https: NO_SOCKETS, http2: NO_SOCKETS, tls: NO_SOCKETS,
    dgram: NO_SOCKETS, dns: NO_SOCKETS, "node-fetch": "use the built-in fetch()", axios: "use the built-in fetch()", worker_threads: NO_THREADS,
    vm: "use eval() or new Function(): the sandbox is around all of it", zlib: "there is no compression here: use Python for it",
    stream: "there are no streams here: use arrays, strings and async generators", "stream/promises": "there are no streams here: use async generators",
    module: "use import or require()", inspector: "there is no debugger here", v8: "this is not V8", wasi: "this already runs in one",
    test: "use assert", repl: "use a session", tty: "there is no terminal here", async_hooks: "there are no hooks here", diagnostics_channel: "there are none here",
    sqlite: "there is no SQLite here: use Python for it",
  };
  const plainName = (name) => startsWith(name, "node:") ? slice(name, 5) : name;
  const noModule = (name) => {
    const why = MISSING[plainName(name)];
    const text = why !== undefined ? `module ${stringify(name)} is not available: ${why}`
      : `there is no module ${stringify(name)}: nothing can be installed here. Built in are ${keys(modules).join(", ")}; ` +
        "files are imported by path, such as \"./lib.js\"";
    const problem = new $.Error(text);
    problem.code = "MODULE_NOT_FOUND";
    return problem;
  };
  /** What to say instead of what the engine says of a module that it cannot load. */
  $.explain = (message) => {
    const parts = exec(/^could not load module filename '(.*)'$/, message) ?? exec(/^Could not find export '.*' in module '(.*)'$/, message);
    const problem = parts === null ? undefined : $.sourceProblem(parts[1]);
    if (problem) return problem;
    if (parts === null || modules[plainName(parts[1])] !== undefined) return undefined;
    if (MISSING[plainName(parts[1])] !== undefined || exec(/^(?:node:)?[@a-z][^./]*(?:\/[^.]*)?$/i, parts[1]) !== null) return noModule(parts[1]).message;
    if (startsWith(message, "could not load")) return `there is no file ${stringify(parts[1])} to import`;
    return undefined;
  };

  // -- modules for the engine's own loader --------------------------------------------------------------------------

  const names = [];
  for (const name of [...keys(modules), ...keys(MISSING)]) names.push(name, `node:${name}`);
  names.splice(names.indexOf("node:casemate"), 1);
  /** `name\nsource` of each module without a file, by number; nothing after the last. */
  $.moduleSource = (number) => {
    const name = names[number];
    if (name === undefined) return undefined;
    const content = modules[plainName(name)];
    if (content === undefined) return `${name}\nthrow new Error(${stringify(noModule(name).message)});`;
    const listed = keys(content).filter((one) => exec(/^[A-Za-z_$][\w$]*$/, one) !== null && one !== "default");
    if (plainName(name) === "events") listed.push("EventEmitter", "once");
    const unique = [...new Set(listed)];
    return `${name}\nconst m = casemate$driver(8, ${stringify(name)});\nexport default m;\n` +
      unique.map((one) => `const _${one} = m.${one};\nexport { _${one} as ${one} };`).join("\n");
  };
  $.isBuiltin = (name) => modules[plainName(name)] !== undefined || MISSING[plainName(name)] !== undefined;
  $.builtin = (name) => modules[plainName(`${name}`)];

  // -- require --------------------------------------------------------------------------------------------------------

  const loaded = new $.Map();
  const resolveFile = (name, folder) => {
    const base = path.resolve(folder, name);
    for (const ending of ["", ".js", ".cjs", ".json", ".mjs", ".ts", "/index.js"]) {
      const found = fs.statSync(base + ending, { throwIfNoEntry: false });
      if (found?.isFile()) return base + ending;
    }
    const problem = new $.Error(`Cannot find module '${name}': there is no file ${base}`);
    problem.code = "MODULE_NOT_FOUND";
    throw problem;
  };
  const requireFrom = (folder) => {
    const require = (name) => {
      if (typeof name !== "string") throw new $.TypeError("require() takes the name of a module");
      const found = modules[plainName(name)];
      if (found !== undefined) return found;
      if (name[0] !== "." && name[0] !== "/") throw noModule(name);
      const file = resolveFile(name, folder);
      const known = loaded.get(file);
      if (known !== undefined) return known.exports;
      const module = { exports: {}, id: file, filename: file, loaded: false };
      loaded.set(file, module);
      try {
        const text = file.endsWith(".ts") ? $.withoutTypes(file, $.readBytes(file)) : fs.readFileSync(file, "utf8");
        if (file.endsWith(".json")) module.exports = JSON.parse(text);
        else {
          const inner = path.dirname(file);
          // On the first line, so that the lines of the file keep their numbers.
          const run = (0, eval)(`(function (exports, require, module, __filename, __dirname) {${text}\n})`);
          run.call(module.exports, module.exports, requireFrom(inner), module, file, inner);
        }
        module.loaded = true;
      } catch (problem) {
        loaded.delete(file);
        throw problem;
      }
      return module.exports;
    };
    require.resolve = (name) => modules[plainName(name)] !== undefined ? name : resolveFile(name, folder);
    require.main = main;
    return require;
  };
  const main = { exports: {}, id: ".", filename: "/work/main.js", loaded: false, children: [], paths: [] };
  $.globals({ require: requireFrom("/work"), module: main, exports: main.exports, __filename: "/work/main.js", __dirname: "/work" });

  // -- imports in scripts -----------------------------------------------------------------------------------------------

  const IMPORT = /(?<=^|;)([ \t]*)import\s*(?:(?:([\w$]+)\s*(?:,\s*)?)?(?:(\*\s*as\s+[\w$]+)|(\{[^}]*\}))?\s*from\s*)?("[^"\n]*"|'[^'\n]*')(?:\s*(?:with|assert)\s*(\{[^}]*\}))?[ \t]*;?/gm;
  $.withNames = (module, [from, ...wanted]) => {
    for (const name of wanted) {
      if (!(name in module)) throw new $.SyntaxError(`The requested module '${from}' does not provide an export named '${name}'`);
    }
    return module;
  };
  /**
   * The code with its static imports as `await import()`, so that it runs as a script whose variables later turns
   * see. Each stays on its lines. What is imported is a copy: a module that changes its exports later is seen to
   * change through `import * as` only.
   */
  $.withoutImports = (code) => $.replace(code, IMPORT, (all, before, one, every, named, from, attributes) => {
    let call = `await import(${from}${attributes ? `, {with: ${attributes}}` : ""})`;
    const lines = $.repeat("\n", $.split(all, "\n").length - 1);
    let names = named && $.replace(named, /(?:([\w$]+)|("[^"]*"|'[^']*'))\s+as\s+([\w$]+)/g, (_, name, text, to) => `${name ?? text}: ${to}`);
    const wanted = [];
    for (const part of named ? $.split(slice(named, 1, -1), ",") : []) {
      const name = $.trim($.split($.trim(part), /\s+as\s+/)[0]);
      if (name !== "") wanted.push(name[0] === '"' || name[0] === "'" ? name : stringify(name));
    }
    if (one) wanted.push('"default"');
    if (one && named) names = $.replace(names, "{", `{default: ${one}, `);
    else if (one && !every) names = `{default: ${one}}`;
    // A name that the module does not have is an error, as in a module.
    if (wanted.length > 0) call = `casemate$driver(10, ${call}, ${from}, ${$.join(wanted, ", ")})`;
    if (every) {
      const space = $.trim($.replace(every, /^\*\s*as\s+/, ""));
      return `${before}const ${space} = ${call}${one ? `, ${one} = ${space}.default` : ""};${lines}`;
    }
    return names ? `${before}const ${$.replaceAll(names, "\n", " ")} = ${call};${lines}` : `${before}${call};${lines}`;
  });
});
