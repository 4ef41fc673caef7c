// `Buffer`: bytes with the methods that programs written for Node expect of them.
casemate$part(($) => {
  "use strict";
  const { asBytes, encode, decode, binary, latin1, base64, unbase64, fromCharCode } = $;
  const HEX = "0123456789abcdef";

  const hex = (bytes) => {
    let text = "";
    for (let i = 0; i < bytes.length; i++) text += HEX[bytes[i] >> 4] + HEX[bytes[i] & 15];
    return text;
  };
  const unhex = (text) => {
    const bytes = new Uint8Array($.floor(text.length / 2));
    for (let i = 0; i < bytes.length; i++) {
      const byte = parseInt($.slice(text, 2 * i, 2 * i + 2), 16);
      if (!(byte >= 0)) return $.subarray(bytes, 0, i);
      bytes[i] = byte;
    }
    return bytes;
  };
  const utf16 = (text) => {
    const bytes = new Uint8Array(2 * text.length);
    for (let i = 0; i < text.length; i++) {
      const unit = $.charCodeAt(text, i);
      bytes[2 * i] = unit;
      bytes[2 * i + 1] = unit >> 8;
    }
    return bytes;
  };
  const unutf16 = (bytes) => {
    let text = "";
    for (let i = 0; i + 1 < bytes.length; i += 2) text += fromCharCode(bytes[i] | (bytes[i + 1] << 8));
    return text;
  };

  const NAMES = {
    __proto__: null, utf8: "utf8", "utf-8": "utf8", hex: "hex", base64: "base64", base64url: "base64url", latin1: "latin1",
    binary: "latin1", ascii: "ascii", utf16le: "utf16le", "utf-16le": "utf16le", ucs2: "utf16le", "ucs-2": "utf16le",
  };
  const encodingOf = (given) => {
    if (given === undefined || given === null) return "utf8";
    const known = NAMES[$.toLowerCase(`${given}`)];
    if (known !== undefined) return known;
    const problem = new $.TypeError(`Unknown encoding: ${given}`);
    problem.code = "ERR_UNKNOWN_ENCODING";
    throw problem;
  };

  /** The bytes of a text in an encoding. */
  $.bytesOf = (text, encoding) => {
    switch (encodingOf(encoding)) {
      case "hex": return unhex(text);
      case "base64": case "base64url": return unbase64(text);
      case "latin1": case "ascii": return $.latin1(text);
      case "utf16le": return utf16(text);
      default: return encode(text);
    }
  };
  /** The text of bytes in an encoding. */
  $.textOf = (bytes, encoding) => {
    switch (encodingOf(encoding)) {
      case "hex": return hex(bytes);
      case "base64": return base64(bytes);
      case "base64url": return $.replace($.replaceAll($.replaceAll(base64(bytes), "+", "-"), "/", "_"), /=+$/, "");
      case "latin1": return binary(bytes);
      case "ascii": return binary(bytes.map((byte) => byte & 127));
      case "utf16le": return unutf16(bytes);
      default: return decode(bytes);
    }
  };

  class Buffer extends Uint8Array {
    static from(source, encoding, length) {
      if (typeof source === "string") {
        const bytes = $.bytesOf(source, encoding);
        return new Buffer(bytes.buffer, bytes.byteOffset, bytes.length);
      }
      if (source instanceof ArrayBuffer || source instanceof SharedArrayBuffer) return new Buffer(source, encoding, length);
      if (source?.type === "Buffer" && $.isArray(source.data)) source = source.data;
      if (typeof source === "object" && source !== null) {
        const bytes = new Buffer(source.length ?? 0);
        for (let i = 0; i < bytes.length; i++) bytes[i] = source[i];
        return bytes;
      }
      const problem = new $.TypeError("The first argument must be of type string or an instance of Buffer, ArrayBuffer, or Array or an " +
        `Array-like Object. Received ${$.inspect(source)}`);
      problem.code = "ERR_INVALID_ARG_TYPE";
      throw problem;
    }
    static alloc(size, fill, encoding) {
      const bytes = new Buffer(size);
      return fill === undefined ? bytes : bytes.fill(fill, encoding);
    }
    static allocUnsafe(size) { return new Buffer(size); }
    static isBuffer(value) { return value instanceof Buffer; }
    static isEncoding(name) { return NAMES[`${name}`.toLowerCase()] !== undefined; }
    static byteLength(value, encoding) { return typeof value === "string" ? $.bytesOf(value, encoding).length : value.byteLength; }
    static concat(list, size) {
      size ??= list.reduce((sum, one) => sum + one.length, 0);
      const whole = new Buffer(size);
      let at = 0;
      for (const one of list) {
        const part = one.length > size - at ? one.subarray(0, size - at) : one;
        whole.set(part, at);
        at += part.length;
      }
      return whole;
    }
    static compare(a, b) {
      for (let i = 0; i < $.min(a.length, b.length); i++) if (a[i] !== b[i]) return a[i] < b[i] ? -1 : 1;
      return a.length === b.length ? 0 : a.length < b.length ? -1 : 1;
    }

    toString(encoding, start = 0, end = this.length) { return $.textOf(this.subarray(start, end), encoding); }
    toJSON() { return { type: "Buffer", data: [...this] }; }
    equals(other) { return Buffer.compare(this, other) === 0; }
    compare(other) { return Buffer.compare(this, other); }
    slice(start, end) { return this.subarray(start, end); }
    write(text, offset = 0, length, encoding) {
      if (typeof offset === "string") [offset, encoding] = [0, offset];
      else if (typeof length === "string") [length, encoding] = [undefined, length];
      const bytes = $.bytesOf(text, encoding);
      const count = $.min(bytes.length, this.length - offset, length ?? Infinity);
      this.set(bytes.subarray(0, count), offset);
      return count;
    }
    copy(target, at = 0, start = 0, end = this.length) {
      const part = this.subarray(start, $.min(end, start + target.length - at));
      target.set(part, at);
      return part.length;
    }
    fill(value, start, end, encoding) {
      if (typeof value !== "string") return super.fill(value, start, end);
      if (typeof start === "string") [encoding, start] = [start, undefined];
      const bytes = $.bytesOf(value, encoding);
      for (let i = start ?? 0, from = i; i < (end ?? this.length); i++) this[i] = bytes.length ? bytes[(i - from) % bytes.length] : 0;
      return this;
    }
    #find(value, at, encoding, last) {
      if (typeof value === "number") return last ? super.lastIndexOf(value, at) : super.indexOf(value, at);
      const bytes = typeof value === "string" ? $.bytesOf(value, encoding) : value;
      const step = last ? -1 : 1;
      for (let i = last ? $.min(at ?? Infinity, this.length - bytes.length) : at ?? 0; i >= 0 && i + bytes.length <= this.length; i += step) {
        let j = 0;
        while (j < bytes.length && this[i + j] === bytes[j]) j++;
        if (j === bytes.length) return i;
      }
      return -1;
    }
    indexOf(value, at, encoding) { return this.#find(value, at, encoding, false); }
    lastIndexOf(value, at, encoding) { return this.#find(value, at, encoding, true); }
    includes(value, at, encoding) { return this.indexOf(value, at, encoding) !== -1; }
    [Symbol.for("nodejs.util.inspect.custom")]() {
      let text = "";
      for (let i = 0; i < $.min(this.length, 50); i++) text += ` ${HEX[this[i] >> 4]}${HEX[this[i] & 15]}`;
      if (this.length > 50) text += ` ... ${this.length - 50} more byte${this.length > 51 ? "s" : ""}`;
      return `<Buffer${text}>`;
    }
  }

  // readUInt8, writeInt32LE, readDoubleBE and so on.
  const view = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const numbers = [["UInt8", "Uint8", 1], ["Int8", "Int8", 1], ["UInt16", "Uint16", 2], ["Int16", "Int16", 2], ["UInt32", "Uint32", 4],
    ["Int32", "Int32", 4], ["Float", "Float32", 4], ["Double", "Float64", 8], ["BigInt64", "BigInt64", 8], ["BigUInt64", "BigUint64", 8]];
  for (const [name, type, size] of numbers) {
    for (const order of size === 1 ? [""] : ["LE", "BE"]) {
      const read = function (offset = 0) { return view(this)[`get${type}`](offset, order === "LE"); };
      const write = function (value, offset = 0) {
        view(this)[`set${type}`](offset, value, order === "LE");
        return offset + size;
      };
      for (const alias of name.startsWith("UInt") || name === "BigUInt64" ? [name, name.replace("UInt", "Uint")] : [name]) {
        $.defineProperty(Buffer.prototype, `read${alias}${order}`, { value: read, writable: true, configurable: true });
        $.defineProperty(Buffer.prototype, `write${alias}${order}`, { value: write, writable: true, configurable: true });
      }
    }
  }

  const atob = (text) => {
    text = $.replace(`${text}`, /[\t\n\f\r ]/g, "");
    if (text.length % 4 === 0) text = $.replace(text, /==?$/, "");
    if (text.length % 4 === 1 || $.exec(/[^A-Za-z0-9+/]/, text) !== null) {
      throw new DOMException("The string to be decoded is not correctly encoded.", "InvalidCharacterError");
    }
    return binary(unbase64(text));
  };
  const btoa = (text) => {
    text = `${text}`;
    if ($.exec(/[^\x00-\xff]/, text) !== null) throw new DOMException("Invalid character", "InvalidCharacterError");
    return base64(latin1(text));
  };
  $.Buffer = Buffer;
  $.globals({ Buffer, atob, btoa });
});
