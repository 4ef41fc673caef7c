import { readFileSync, writeFileSync } from "node:fs";
import path, { join as joinPaths } from "path";
import * as util from "node:util";
import assert from "assert";
import { EventEmitter } from "events";
writeFileSync("lib.mjs", "import { base } from './base.mjs';\nexport const total = base + 2;\nexport default (x) => x * total;\n");
writeFileSync("base.mjs", "export const base = 40;\n");
writeFileSync("data.json", '{"list":[1,2,3]}');
writeFileSync("old.cjs", "exports.twice = (x) => 2 * x; exports.here = require('path').basename(__filename);");
const lib = await import("./lib.mjs");
console.log(lib.total, lib.default(2), (await import("./lib.mjs")) === lib);
console.log(require("./old.cjs").twice(21), require("./old.cjs").here, require("./data.json").list);
console.log(joinPaths("a", "..", "b"), path.sep, util.format("%s-%d", "x", 5), util.inspect({ a: [1] }), util.isDeepStrictEqual([1, { a: 2 }], [1, { a: 2 }]));
assert.strictEqual(1, 1); assert.deepStrictEqual({ a: [1] }, { a: [1] }); assert.throws(() => { throw new TypeError("t"); }, TypeError);
try { assert.equal(1, 2); } catch (e) { console.log(e.name, e.code, e.message); }
const em = new EventEmitter(); em.once("x", (v) => console.log("once", v)); em.on("x", (v) => console.log("on", v)); console.log(em.emit("x", 1), em.emit("x", 2), em.emit("y"));
console.log(readFileSync("data.json", "utf8").length, typeof util.promisify);
