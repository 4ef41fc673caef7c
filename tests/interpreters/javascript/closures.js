const counter = () => { let n = 0; return { up: () => ++n, get value() { return n; } }; };
const a = counter(), b = counter();
a.up(); a.up(); b.up();
console.log(a.value, b.value);
const memo = new Map();
const fib = (n) => n < 2n ? n : memo.get(n) ?? (memo.set(n, fib(n - 1n) + fib(n - 2n)), memo.get(n));
console.log(fib(150n));
const compose = (...fs) => (x) => fs.reduceRight((v, f) => f(v), x);
console.log(compose((x) => x + 1, (x) => x * 2)(5));
function* primes() { const seen = []; for (let i = 2; ; i++) if (seen.every((p) => i % p)) { seen.push(i); yield i; } }
console.log([...primes().take?.(10) ?? (() => { const out = []; for (const p of primes()) { out.push(p); if (out.length === 10) break; } return out; })()]);
