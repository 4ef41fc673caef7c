# with scipy, numpy
import numpy as np
from scipy import cluster, constants, fft, integrate, interpolate, ndimage, optimize, signal, spatial, special, stats
np.set_printoptions(precision=6, suppress=True)
print(f"{integrate.quad(lambda x: np.exp(-x * x), -np.inf, np.inf)[0]:.10f}", integrate.solve_ivp(lambda t, y: [y[1], -y[0]], (0, np.pi), [0, 1], rtol=1e-9, atol=1e-9).y[:, -1].round(6) + 0, f"{integrate.simpson([0, 1, 4, 9, 16.0], dx=1):.6f}")
print(f"{optimize.brentq(lambda x: x ** 3 - 2, 0, 2):.10f}", optimize.minimize(optimize.rosen, [1.3, 0.7, 0.8], method="BFGS", jac=optimize.rosen_der).x.round(5), optimize.linprog([-1, -2], A_ub=[[1, 1], [1, 3]], b_ub=[4, 6]).x.round(6), optimize.curve_fit(lambda x, a, b: a * np.exp(b * x), np.arange(5.0), 2 * np.exp(0.3 * np.arange(5.0)))[0].round(6))
rng = np.random.default_rng(3); a, b = rng.normal(0, 1, 50), rng.normal(0.5, 1, 60)
t = stats.ttest_ind(a, b); print(f"{t.statistic:.8f} {t.pvalue:.8f}", f"{stats.pearsonr(a, a ** 3)[0]:.8f}", f"{stats.norm.ppf(0.975):.8f} {stats.t.cdf(1.5, 8):.8f} {stats.chi2.sf(3, 2):.8f} {stats.binom.pmf(3, 10, 0.3):.8f}", f"{stats.mannwhitneyu(a, b).pvalue:.8f} {stats.shapiro(a).statistic:.6f} {stats.linregress(a, a * 2 + 1).slope:.6f}")
print(special.gamma(5.5).round(8), special.erf(0.3).round(8), special.jv(1, 2.0).round(8), special.comb(10, 3), interpolate.CubicSpline([0, 1, 2, 3], [0, 1, 8, 27])(1.5).round(6), interpolate.interp1d([0, 1], [5, 7])(0.25))
f = signal.butter(3, 0.2); print(f[0], f[1], signal.find_peaks([0, 1, 0, 3, 0, 2.0])[0].tolist(), np.abs(fft.rfft(np.sin(2 * np.pi * 5 * np.arange(64) / 64))).argmax(), signal.convolve2d(np.eye(2), np.ones((2, 2))))
print(spatial.ConvexHull([[0, 0], [1, 0], [1, 1], [0, 1], [0.5, 0.5]]).volume, spatial.KDTree([[0, 0], [3, 4.0]]).query([3, 3])[0], spatial.distance.cdist([[0, 0]], [[3, 4]]), ndimage.gaussian_filter(np.eye(3), 1).round(5), ndimage.label([[1, 0, 1]])[1])
print(cluster.hierarchy.linkage([[0.0], [1], [5], [6.5]])[:, 2], cluster.vq.kmeans(np.array([[0.0], [0.1], [5], [5.1]]), np.array([[0.0], [5]]))[0].ravel(), constants.c, spatial.transform.Rotation.from_euler("z", 90, degrees=True).apply([1, 0, 0]).round(6))
