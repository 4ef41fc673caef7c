// `process`: what a program may ask about itself. There is one process here, and no other can be started.
casemate$part(($) => {
  "use strict";
  const { os, std } = $;
  const listeners = $.create(null);

  /** Thrown by `process.exit()`. Code that catches everything cannot stay alive: the first exit counts. */
  class Exit {
    constructor(code) { this.code = code; }
  }
  $.isExit = (problem) => problem instanceof Exit;

  const emit = (name, ...values) => {
    const list = listeners[name];
    if (list === undefined || list.length === 0) return false;
    for (const one of $.arraySlice(list)) $.apply(one.callback, process, values);
    listeners[name] = list.filter((one) => !one.once);
    return true;
  };
  $.emitProcess = emit;
  const add = (name, callback, once) => {
    (listeners[name] ??= []).push({ callback, once });
    return process;
  };

  const stream = (file, fd) => ({
    fd, isTTY: false, writable: true, columns: 80,
    write(data, encoding, callback) {
      if (typeof data === "string") $.write(file, data);
      else if ($.exiting === undefined) {
        const bytes = $.asBytes(data, "What is written");
        file.flush();
        for (let at = 0; at < bytes.length;) {
          const count = os.write(fd, bytes.buffer, bytes.byteOffset + at, bytes.length - at);
          if (!(count > 0)) break;
          at += count;
        }
      }
      const done = typeof encoding === "function" ? encoding : callback;
      if (typeof done === "function") $.nextTick(done);
      return true;
    },
    end(data) {
      if (data !== undefined && data !== null) this.write(data);
      return this;
    },
    on() { return this; },
    once() { return this; },
    off() { return this; },
    emit() { return false; },
    removeListener() { return this; },
    cork() {}, uncork() {},
  });

  // Standard input is read as a whole or in pieces, always when somebody asks.
  let stdinListeners = $.create(null);
  let stdinEncoding = null, stdinStarted = false;
  const stdinPiece = () => {
    const buffer = new $.ArrayBuffer(1 << 16);
    const count = os.read(0, buffer, 0, 1 << 16);
    return count > 0 ? new $.Uint8Array(buffer, 0, count) : null;
  };
  const startStdin = () => {
    if (stdinStarted) return;
    stdinStarted = true;
    const decoder = new TextDecoder();
    const next = () => {
      const piece = stdinPiece();
      const data = piece === null ? (stdinEncoding ? decoder.decode() : null)
        : stdinEncoding ? decoder.decode(piece, { stream: true }) : $.Buffer.from(piece);
      if (data !== null && data.length > 0) for (const one of stdinListeners.data ?? []) one(data);
      if (piece !== null) return setImmediate(next);
      for (const name of ["end", "close"]) for (const one of stdinListeners[name] ?? []) one();
    };
    setImmediate(next);
  };
  const stdin = {
    fd: 0, isTTY: false, readable: true,
    setEncoding(encoding) { stdinEncoding = encoding ?? "utf8"; return stdin; },
    on(name, callback) {
      (stdinListeners[name] ??= []).push(callback);
      if (name === "data" || name === "end") startStdin();
      return stdin;
    },
    once(name, callback) { return stdin.on(name, callback); },
    addListener(name, callback) { return stdin.on(name, callback); },
    off() { return stdin; }, removeListener() { return stdin; },
    resume() { startStdin(); return stdin; }, pause() { return stdin; }, unref() { return stdin; }, ref() { return stdin; },
    async *[Symbol.asyncIterator]() {
      const decoder = new TextDecoder();
      for (let piece = stdinPiece(); piece !== null; piece = stdinPiece()) {
        yield stdinEncoding ? decoder.decode(piece, { stream: true }) : $.Buffer.from(piece);
      }
    },
  };
  $.readStdin = () => {
    const pieces = [];
    let size = 0;
    for (let piece = stdinPiece(); piece !== null; piece = stdinPiece()) {
      pieces.push(piece);
      size += piece.length;
    }
    const all = new $.Uint8Array(size);
    let at = 0;
    for (const piece of pieces) {
      $.setBytes(all, piece, at);
      at += piece.length;
    }
    return all;
  };

  const hrtime = (before) => {
    const ns = $.floor($.now() * 1e6);
    let seconds = $.floor(ns / 1e9), rest = ns % 1e9;
    if (before) {
      seconds -= before[0];
      rest -= before[1];
      if (rest < 0) {
        seconds--;
        rest += 1e9;
      }
    }
    return [seconds, rest];
  };
  hrtime.bigint = () => BigInt($.floor($.now() * 1e6));

  const none = (what) => () => {
    throw new $.Error(`process.${what}() does not exist here: there are no processes, users or signals in this sandbox`);
  };
  const process = {
    argv: [], argv0: "javascript", execArgv: [], execPath: "/usr/bin/javascript", title: "javascript", env: {}, exitCode: undefined,
    pid: 1, ppid: 0, platform: "linux", arch: "wasm32", version: "v20.0.0",
    versions: { node: "20.0.0", quickjs: "0.17.0" }, release: { name: "casemate" }, config: {}, features: {},
    stdin, stdout: stream(std.out, 1), stderr: stream(std.err, 2),
    exit(code) {
      if ($.exiting === undefined) {
        code = code === undefined ? process.exitCode ?? 0 : code;
        emit("exit", code);
        $.exiting = $.trunc(+code) & 255;
      }
      throw new Exit($.exiting);
    },
    abort() { process.exit(134); },
    cwd: () => os.getcwd()[0],
    chdir(path) {
      const status = os.chdir(`${path}`);
      if (status !== 0) throw $.fsError(-status, "chdir", path);
    },
    hrtime,
    uptime: () => $.now() / 1000,
    nextTick: $.nextTick,
    memoryUsage: Object.assign(() => ({ rss: 0, heapTotal: 0, heapUsed: 0, external: 0, arrayBuffers: 0 }), { rss: () => 0 }),
    cpuUsage: () => ({ user: $.floor($.now() * 1000), system: 0 }),
    umask: () => 0o22,
    emitWarning(warning) { $.write(std.err, `Warning: ${warning?.message ?? warning}\n`); },
    on: (name, callback) => add(name, callback, false),
    addListener: (name, callback) => add(name, callback, false),
    once: (name, callback) => add(name, callback, true),
    off(name, callback) {
      if (listeners[name]) listeners[name] = listeners[name].filter((one) => one.callback !== callback);
      return process;
    },
    removeListener: (name, callback) => process.off(name, callback),
    removeAllListeners(name) {
      for (const one of name === undefined ? $.keys(listeners) : [name]) delete listeners[one];
      return process;
    },
    emit,
    listenerCount: (name) => listeners[name]?.length ?? 0,
    kill: none("kill"), setuid: none("setuid"), fork: none("fork"), dlopen: none("dlopen"), binding: none("binding"),
  };
  $.defineProperty(process, Symbol.toStringTag, { value: "process", configurable: true });

  let given = null, plain = false;
  /** What a turn is given; nothing for a turn without arguments and variables. */
  $.startProcess = (argv, env) => {
    const args = ["/usr/bin/javascript", "/work/main.js"];
    if (argv !== undefined) for (const one of argv) args[args.length] = one;
    process.argv = args;
    if (env !== undefined || !plain) {
      // Variables of one turn are not those of the next, unless the code keeps them.
      if (given !== null) for (const name of $.keys(given)) if (process.env[name] === given[name]) delete process.env[name];
      given = { ...std.getenviron(), ...env };
      for (const name of $.keys(given)) process.env[name] = given[name];
      plain = env === undefined;
    }
    process.exitCode = undefined;
    stdinStarted = false;
    stdinEncoding = null;
    stdinListeners = $.create(null);
  };
  $.exitCode = () => {
    const code = process.exitCode;
    return code === undefined || code === null ? 0 : $.trunc(+code) & 255;
  };
  $.process = process;
  $.globals({ process, global: globalThis });
});
