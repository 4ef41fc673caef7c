"use strict";
// The first of the guest scripts. They are evaluated once, in the order of `SCRIPTS` in mod.rs, and then frozen
// into the image; `$` holds what they share and is out of reach of user code.
//
// User code and these scripts live in one realm, so every built-in that a turn depends on is bound here before
// user code can replace it. Breaking them anyway only spoils the breaker's own session.
{
  const uncurry = Function.prototype.bind.bind(Function.prototype.call);
  const { std, os, bjson } = globalThis;
  for (const name of ["std", "os", "bjson", "print", "scriptArgs", "execArgv", "argv0", "gc", "console", "navigator"]) {
    delete globalThis[name];
  }
  const $ = {
    __proto__: null,
    std, os, bjson, uncurry,
    parse: JSON.parse, stringify: JSON.stringify,
    apply: Reflect.apply, ownKeys: Reflect.ownKeys,
    getPrototypeOf: Object.getPrototypeOf, defineProperty: Object.defineProperty,
    getOwn: Object.getOwnPropertyDescriptor, keys: Object.keys, create: Object.create,
    hasOwn: Object.hasOwn, isArray: Array.isArray, isView: ArrayBuffer.isView,
    floor: Math.floor, min: Math.min, max: Math.max, sqrt: Math.sqrt, round: Math.round, trunc: Math.trunc,
    String, Number, Object, Error, TypeError, RangeError, SyntaxError, Promise, Map, Set, Date, Symbol, Proxy,
    Uint8Array, ArrayBuffer, BigInt, RegExp, Array,
    escape, unescape, encodeURIComponent, decodeURIComponent,
    fromCharCode: String.fromCharCode,
    // Milliseconds of a clock that never goes back.
    now: () => os.now() / 1000, dateNow: Date.now,
    charCodeAt: uncurry(String.prototype.charCodeAt), slice: uncurry(String.prototype.slice),
    indexOf: uncurry(String.prototype.indexOf), lastIndexOf: uncurry(String.prototype.lastIndexOf),
    includes: uncurry(String.prototype.includes),
    startsWith: uncurry(String.prototype.startsWith), endsWith: uncurry(String.prototype.endsWith),
    split: uncurry(String.prototype.split), repeat: uncurry(String.prototype.repeat),
    padStart: uncurry(String.prototype.padStart), padEnd: uncurry(String.prototype.padEnd),
    replace: uncurry(String.prototype.replace), replaceAll: uncurry(String.prototype.replaceAll),
    toWellFormed: uncurry(String.prototype.toWellFormed), trim: uncurry(String.prototype.trim),
    toLowerCase: uncurry(String.prototype.toLowerCase),
    exec: uncurry(RegExp.prototype.exec),
    join: uncurry(Array.prototype.join), sort: uncurry(Array.prototype.sort), arraySlice: uncurry(Array.prototype.slice),
    splice: uncurry(Array.prototype.splice),
    subarray: uncurry(Uint8Array.prototype.subarray), setBytes: uncurry(Uint8Array.prototype.set),
    byteIndexOf: uncurry(Uint8Array.prototype.indexOf),
    mapGet: uncurry(Map.prototype.get), mapSet: uncurry(Map.prototype.set), mapHas: uncurry(Map.prototype.has),
    mapDelete: uncurry(Map.prototype.delete), mapClear: uncurry(Map.prototype.clear),
    then: uncurry(Promise.prototype.then),
    toISOString: uncurry(Date.prototype.toISOString), getTime: uncurry(Date.prototype.getTime),
    numberToString: uncurry(Number.prototype.toString), toFixed: uncurry(Number.prototype.toFixed),
    symbolToString: uncurry(Symbol.prototype.toString),
    functionToString: uncurry(Function.prototype.toString),
    objectToString: uncurry(Object.prototype.toString),
    dirty: false,
  };

  /** Whether a pattern matches; `RegExp.prototype.test` would go through what user code can replace. */
  $.matches = (pattern, text) => {
    pattern.lastIndex = 0;
    return $.exec(pattern, text) !== null;
  };

  /** Adds globals the way built-in ones are: there, replaceable, not listed. */
  $.globals = (values) => {
    for (const name of $.keys(values)) {
      $.defineProperty(globalThis, name, { value: values[name], writable: true, enumerable: false, configurable: true });
    }
  };

  /** Names a method-bearing class so that `Object.prototype.toString` tells it. */
  $.tag = (type, name) => {
    $.defineProperty(type.prototype, Symbol.toStringTag, { value: name, configurable: true });
  };

  globalThis.casemate$part = (part) => { part($); };
}
