// `fs` and `path`: the files of this isolate. They are in memory, bounded, and gone with it.
casemate$part(($) => {
  "use strict";
  const { os, Uint8Array, ArrayBuffer, asBytes } = $;

  // Numbers of WASI, with the words that people know.
  const PROBLEMS = {
    __proto__: null, 2: ["EACCES", "permission denied"], 8: ["EBADF", "bad file descriptor"], 20: ["EEXIST", "file already exists"],
    27: ["EINTR", "interrupted system call"], 28: ["EINVAL", "invalid argument"], 29: ["EIO", "i/o error"],
    31: ["EISDIR", "illegal operation on a directory"], 32: ["ELOOP", "too many symbolic links encountered"],
    33: ["EMFILE", "too many open files"], 37: ["ENAMETOOLONG", "name too long"], 44: ["ENOENT", "no such file or directory"],
    51: ["ENOSPC", "no space left on device"], 54: ["ENOTDIR", "not a directory"], 55: ["ENOTEMPTY", "directory not empty"],
    58: ["ENOTSUP", "operation not supported"], 63: ["EPERM", "operation not permitted"], 69: ["EROFS", "read-only file system"],
    75: ["EXDEV", "cross-device link not permitted"], 76: ["EACCES", "permission denied"],
  };
  $.fsError = (number, call, path, target) => {
    const [code, words] = PROBLEMS[number] ?? [`E${number}`, $.std.strerror(number)];
    const places = path === undefined ? "" : ` '${path}'${target === undefined ? "" : ` -> '${target}'`}`;
    const problem = new $.Error(`${code}: ${words}, ${call}${places}`);
    problem.errno = -number;
    problem.code = code;
    problem.syscall = call;
    if (path !== undefined) problem.path = `${path}`;
    if (target !== undefined) problem.dest = `${target}`;
    return problem;
  };
  const checked = (status, call, path, target) => {
    if (status < 0) throw $.fsError(-status, call, path, target);
    return status;
  };

  const pathOf = (path) => {
    if (typeof path === "string") {
      if ($.includes(path, "\0")) throw new $.TypeError("a path must not contain null bytes");
      return path;
    }
    if (path?.href && path.protocol === "file:") return $.decodeURIComponent(path.pathname);
    if ($.isView(path)) return $.decode(asBytes(path));
    const problem = new $.TypeError(`The "path" argument must be of type string or an instance of Buffer or URL. Received ${$.inspect(path)}`);
    problem.code = "ERR_INVALID_ARG_TYPE";
    throw problem;
  };

  const openFile = (path, flags, call = "open") => checked(os.open(path, flags, 0o666), call, path);
  const readAll = (fd) => {
    const pieces = [];
    let size = 0, room = 1 << 16;
    for (;;) {
      const buffer = new ArrayBuffer(room);
      const count = checked(os.read(fd, buffer, 0, room), "read");
      if (count === 0) break;
      pieces[pieces.length] = new Uint8Array(buffer, 0, count);
      size += count;
      room = $.min(1 << 20, room * 2);
    }
    if (pieces.length === 1) return pieces[0];
    const whole = new Uint8Array(size);
    let at = 0;
    for (let i = 0; i < pieces.length; i++) {
      $.setBytes(whole, pieces[i], at);
      at += pieces[i].length;
    }
    return whole;
  };
  /** All bytes of a file. */
  $.readBytes = (path) => {
    const fd = openFile(path, os.O_RDONLY);
    try {
      return readAll(fd);
    } finally {
      os.close(fd);
    }
  };
  const writeAll = (fd, bytes, path) => {
    for (let at = 0; at < bytes.length;) {
      at += checked(os.write(fd, bytes.buffer, bytes.byteOffset + at, bytes.length - at), "write", path);
    }
  };

  const FLAGS = {
    __proto__: null, r: os.O_RDONLY, "r+": os.O_RDWR, w: os.O_WRONLY | os.O_CREAT | os.O_TRUNC, "w+": os.O_RDWR | os.O_CREAT | os.O_TRUNC,
    wx: os.O_WRONLY | os.O_CREAT | os.O_EXCL, "wx+": os.O_RDWR | os.O_CREAT | os.O_EXCL, a: os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    "a+": os.O_RDWR | os.O_CREAT | os.O_APPEND, ax: os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL,
  };
  const flagsOf = (flags = "r") => {
    const known = typeof flags === "number" ? flags : FLAGS[flags];
    if (known === undefined) throw new $.TypeError(`The value ${$.inspect(flags)} is invalid for option "flags"`);
    return known;
  };
  const encodingOf = (options) => typeof options === "string" ? options : options?.encoding;
  const dataOf = (data, options) => typeof data === "string" ? $.bytesOf(data, encodingOf(options))
    : $.isView(data) || data instanceof ArrayBuffer ? asBytes(data, "data") : (() => {
      const problem = new $.TypeError(`The "data" argument must be of type string or an instance of Buffer, TypedArray, or DataView. Received ${$.inspect(data)}`);
      problem.code = "ERR_INVALID_ARG_TYPE";
      throw problem;
    })();

  class Stats {
    constructor(found) {
      Object.assign(this, { dev: found.dev, mode: found.mode, nlink: found.nlink ?? 1, uid: 0, gid: 0,
        ino: found.ino, size: found.size, blksize: 4096, blocks: $.floor((found.size + 511) / 512),
        atimeMs: found.atime, mtimeMs: found.mtime, ctimeMs: found.ctime, birthtimeMs: found.ctime });
      for (const name of ["atime", "mtime", "ctime", "birthtime"]) this[name] = new Date(this[`${name}Ms`]);
    }
    #is(kind) { return (this.mode & os.S_IFMT) === kind; }
    isFile() { return this.#is(os.S_IFREG); }
    isDirectory() { return this.#is(os.S_IFDIR); }
    isSymbolicLink() { return this.#is(os.S_IFLNK); }
    isFIFO() { return this.#is(os.S_IFIFO); }
    isSocket() { return false; }
    isBlockDevice() { return this.#is(os.S_IFBLK); }
    isCharacterDevice() { return this.#is(os.S_IFCHR); }
  }
  class Dirent {
    #stats;
    constructor(parent, name) {
      this.name = name;
      this.path = this.parentPath = parent;
      this.#stats = fs.statSync($.joinPath(parent, name));
    }
    isFile() { return this.#stats.isFile(); }
    isDirectory() { return this.#stats.isDirectory(); }
    isSymbolicLink() { return this.#stats.isSymbolicLink(); }
  }

  const list = (path) => {
    const [names, status] = os.readdir(path);
    checked(-status, "scandir", path);
    const kept = [];
    for (const name of names) if (name !== "." && name !== "..") kept[kept.length] = name;
    return $.sort(kept);
  };
  const statOf = (path) => os.stat(path);
  const remove = (path, call) => checked(os.remove(path), call, path);
  const withFile = (path, flags, use) => {
    if (typeof path === "number") return use(path);
    path = pathOf(path);
    const fd = openFile(path, flags);
    try {
      return use(fd, path);
    } finally {
      os.close(fd);
    }
  };

  const fs = {
    readFileSync(path, options) {
      const bytes = path === 0 || path === "/dev/stdin" ? $.readStdin()
        : withFile(path, flagsOf(options?.flag), (fd) => readAll(fd));
      const encoding = encodingOf(options);
      return encoding ? $.textOf(bytes, encoding) : $.Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    },
    writeFileSync(path, data, options) {
      const bytes = dataOf(data, options);
      withFile(path, flagsOf(options?.flag ?? "w"), (fd, name) => writeAll(fd, bytes, name));
    },
    appendFileSync(path, data, options) { fs.writeFileSync(path, data, { ...(typeof options === "string" ? { encoding: options } : options), flag: "a" }); },
    existsSync(path) {
      try {
        return statOf(pathOf(path))[1] === 0;
      } catch {
        return false;
      }
    },
    accessSync(path) { checked(-statOf(pathOf(path))[1], "access", path); },
    statSync(path, options) {
      const [found, status] = statOf(pathOf(path));
      if (status !== 0) {
        if (options?.throwIfNoEntry === false && status === 44) return undefined;
        throw $.fsError(status, "stat", path);
      }
      return new Stats(found);
    },
    lstatSync(path, options) { return fs.statSync(path, options); },
    readdirSync(path, options) {
      path = pathOf(path);
      if (!options?.recursive) return list(path).map((name) => options?.withFileTypes ? new Dirent(path, name) : name);
      const found = [];
      const walk = (folder, before) => {
        for (const name of list(folder)) {
          found.push(options.withFileTypes ? new Dirent(folder, name) : before + name);
          const inner = $.joinPath(folder, name);
          if (fs.statSync(inner).isDirectory()) walk(inner, `${before}${name}/`);
        }
      };
      walk(path, "");
      return found;
    },
    mkdirSync(path, options) {
      path = pathOf(path);
      if (!options?.recursive) {
        checked(os.mkdir(path, 0o777), "mkdir", path);
        return undefined;
      }
      let first, at = $.startsWith(path, "/") ? "/" : "";
      for (const part of $.split(path, "/")) {
        if (part === "") continue;
        at += at === "" || $.endsWith(at, "/") ? part : `/${part}`;
        const status = os.mkdir(at, 0o777);
        if (status === 0) first ??= at;
        else if (status !== -20 || !fs.statSync(at).isDirectory()) throw $.fsError(-status, "mkdir", path);
      }
      return first;
    },
    rmdirSync(path, options) {
      if (options?.recursive) return fs.rmSync(path, { recursive: true });
      if (!fs.statSync(path).isDirectory()) throw $.fsError(54, "rmdir", path);
      remove(pathOf(path), "rmdir");
    },
    unlinkSync(path) {
      if (fs.statSync(path, { throwIfNoEntry: false })?.isDirectory()) throw $.fsError(63, "unlink", path);
      remove(pathOf(path), "unlink");
    },
    rmSync(path, options) {
      path = pathOf(path);
      const found = fs.statSync(path, { throwIfNoEntry: false });
      if (found === undefined) {
        if (options?.force) return;
        throw $.fsError(44, "rm", path);
      }
      if (found.isDirectory()) {
        if (!options?.recursive) throw $.fsError(31, "rm", path);
        for (const name of list(path)) fs.rmSync($.joinPath(path, name), options);
      }
      remove(path, "rm");
    },
    renameSync(from, to) { checked(os.rename(pathOf(from), pathOf(to)), "rename", from, to); },
    copyFileSync(from, to, mode) {
      const bytes = withFile(from, os.O_RDONLY, (fd) => readAll(fd));
      fs.writeFileSync(to, bytes, { flag: mode & 1 ? "wx" : "w" });
    },
    cpSync(from, to, options) {
      if (!fs.statSync(from).isDirectory()) return fs.copyFileSync(from, to);
      if (!options?.recursive) throw $.fsError(31, "cp", from);
      fs.mkdirSync(to, { recursive: true });
      for (const name of list(pathOf(from))) fs.cpSync($.joinPath(pathOf(from), name), $.joinPath(pathOf(to), name), options);
    },
    truncateSync(path, size = 0) {
      const bytes = fs.readFileSync(path);
      const kept = new Uint8Array(size);
      $.setBytes(kept, $.subarray(bytes, 0, size), 0);
      fs.writeFileSync(path, kept);
    },
    utimesSync(path, atime, mtime) { checked(os.utimes(pathOf(path), +atime * 1000, +mtime * 1000), "utime", path); },
    realpathSync(path) {
      fs.accessSync(path);
      return $.path.resolve(pathOf(path));
    },
    mkdtempSync(before) {
      for (;;) {
        const path = before + $.textOf($.randomBytes(4), "hex").slice(0, 6);
        if (os.mkdir(path, 0o700) === 0) return path;
        if (!fs.existsSync(path)) throw $.fsError(44, "mkdtemp", path);
      }
    },
    openSync(path, flags) { return openFile(pathOf(path), flagsOf(flags)); },
    closeSync(fd) { checked(os.close(fd), "close"); },
    readSync(fd, buffer, offset = 0, length = buffer.byteLength - offset, position = null) {
      if (typeof offset === "object") ({ offset = 0, length = buffer.byteLength - offset, position = null } = offset ?? {});
      if (position !== null && position >= 0) checked(os.seek(fd, Number(position), 0), "read");
      return checked(os.read(fd, buffer.buffer, buffer.byteOffset + offset, length), "read");
    },
    writeSync(fd, data, offset = 0, length) {
      const bytes = typeof data === "string" ? $.bytesOf(data) : $.subarray(asBytes(data), offset, length === undefined ? undefined : offset + length);
      writeAll(fd, bytes);
      return bytes.length;
    },
    constants: { F_OK: 0, R_OK: 4, W_OK: 2, X_OK: 1, COPYFILE_EXCL: 1 },
    Stats, Dirent,
  };
  // What others do by links, modes and owners does not exist; a program that sets a mode need not fail for it.
  fs.chmodSync = (path) => fs.accessSync(path);
  fs.promises = {};
  for (const name of $.keys(fs)) {
    if (!$.endsWith(name, "Sync")) continue;
    const plain = $.slice(name, 0, -4), sync = fs[name];
    fs.promises[plain] = async (...values) => sync(...values);
    fs[plain] = (...values) => {
      const callback = values.pop();
      if (typeof callback !== "function") throw new $.TypeError(`The "cb" argument of fs.${plain} must be of type function`);
      let problem = null, result;
      try {
        result = sync(...values);
      } catch (thrown) {
        problem = thrown;
      }
      setImmediate(() => plain === "exists" ? callback(result) : problem ? callback(problem) : callback(null, result));
    };
  }
  fs.promises.constants = fs.constants;

  // -- path -----------------------------------------------------------------------------------------------------

  const normal = (text, absolute) => {
    const kept = [];
    for (const part of $.split(text, "/")) {
      if (part === "" || part === ".") continue;
      if (part === "..") {
        if (kept.length > 0 && kept[kept.length - 1] !== "..") kept.length--;
        else if (!absolute) kept[kept.length] = "..";
      } else kept[kept.length] = part;
    }
    return $.join(kept, "/");
  };
  const path = {
    sep: "/", delimiter: ":",
    normalize(text) {
      const absolute = $.startsWith(text, "/");
      const inner = normal(text, absolute);
      return (absolute ? "/" : "") + inner + (inner !== "" && $.endsWith(text, "/") ? "/" : "") || ".";
    },
    join(...parts) {
      const text = $.join(parts.filter((part) => part !== ""), "/");
      return text === "" ? "." : path.normalize(text);
    },
    resolve(...parts) {
      let text = "";
      for (let i = parts.length - 1; i >= 0 && !$.startsWith(text, "/"); i--) if (parts[i] !== "") text = text === "" ? parts[i] : `${parts[i]}/${text}`;
      if (!$.startsWith(text, "/")) text = `${$.process.cwd()}/${text}`;
      return `/${normal(text, true)}`;
    },
    isAbsolute: (text) => $.startsWith(text, "/"),
    dirname(text) {
      const bare = $.replace(text, /(?!^)\/+$/, "");
      const at = $.lastIndexOf(bare, "/");
      return at < 0 ? "." : at === 0 ? "/" : $.replace($.slice(bare, 0, at), /(?!^)\/+$/, "");
    },
    basename(text, suffix) {
      const bare = $.replace(text, /\/+$/, "");
      const name = $.slice(bare, $.lastIndexOf(bare, "/") + 1);
      return suffix && name !== suffix && $.endsWith(name, suffix) ? $.slice(name, 0, -suffix.length) : name;
    },
    extname(text) {
      const name = path.basename(text);
      const at = $.lastIndexOf(name, ".");
      return at <= 0 ? "" : $.slice(name, at);
    },
    relative(from, to) {
      const a = $.split(path.resolve(from), "/").filter(Boolean), b = $.split(path.resolve(to), "/").filter(Boolean);
      let same = 0;
      while (same < a.length && same < b.length && a[same] === b[same]) same++;
      return $.join([...a.slice(same).map(() => ".."), ...b.slice(same)], "/");
    },
    parse(text) {
      const root = $.startsWith(text, "/") ? "/" : "", base = path.basename(text), ext = path.extname(text);
      const dir = path.dirname(text);
      return { root, dir: dir === "." && !$.startsWith(text, ".") ? "" : dir, base, ext, name: ext ? $.slice(base, 0, -ext.length) : base };
    },
    format({ root = "", dir, base, name = "", ext = "" }) {
      base ??= name + (ext && !$.startsWith(ext, ".") ? `.${ext}` : ext);
      return !dir ? root + base : dir === root ? dir + base : `${dir}/${base}`;
    },
    toNamespacedPath: (text) => text,
  };
  path.posix = path;
  $.joinPath = path.join;
  $.path = path;
  $.fs = fs;
});
