// How values look.
console.log([1, 2, 3], ["a", 'b"c', "d'e"], [[1, [2, [3, [4]]]]], {}, []);
console.log({ a: 1, "b-c": 2, 3: "x", [Symbol("s")]: true, nested: { deep: { deeper: { deepest: 1 } } } });
console.log(new Map([["a", 1], [{ k: 1 }, [1, 2]]]), new Set([1, "two", { three: 3 }]), new Map(), new Set());
console.log([undefined, null, NaN, -0, 1n, true, Symbol.iterator], [, 1, , , 2], new Array(3));
console.log(function named() {}, () => {}, class Foo {}, class Bar extends Array {}, async () => {}, function* gen() {});
class Point { constructor(x, y) { this.x = x; this.y = y; } get sum() { return this.x + this.y; } }
console.log(new Point(1, 2), [new Point(3, 4)], Object.create(null), Object.create({ inherited: 1 }));
console.log({ get a() { return 1; }, set a(v) {}, get b() { return 2; }, set c(v) {} });
const loop = { name: "loop", list: [] }; loop.self = loop; loop.list.push(loop, { loop });
console.log(loop);
console.log(Array.from({ length: 120 }, (_, i) => i));
console.log(Array.from({ length: 30 }, (_, i) => "item" + i));
console.log(Array.from({ length: 8 }, (_, i) => ({ id: i, name: "name " + i })));
console.log({ text: "line one\nline two", quote: "it's", long: "x".repeat(100) });
console.log("%s is %d years, %i, %f, %j %o %%", "Ann", 41.5, 41.9, "1.50", { a: [1] }, "s", "rest", { b: 1 });
console.log(new Date(0), /re+/gi, new Error("plain").message, [new Date(86400000)]);
console.log(new Uint8Array([1, 2, 3]), new Float64Array(2), new ArrayBuffer(4));
console.log(Object(1), Object("s"), Object(true), [Object(2n)]);
console.log({ f() {}, g: () => 1, h: class {}, u: undefined, n: null });
console.log(new (class extends Map {})([[1, 2]]), new (class Foo extends Set {})([1]));
console.log([["a", 1], ["b", 2]], { a: { b: { c: {} } } }, { a: { b: { c: { d: 1 } } } }, [[[[]]]], [[[[1]]]]);
console.log({ aaaaaaaaaaaaaaaaaaaa: 1, bbbbbbbbbbbbbbbbbbbbbbbb: 2, cccccccccccccccccccccc: 3, dddddddddddd: 4 });
console.log([1.5, 2.25, 100, -3, 7, 8, 9, 10], ["aa", "b", "cccc", "d", "eeeeee", "f", "g"]);
console.log(new Proxy([1, 2], {}), Promise.resolve === Promise.resolve, globalThis === global);
