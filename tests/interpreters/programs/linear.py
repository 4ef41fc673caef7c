# with numpy, scipy
import numpy as np
from scipy import linalg, sparse
from scipy.sparse.linalg import spsolve
np.set_printoptions(precision=6, suppress=True)
rng = np.random.default_rng(42)
print(rng.random(3), rng.normal(size=2), rng.integers(0, 100, 5, dtype=np.int64), rng.choice(["a", "b", "c"], 4), rng.permutation(np.arange(5, dtype=np.int64)))
old = np.random.RandomState(7); print(old.rand(3), old.randn(2))
a = rng.normal(size=(5, 5)); b = a @ a.T + np.eye(5)
print(np.abs(np.linalg.solve(b, b @ np.ones(5)) - 1).max() < 1e-10, np.linalg.det(b).round(5), np.linalg.eigvalsh(b), np.linalg.matrix_rank(b), np.linalg.norm(b).round(6))
u, s, v = np.linalg.svd(a); print(s, np.allclose(u * s @ v, a)); q, r = np.linalg.qr(a); print(np.allclose(q @ r, a), np.allclose(q.T @ q, np.eye(5)))
print(linalg.cholesky(b, lower=True).diagonal(), np.allclose(linalg.expm(linalg.logm(b)), b), linalg.lu(a)[2].diagonal().round(6), np.allclose(linalg.pinv(a) @ a, np.eye(5)))
m = sparse.diags([[-1.0] * 9, [2.0] * 10, [-1.0] * 9], [-1, 0, 1]).tocsc(); print(spsolve(m, np.ones(10)), m.nnz)
print(np.linalg.lstsq(np.c_[np.ones(5), np.arange(5.0)], np.array([1, 3, 5, 7, 9.5]), rcond=None)[0])
