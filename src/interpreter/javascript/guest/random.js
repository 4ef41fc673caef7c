// Randomness. The engine's own generator would go on from where it was frozen, the same in every isolate, so
// `Math.random` is one that takes its seed from the host, anew after each start, fork and return.
casemate$part(($) => {
  "use strict";
  const { Uint8Array, TypeError } = $;
  const imul = Math.imul;
  let seeded = false;
  let a = 0, b = 0, c = 0, d = 0;

  /** Bytes from the host. */
  $.randomBytes = (size) => {
    const bytes = new Uint8Array(size);
    for (let at = 0; at < size;) {
      const [, some] = $.ask({ m: "random", size: $.min(size - at, 1 << 16) });
      $.setBytes(bytes, some, at);
      at += some.length;
    }
    return bytes;
  };
  // Seeded when somebody asks: most runs never do.
  $.reseed = () => {
    seeded = false;
  };
  const seed = () => {
    const bytes = $.randomBytes(16);
    const word = (at) => bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
    a = word(0) | 1;
    b = word(4);
    c = word(8);
    d = word(12);
    seeded = true;
  };
  // xoshiro128**
  const next = () => {
    const five = imul(b, 5);
    const result = imul((five << 7) | (five >>> 25), 9) >>> 0;
    const shifted = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= shifted;
    d = (d << 11) | (d >>> 21);
    return result;
  };
  const random = () => {
    if (!seeded) seed();
    return ((next() >>> 5) * 67108864 + (next() >>> 6)) / 9007199254740992;
  };
  $.defineProperty(Math, "random", { value: { random() { return random(); } }.random, writable: true, configurable: true });

  const uuid = () => {
    const bytes = $.randomBytes(16);
    bytes[6] = (bytes[6] & 15) | 64;
    bytes[8] = (bytes[8] & 63) | 128;
    const text = $.textOf(bytes, "hex");
    return `${$.slice(text, 0, 8)}-${$.slice(text, 8, 12)}-${$.slice(text, 12, 16)}-${$.slice(text, 16, 20)}-${$.slice(text, 20)}`;
  };
  const crypto = {
    getRandomValues(array) {
      if (!$.isView(array) || array instanceof Float32Array || array instanceof Float64Array || array instanceof DataView) {
        throw new TypeError("crypto.getRandomValues() takes a typed array of integers");
      }
      if (array.byteLength > 65536) {
        throw new DOMException(`crypto.getRandomValues() gives at most 65536 bytes at a time, asked for ${array.byteLength}`, "QuotaExceededError");
      }
      $.setBytes(new Uint8Array(array.buffer, array.byteOffset, array.byteLength), $.randomBytes(array.byteLength), 0);
      return array;
    },
    randomUUID: uuid,
  };
  $.defineProperty(crypto, Symbol.toStringTag, { value: "Crypto", configurable: true });
  $.crypto = crypto;
  $.globals({ crypto });
});
