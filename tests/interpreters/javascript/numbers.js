console.log(0.1 + 0.2, 1e21, 1e-7, 123456789012345680000, -1e-7, 2 ** 53, 5 % -3, -5 % 3, 7 / 2 | 0, ~~-3.7, 1 / -0);
console.log(Math.max(), Math.hypot(3, 4), Math.sign(-2), Math.cbrt(27), Math.fround(5.5), Math.clz32(1), Math.imul(3, 4), Math.trunc(-4.7), Math.log2(8), Math.atan2(1, 1));
console.log((25).toString(2), (0.5).toString(3).slice(0, 10), (1234.5678).toExponential(2), (0.000001234).toPrecision(2), (1e100).toFixed(2).length, Number.MAX_SAFE_INTEGER, Number.EPSILON > 0);
console.log(2n ** 100n, -7n / 2n, BigInt.asUintN(8, 257n), BigInt("0xff"), 10n > 9, typeof 1n, 123456789n * 987654321n, (2n ** 64n).toString(36));
console.log(Number.isInteger(5.0), Number.parseFloat("3.14abc"), [10, 9, 1].sort(), [..."3142"].map(Number).reduce((a, b) => a + b), parseInt("101", 2), +"0b11", 0o17, 1_000);
const sieve = (n) => { const p = new Uint8Array(n + 1).fill(1); for (let i = 2; i * i <= n; i++) if (p[i]) for (let j = i * i; j <= n; j += i) p[j] = 0; return p.reduce((c, v, i) => c + (i > 1 && v), 0); };
console.log(sieve(100000));
const m = (a, b) => a.map((r) => b[0].map((_, j) => r.reduce((s, v, k) => s + v * b[k][j], 0))); console.log(m([[1, 2], [3, 4]], [[5, 6], [7, 8]]));
const r = Math.random(), q = Math.random(); console.log(r >= 0 && r < 1 && r !== q, new Float32Array([0.1])[0], new Int8Array([200])[0], new Uint8ClampedArray([300])[0]);
