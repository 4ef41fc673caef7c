# with pandas, numpy
import numpy as np
import pandas as pd
rng = np.random.default_rng(1)
n = 1000
df = pd.DataFrame({"k": rng.choice(list("abcd"), n), "g": rng.integers(0, 3, n, dtype=np.int64), "v": rng.normal(10, 2, n).round(3)})
print(df.groupby("k").v.agg(["count", "mean", "min", "max", "std"]).round(6), df.groupby(["k", "g"]).v.sum().unstack().round(4), sep="\n")
print(df.pivot_table(index="k", columns="g", values="v", aggfunc="median", margins=True).round(4), pd.crosstab(df.k, df.g), sep="\n")
print(df.groupby("k").v.transform(lambda x: x - x.mean()).round(4).head(), df.groupby("k").apply(lambda x: x.v.quantile(0.9)).round(4), df.v.rolling(3).mean().round(4).iloc[:5].tolist(), df.v.expanding().max().iloc[::300].tolist(), sep="\n")
left = pd.DataFrame({"k": list("abx"), "l": [1, 2, 3]}); right = pd.DataFrame({"k": list("abby"), "r": [1.5, 2.5, 3.5, 4.5]})
for how in ("inner", "left", "outer"): print(left.merge(right, on="k", how=how))
print(pd.concat([left, right], ignore_index=True), left.join(right.set_index("k"), on="k").shape, df.groupby("g").v.nlargest(1).round(3).tolist(), df.corr(numeric_only=True).round(6), sep="\n")
