// What programs know from browsers: URL, fetch, structuredClone, events, abort signals.
casemate$part(($) => {
  "use strict";
  const { Map, TypeError, encode, decode, asBytes } = $;

  // -- URL: the host knows the standard ---------------------------------------------------------------------------

  const PARTS = ["href", "protocol", "username", "password", "host", "hostname", "port", "pathname", "search", "hash", "origin"];
  const askUrl = (request) => {
    const [answer] = $.ask({ m: "url", ...request });
    return answer.error === undefined ? answer : null;
  };

  const decodePart = (text) => {
    text = $.replaceAll(text, "+", " ");
    if (!$.includes(text, "%")) return text;
    const bytes = encode(text);
    const plain = new Uint8Array(bytes.length);
    let at = 0;
    for (let i = 0; i < bytes.length; i++) {
      const code = bytes[i] === 37 ? $.exec(/^[0-9a-fA-F]{2}/, $.binary($.subarray(bytes, i + 1, i + 3))) : null;
      if (code !== null) i += 2;
      plain[at++] = code === null ? bytes[i] : parseInt(code[0], 16);
    }
    return decode($.subarray(plain, 0, at));
  };
  const encodePart = (text) => $.replace($.replaceAll($.encodeURIComponent($.toWellFormed(text)), "%20", "+"), /[!'()~]/g,
    (one) => `%${$.numberToString($.charCodeAt(one, 0), 16).toUpperCase()}`);

  class URLSearchParams {
    #pairs = [];
    #changed = null;
    constructor(init = "") {
      if (typeof init === "object" && init !== null) {
        if (typeof init[Symbol.iterator] === "function") {
          for (const pair of init) {
            const [name, value, ...rest] = [...pair];
            if (value === undefined || rest.length) throw new TypeError("Each query pair must be an iterable [name, value] tuple");
            this.#pairs.push([`${name}`, `${value}`]);
          }
        } else for (const name of $.keys(init)) this.#pairs.push([name, `${init[name]}`]);
      } else this.#read(`${init}`);
    }
    #read(text) {
      this.#pairs = [];
      if ($.startsWith(text, "?")) text = $.slice(text, 1);
      for (const pair of $.split(text, "&")) {
        if (pair === "") continue;
        const at = $.indexOf(pair, "=");
        this.#pairs.push(at < 0 ? [decodePart(pair), ""] : [decodePart($.slice(pair, 0, at)), decodePart($.slice(pair, at + 1))]);
      }
    }
    #tell() { this.#changed?.(this.toString()); }
    // Ties the parameters to a URL: each hears of the other's changes.
    static #tie;
    static { this.#tie = (params, changed) => { params.#changed = changed; return (text) => params.#read(text); }; $.tieParams = this.#tie; }
    append(name, value) { this.#pairs.push([`${name}`, `${value}`]); this.#tell(); }
    delete(name, value) {
      this.#pairs = this.#pairs.filter((pair) => pair[0] !== `${name}` || (value !== undefined && pair[1] !== `${value}`));
      this.#tell();
    }
    get(name) { return this.#pairs.find((pair) => pair[0] === `${name}`)?.[1] ?? null; }
    getAll(name) { return this.#pairs.filter((pair) => pair[0] === `${name}`).map((pair) => pair[1]); }
    has(name, value) { return this.#pairs.some((pair) => pair[0] === `${name}` && (value === undefined || pair[1] === `${value}`)); }
    set(name, value) {
      const first = this.#pairs.findIndex((pair) => pair[0] === `${name}`);
      if (first < 0) return this.append(name, value);
      this.#pairs[first][1] = `${value}`;
      this.#pairs = this.#pairs.filter((pair, index) => index <= first || pair[0] !== `${name}`);
      this.#tell();
    }
    sort() { this.#pairs.sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0)); this.#tell(); }
    forEach(callback, self) { for (const [name, value] of this.#pairs) callback.call(self, value, name, this); }
    *entries() { for (const [name, value] of this.#pairs) yield [name, value]; }
    *keys() { for (const [name] of this.#pairs) yield name; }
    *values() { for (const [, value] of this.#pairs) yield value; }
    [Symbol.iterator]() { return this.entries(); }
    get size() { return this.#pairs.length; }
    toString() { return $.join(this.#pairs.map(([name, value]) => `${encodePart(name)}=${encodePart(value)}`), "&"); }
    [$.inspect.custom](depth, options) {
      if (this.#pairs.length === 0) return "URLSearchParams {}";
      return `URLSearchParams { ${$.join(this.#pairs.map(([name, value]) => `${$.inspect(name, options)} => ${$.inspect(value, options)}`), ", ")} }`;
    }
  }
  $.tag(URLSearchParams, "URLSearchParams");

  class URL {
    #parts; #params; #readParams;
    constructor(href, base) {
      const parts = askUrl({ op: "parse", href: `${href}`, ...(base === undefined ? {} : { base: `${base}` }) });
      if (parts === null) {
        const problem = new TypeError("Invalid URL");
        problem.code = "ERR_INVALID_URL";
        problem.input = `${href}`;
        if (base !== undefined) problem.base = `${base}`;
        throw problem;
      }
      this.#parts = parts;
    }
    static canParse(href, base) { return askUrl({ op: "parse", href: `${href}`, ...(base === undefined ? {} : { base: `${base}` }) }) !== null; }
    static parse(href, base) { return URL.canParse(href, base) ? new URL(href, base) : null; }
    #set(part, value, fromParams) {
      const parts = askUrl({ op: "set", href: this.#parts.href, part, value: `${value}` });
      if (parts === null) {
        if (part === "href") throw new TypeError("Invalid URL");
        return;
      }
      this.#parts = parts;
      if (!fromParams) this.#readParams?.(parts.search);
    }
    get searchParams() {
      if (this.#params === undefined) {
        this.#params = new URLSearchParams(this.#parts.search);
        this.#readParams = $.tieParams(this.#params, (text) => this.#set("search", text, true));
      }
      return this.#params;
    }
    static {
      for (const part of PARTS) {
        $.defineProperty(this.prototype, part, {
          configurable: true, enumerable: true,
          get() { return this.#parts[part]; },
          set: part === "origin" ? undefined : function (value) { this.#set(part, value, false); },
        });
      }
    }
    toString() { return this.#parts.href; }
    toJSON() { return this.#parts.href; }
    [$.inspect.custom](depth, options) {
      const shown = {};
      for (const part of ["href", "origin", "protocol", "username", "password", "host", "hostname", "port", "pathname", "search"]) shown[part] = this[part];
      shown.searchParams = this.searchParams;
      shown.hash = this.hash;
      return `URL ${$.inspect(shown, options)}`;
    }
  }
  $.tag(URL, "URL");

  // -- events and signals -----------------------------------------------------------------------------------------

  class Event {
    constructor(type, options = {}) {
      Object.assign(this, { type: `${type}`, target: null, defaultPrevented: false, cancelable: !!options.cancelable, timeStamp: $.now() });
    }
    preventDefault() { if (this.cancelable) this.defaultPrevented = true; }
    stopPropagation() {}
    stopImmediatePropagation() { this.stopped = true; }
  }
  class CustomEvent extends Event {
    constructor(type, options = {}) {
      super(type, options);
      this.detail = options.detail ?? null;
    }
  }
  class EventTarget {
    #listeners = new Map();
    addEventListener(type, callback, options) {
      const list = this.#listeners.get(type) ?? [];
      if (!list.some((one) => one.callback === callback)) list.push({ callback, once: !!options?.once });
      this.#listeners.set(type, list);
    }
    removeEventListener(type, callback) {
      this.#listeners.set(type, (this.#listeners.get(type) ?? []).filter((one) => one.callback !== callback));
    }
    dispatchEvent(event) {
      event.target = this;
      for (const one of [...(this.#listeners.get(event.type) ?? [])]) {
        if (one.once) this.removeEventListener(event.type, one.callback);
        if (typeof one.callback === "function") one.callback.call(this, event);
        else one.callback?.handleEvent?.(event);
        if (event.stopped) break;
      }
      return !event.defaultPrevented;
    }
  }
  class AbortSignal extends EventTarget {
    aborted = false;
    reason = undefined;
    onabort = null;
    static abort(reason) { const signal = new AbortSignal(); $.abort(signal, reason); return signal; }
    static timeout(ms) {
      const signal = new AbortSignal();
      setTimeout(() => $.abort(signal, new DOMException("The operation was aborted due to timeout", "TimeoutError")), ms).unref();
      return signal;
    }
    static any(signals) {
      const both = new AbortSignal();
      for (const one of signals) {
        if (one.aborted) $.abort(both, one.reason);
        else one.addEventListener("abort", () => $.abort(both, one.reason), { once: true });
      }
      return both;
    }
    throwIfAborted() { if (this.aborted) throw this.reason; }
  }
  $.abort = (signal, reason) => {
    if (signal.aborted) return;
    signal.aborted = true;
    signal.reason = reason ?? new DOMException("This operation was aborted", "AbortError");
    const event = new Event("abort");
    signal.onabort?.(event);
    signal.dispatchEvent(event);
  };
  class AbortController {
    signal = new AbortSignal();
    abort(reason) { $.abort(this.signal, reason); }
  }

  // -- fetch: one request to the host, whose gate decides ---------------------------------------------------------

  class Headers {
    #values = new Map();
    constructor(init) {
      if (init === undefined || init === null) return;
      const pairs = typeof init[Symbol.iterator] === "function" ? init : $.keys(init).map((name) => [name, init[name]]);
      for (const [name, value] of pairs) this.append(name, value);
    }
    append(name, value) {
      name = $.toLowerCase(`${name}`);
      const before = this.#values.get(name);
      this.#values.set(name, before === undefined ? $.trim(`${value}`) : `${before}, ${$.trim(`${value}`)}`);
    }
    set(name, value) { this.#values.set($.toLowerCase(`${name}`), $.trim(`${value}`)); }
    get(name) { return this.#values.get($.toLowerCase(`${name}`)) ?? null; }
    has(name) { return this.#values.has($.toLowerCase(`${name}`)); }
    delete(name) { this.#values.delete($.toLowerCase(`${name}`)); }
    forEach(callback, self) { for (const [name, value] of this) callback.call(self, value, name, this); }
    *entries() { yield* [...this.#values].sort(([a], [b]) => (a < b ? -1 : 1)); }
    *keys() { for (const [name] of this.entries()) yield name; }
    *values() { for (const [, value] of this.entries()) yield value; }
    [Symbol.iterator]() { return this.entries(); }
    [$.inspect.custom](depth, options) { return `Headers ${$.inspect(Object.fromEntries(this), options)}`; }
  }

  const bodyBytes = (body) => {
    if (body === undefined || body === null) return new Uint8Array(0);
    if (typeof body === "string") return encode(body);
    if (body instanceof URLSearchParams) return encode(body.toString());
    return asBytes(body, "The body");
  };
  class Body {
    #bytes;
    bodyUsed = false;
    constructor(body) { this.#bytes = bodyBytes(body); }
    async #take() {
      if (this.bodyUsed) throw new TypeError("Body is unusable: Body has already been read");
      this.bodyUsed = true;
      return this.#bytes;
    }
    async text() { return decode(await this.#take()); }
    async json() { return JSON.parse(decode(await this.#take())); }
    async bytes() { return await this.#take(); }
    async arrayBuffer() { return new Uint8Array(await this.#take()).buffer; }
  }
  class Request extends Body {
    constructor(input, init = {}) {
      super(init.body ?? null);
      this.given = init.body;
      this.url = new URL(input?.url ?? input).href;
      this.method = `${init.method ?? input?.method ?? "GET"}`.toUpperCase();
      this.headers = new Headers(init.headers ?? input?.headers);
      this.signal = init.signal ?? null;
    }
  }
  class Response extends Body {
    constructor(body, init = {}) {
      super(body);
      this.status = init.status ?? 200;
      this.statusText = init.statusText ?? "";
      this.headers = new Headers(init.headers);
      this.url = init.url ?? "";
      this.redirected = false;
      this.type = "default";
    }
    get ok() { return this.status >= 200 && this.status < 300; }
    static json(value, init = {}) {
      return new Response(JSON.stringify(value), { ...init, headers: { "content-type": "application/json", ...init.headers } });
    }
  }
  for (const [type, name] of [[Headers, "Headers"], [Request, "Request"], [Response, "Response"], [AbortSignal, "AbortSignal"]]) $.tag(type, name);

  const fetch = async (input, init = {}) => {
    const request = new Request(input, init);
    request.signal?.throwIfAborted();
    const { given } = request;
    if (given instanceof URLSearchParams && !request.headers.has("content-type")) {
      request.headers.set("content-type", "application/x-www-form-urlencoded;charset=UTF-8");
    } else if (typeof given === "string" && !request.headers.has("content-type")) request.headers.set("content-type", "text/plain;charset=UTF-8");
    const [answer, body] = $.ask({ m: "http", method: request.method, url: request.url, headers: Object.fromEntries(request.headers) }, bodyBytes(given));
    if (answer.error !== undefined) {
      const problem = new TypeError(`fetch failed: ${answer.error}`);
      problem.reason = answer.reason;
      problem.cause = { code: answer.reason, message: answer.error };
      throw problem;
    }
    const content = body.length > 0 ? new Uint8Array(body)
      : answer.body_base64 !== undefined ? $.unbase64(answer.body_base64) : answer.body ?? "";
    return new Response(content, { status: answer.status, statusText: answer.status_text ?? "", headers: answer.headers, url: answer.url ?? request.url });
  };

  // -- structuredClone ----------------------------------------------------------------------------------------------

  const notCloned = (value) => new DOMException(`${$.inspect(value, { depth: 0 })} could not be cloned.`, "DataCloneError");
  const ERRORS = { __proto__: null, Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError };
  const clone = (value, seen) => {
    if (typeof value === "function" || typeof value === "symbol") throw notCloned(value);
    if (typeof value !== "object" || value === null) return value;
    if ($.mapHas(seen, value)) return $.mapGet(seen, value);
    const remember = (copy) => {
      $.mapSet(seen, value, copy);
      return copy;
    };
    if ($.isArray(value)) {
      const copy = remember(new $.Array(value.length));
      for (const key of $.keys(value)) copy[key] = clone(value[key], seen);
      return copy;
    }
    if (value instanceof Date) return remember(new Date($.getTime(value)));
    if (value instanceof RegExp) return remember(new RegExp(value.source, value.flags));
    if (value instanceof Map) {
      const copy = remember(new Map());
      for (const [key, one] of [...value]) copy.set(clone(key, seen), clone(one, seen));
      return copy;
    }
    if (value instanceof Set) {
      const copy = remember(new Set());
      for (const one of [...value]) copy.add(clone(one, seen));
      return copy;
    }
    if (value instanceof ArrayBuffer) return remember($.uncurry(ArrayBuffer.prototype.slice)(value, 0));
    if ($.isView(value)) {
      const buffer = clone(value.buffer, seen);
      const Type = value instanceof DataView ? DataView : globalThis[value[Symbol.toStringTag]];
      return remember(new Type(buffer, value.byteOffset, value instanceof DataView ? value.byteLength : value.length));
    }
    if ($.isError(value)) {
      const copy = remember(new (ERRORS[value.name] ?? Error)(value.message));
      if ($.hasOwn(value, "cause")) copy.cause = clone(value.cause, seen);
      return copy;
    }
    for (const Type of [Number, String, Boolean, BigInt]) {
      if (value instanceof Type) return remember(Object(value.valueOf()));
    }
    if ($.isPromise(value) || value instanceof WeakMap || value instanceof WeakSet || value instanceof WeakRef) throw notCloned(value);
    const copy = remember({});
    for (const key of $.keys(value)) copy[key] = clone(value[key], seen);
    return copy;
  };
  const structuredClone = (value) => clone(value, new Map());

  // -- performance: the engine's own begins where it was frozen ------------------------------------------------------

  let origin = 0;
  /** Begins a new time line, in a fresh isolate. */
  $.startClock = () => { origin = $.now(); };
  const performance = {
    now: () => $.now() - origin,
    get timeOrigin() { return $.dateNow() - ($.now() - origin); },
    mark: (name) => ({ name, entryType: "mark", startTime: performance.now(), duration: 0 }),
    measure: (name) => ({ name, entryType: "measure", startTime: 0, duration: performance.now() }),
    toJSON: () => ({ timeOrigin: performance.timeOrigin }),
  };
  $.defineProperty(performance, Symbol.toStringTag, { value: "Performance", configurable: true });

  $.web = { URL, URLSearchParams };
  $.globals({
    performance, URL, URLSearchParams, Event, CustomEvent, EventTarget, AbortController, AbortSignal, Headers, Request, Response, fetch, structuredClone,
    navigator: { userAgent: "casemate", platform: "linux", hardwareConcurrency: 1, language: "en" },
  });
});
