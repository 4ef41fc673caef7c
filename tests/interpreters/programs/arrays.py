# with numpy
import numpy as np
np.set_printoptions(precision=6, suppress=True)
a = np.arange(24, dtype=np.int64).reshape(2, 3, 4)
print(a.sum(axis=(0, 2)), a[..., ::2].T.shape, a[a % 5 == 0], a.transpose(2, 0, 1)[1], np.einsum("ijk,ilk->ijl", a, a)[0])
x = np.linspace(0, 1, 7)
print(x, np.sin(x), np.cumsum(x), np.diff(x ** 2), np.where(x > 0.5, x, -x), np.clip(x, 0.2, 0.7))
print(np.concatenate([x[:2], x[-2:]]), np.stack([x[:2], x[:2] + 1]), np.tile([1.0, 2.0], 3), np.repeat([1.5, 2.5], [1, 3]), np.outer(x[:3], x[:3]))
print(np.unique(np.array([3, 1, 3, 2], dtype=np.int64), return_counts=True)[1].tolist(), np.argsort([3.0, 1.0, 2.0]).tolist(), np.searchsorted(x, 0.5).tolist(), np.histogram(x, bins=3)[0].tolist())
print(np.array([1, 2], dtype="i1") + np.int8(126), np.float32(0.1) + np.float32(0.2), np.array([1 + 2j]).conj(), np.array(["b", "aa"]), np.array([True, False]).any())
s = np.array([(1, 2.5, "x")], dtype=[("a", "i8"), ("b", "f8"), ("c", "U5")]); print(s["b"], s.dtype.names)
print(np.nanmean([1, np.nan, 3]), np.isclose(0.1 + 0.2, 0.3), np.percentile(x, [25, 50]), np.median(x), np.std(x).round(8), np.corrcoef(x, x ** 2).round(8), np.polyfit(x, 2 * x + 1, 1).round(8), np.interp(0.25, x, x ** 2).round(8))
with np.errstate(all="ignore"): print(np.array([1.0, -1.0, 0.0]) / 0, np.sqrt(-1.0))
np.save("a.npy", a); print((np.load("a.npy") == a).all()); np.savetxt("a.txt", x[:3], fmt="%.4f"); print(open("a.txt").read().split(), np.loadtxt("a.txt"))
m = np.ma.masked_array([1.0, 2.0, 3.0], mask=[False, True, False]); print(m.mean(), m.filled(-1))
for go in (lambda: np.zeros(3) + np.zeros(4), lambda: np.array([1.0])[5], lambda: np.linalg.inv(np.zeros((2, 2)))):
    try: go()
    except Exception as problem: print(type(problem).__name__, problem)
print(np.datetime64("2024-02-28") + np.timedelta64(2, "D"), np.arange("2024-01", "2024-04", dtype="datetime64[M]"), np.fft.fft([1.0, 0, 0, 0]), np.convolve([1.0, 2], [1.0, 1]))
