// UTF-8, Base64 and TextEncoder/TextDecoder, on what the engine does natively.
casemate$part(($) => {
  "use strict";
  const { exec, fromCharCode, apply, subarray, Uint8Array, bjson, ArrayBuffer, TypeError, RangeError } = $;
  const NOT_ASCII = /[^\x00-\x7f]/;
  const NOT_LATIN1 = /[^\x00-\xff]/;

  /** The bytes of a string of characters below 256. */
  const latin1 = (text) => {
    const { length } = text;
    if (length > 64) {
      // What the engine writes of a narrow string ends with its bytes as they are.
      const written = bjson.write(text);
      const start = written.byteLength - length;
      if (start > 0 && start < 16) return new Uint8Array(written, start, length);
    }
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i++) bytes[i] = $.charCodeAt(text, i);
    return bytes;
  };

  /** The UTF-8 of a string; lone surrogates become U+FFFD. */
  const encode = (text) => {
    if (exec(NOT_ASCII, text) === null) return latin1(text);
    return latin1($.unescape($.encodeURIComponent($.toWellFormed(text))));
  };

  /** One character below 256 for each byte. */
  const binary = (bytes) => {
    const { length } = bytes;
    if (length <= 8192) return apply(fromCharCode, null, bytes);
    let text = "";
    for (let at = 0; at < length; at += 8192) {
      text += apply(fromCharCode, null, subarray(bytes, at, $.min(at + 8192, length)));
    }
    return text;
  };

  // What is no UTF-8 becomes U+FFFD, one for each maximal part of a character, as the standard has it.
  const decodeSlowly = (bytes) => {
    let text = "";
    const { length } = bytes;
    let i = 0;
    while (i < length) {
      const first = bytes[i++];
      if (first < 0x80) {
        text += fromCharCode(first);
        continue;
      }
      let more = 0, low = 0x80, high = 0xbf, code = 0;
      if (first >= 0xc2 && first <= 0xdf) { more = 1; code = first & 0x1f; }
      else if (first >= 0xe0 && first <= 0xef) {
        more = 2; code = first & 0xf;
        if (first === 0xe0) low = 0xa0;
        if (first === 0xed) high = 0x9f;
      } else if (first >= 0xf0 && first <= 0xf4) {
        more = 3; code = first & 7;
        if (first === 0xf0) low = 0x90;
        if (first === 0xf4) high = 0x8f;
      }
      let whole = more > 0;
      for (; more > 0; more--) {
        if (i >= length || bytes[i] < low || bytes[i] > high) {
          whole = false;
          break;
        }
        code = (code << 6) | (bytes[i++] & 0x3f);
        low = 0x80;
        high = 0xbf;
      }
      if (!whole) text += "\ufffd";
      else if (code < 0x10000) text += fromCharCode(code);
      else text += fromCharCode(0xd800 + ((code - 0x10000) >> 10), 0xdc00 + ((code - 0x10000) & 0x3ff));
    }
    return text;
  };

  /** The string of UTF-8 bytes. `fatal` throws a TypeError where they are none, else U+FFFD stands for it. */
  const decode = (bytes, fatal) => {
    const text = binary(bytes);
    if (exec(NOT_ASCII, text) === null) return text;
    try {
      return $.decodeURIComponent($.escape(text));
    } catch {
      if (fatal) throw new TypeError("The encoded data was not valid for encoding utf-8");
      return decodeSlowly(bytes);
    }
  };

  const asBytes = (source, what) => {
    if ($.isView(source)) return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
    if (source instanceof ArrayBuffer || source instanceof SharedArrayBuffer) return new Uint8Array(source);
    throw new TypeError(`${what} must be a typed array, a DataView or an ArrayBuffer`);
  };

  const BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const base64 = (bytes) => {
    let text = "";
    const { length } = bytes;
    for (let i = 0; i < length; i += 3) {
      const word = (bytes[i] << 16) | ((bytes[i + 1] ?? 0) << 8) | (bytes[i + 2] ?? 0);
      text += BASE64[word >> 18] + BASE64[(word >> 12) & 63] +
        (i + 1 < length ? BASE64[(word >> 6) & 63] : "=") + (i + 2 < length ? BASE64[word & 63] : "=");
    }
    return text;
  };

  const SIXBITS = $.create(null);
  for (let i = 0; i < 64; i++) SIXBITS[BASE64[i]] = i;
  SIXBITS["-"] = 62;
  SIXBITS["_"] = 63;
  /** The bytes of Base64, of either alphabet; other characters are passed over. */
  const unbase64 = (text) => {
    const bytes = new Uint8Array($.floor(text.length * 3 / 4) + 3);
    let at = 0, word = 0, bits = 0;
    for (let i = 0; i < text.length; i++) {
      const six = SIXBITS[text[i]];
      if (six === undefined) {
        if (text[i] === "=") break;
        continue;
      }
      word = (word << 6) | six;
      bits += 6;
      if (bits >= 8) {
        bits -= 8;
        bytes[at++] = (word >> bits) & 255;
      }
    }
    return subarray(bytes, 0, at);
  };

  class TextEncoder {
    get encoding() { return "utf-8"; }
    encode(text = "") {
      const bytes = encode(`${text}`);
      // A view of its own: callers read `.buffer`.
      return bytes.byteOffset === 0 ? bytes : new Uint8Array(bytes);
    }
    encodeInto(text, target) {
      text = `${text}`;
      let read = 0, written = 0;
      while (read < text.length) {
        const unit = $.charCodeAt(text, read);
        const pair = unit >= 0xd800 && unit < 0xdc00 && read + 1 < text.length &&
          ($.charCodeAt(text, read + 1) & 0xfc00) === 0xdc00;
        const bytes = encode($.slice(text, read, read + (pair ? 2 : 1)));
        if (written + bytes.length > target.length) break;
        $.setBytes(target, bytes, written);
        written += bytes.length;
        read += pair ? 2 : 1;
      }
      return { read, written };
    }
  }

  const LABELS = {
    __proto__: null, "utf-8": "utf-8", utf8: "utf-8", "unicode-1-1-utf-8": "utf-8", "utf-16le": "utf-16le", "utf-16": "utf-16le",
    ucs2: "utf-16le", "latin1": "windows-1252", "iso-8859-1": "windows-1252", ascii: "windows-1252", "us-ascii": "windows-1252",
    "windows-1252": "windows-1252",
  };
  class TextDecoder {
    #encoding; #fatal; #keepMark; #rest = null; #begun = false;
    constructor(label = "utf-8", options = {}) {
      this.#encoding = LABELS[$.toLowerCase($.trim(`${label}`))];
      if (this.#encoding === undefined) {
        throw new RangeError(`The "${label}" encoding is not supported: there are utf-8, utf-16le and latin1`);
      }
      this.#fatal = !!options?.fatal;
      this.#keepMark = !!options?.ignoreBOM;
    }
    get encoding() { return this.#encoding; }
    get fatal() { return this.#fatal; }
    get ignoreBOM() { return this.#keepMark; }
    decode(input, options) {
      let bytes = input === undefined ? new Uint8Array(0) : asBytes(input, "The input");
      const stream = !!options?.stream;
      if (this.#rest !== null) {
        const both = new Uint8Array(this.#rest.length + bytes.length);
        $.setBytes(both, this.#rest, 0);
        $.setBytes(both, bytes, this.#rest.length);
        bytes = both;
        this.#rest = null;
      }
      let end = bytes.length;
      if (stream) {
        if (this.#encoding === "utf-16le") end -= end % 2;
        // A character that is not whole yet waits for the rest of it.
        else if (this.#encoding === "utf-8") {
          for (let back = 1; back <= 3 && back <= end; back++) {
            const byte = bytes[end - back];
            if (byte < 0x80) break;
            if (byte >= 0xc0) {
              if ((byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2) > back) end -= back;
              break;
            }
          }
        }
        if (end < bytes.length) this.#rest = new Uint8Array(subarray(bytes, end));
      }
      let text;
      if (this.#encoding === "utf-8") text = decode(subarray(bytes, 0, end), this.#fatal);
      else if (this.#encoding === "windows-1252") text = binary(subarray(bytes, 0, end));
      else {
        text = "";
        for (let i = 0; i + 1 < end; i += 2) text += fromCharCode(bytes[i] | (bytes[i + 1] << 8));
        if (end % 2) {
          if (this.#fatal) throw new TypeError("The encoded data was not valid for encoding utf-16le");
          text += "\ufffd";
        }
      }
      if (!this.#begun && !this.#keepMark && text[0] === "\ufeff") text = $.slice(text, 1);
      this.#begun = stream;
      return text;
    }
  }
  $.tag(TextEncoder, "TextEncoder");
  $.tag(TextDecoder, "TextDecoder");

  $.encode = encode;
  $.decode = decode;
  $.binary = binary;
  $.latin1 = (text) => {
    if (exec(NOT_LATIN1, text) !== null) text = $.replace(text, /[^\x00-\xff]/g, (one) => fromCharCode($.charCodeAt(one, 0) & 255));
    return latin1(text);
  };
  $.asBytes = asBytes;
  $.base64 = base64;
  $.unbase64 = unbase64;
  $.globals({ TextEncoder, TextDecoder });
});
