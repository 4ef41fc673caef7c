class Range { constructor(a, b) { this.a = a; this.b = b; } *[Symbol.iterator]() { for (let i = this.a; i < this.b; i++) yield i; } }
console.log([...new Range(1, 5)], Math.max(...new Range(0, 10)), Array.from(new Range(0, 3), (x) => x * x));
function* tree(n) { if (n) { yield* tree(n.l); yield n.v; yield* tree(n.r); } }
console.log([...tree({ v: 4, l: { v: 2, l: { v: 1 } }, r: { v: 6 } })]);
const it = (function* () { const x = yield 1; try { yield x * 2; } finally { console.log("cleanup"); } })(); console.log(it.next(), it.next(21), it.return(9), it.next());
const [first, , third = "default", ...others] = "abcdef"; console.log(first, third, others);
const { a: { b: deep = 5 } = {}, ...remaining } = { c: 1, d: 2 }; console.log(deep, remaining);
label: for (let i = 0; i < 3; i++) for (let j = 0; j < 3; j++) { if (j === 1) continue label; if (i === 2) break label; console.log(i, j); }
console.log([..."ab"].entries().toString(), typeof it[Symbol.iterator], Object.entries([7, 8]), new Map(Object.entries({ k: 1 })), [...new Map([[1, 2]]).keys()]);
