class Shape { #id = 7; static count = 0; name = "shape"; constructor() { Shape.count++; } get id() { return this.#id; } area() { return 0; } toString() { return `${this.name}:${this.area()}`; } }
class Circle extends Shape { name = "circle"; constructor(r) { super(); this.r = r; } area() { return +(Math.PI * this.r ** 2).toFixed(2); } static unit() { return new Circle(1); } }
const c = Circle.unit();
console.log(`${c}`, c.id, Shape.count, c instanceof Shape, c, Object.getOwnPropertyNames(Circle.prototype));
console.log(Object.entries({ a: 1, b: 2 }).map(([k, v]) => k + v), Object.fromEntries([["x", 1]]), { ...c, extra: true });
const { r, ...rest } = c; console.log(r, rest);
const proxy = new Proxy({}, { get: (t, k) => typeof k === "string" ? `got ${k}` : undefined }); console.log(proxy.hello);
class Temp { static #n = 0; static { this.ready = true; } static next() { return ++Temp.#n; } [Symbol.toPrimitive](hint) { return hint === "number" ? 42 : "temp"; } }
console.log(Temp.ready, Temp.next(), Temp.next(), +new Temp(), `${new Temp()}`);
try { class A { constructor() { this.x; } } A(); } catch (e) { console.log(e.name); }
console.log(Object.groupBy ? Object.groupBy([1, 2, 3], (n) => n % 2 ? "odd" : "even").odd : [1, 3]);
const sym = Symbol("desc"); console.log(sym.description, { [sym]: 1 }[sym], Reflect.ownKeys({ b: 1, a: 2, 1: 3 }));
class MyError extends Error { constructor(m, code) { super(m); this.name = "MyError"; this.code = code; } }
try { throw new MyError("oops", 5); } catch (e) { console.log(e.name, e.message, e.code, e instanceof Error, String(e), e.stack.split("\n")[0]); }
