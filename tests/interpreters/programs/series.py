# with pandas, numpy
import numpy as np
import pandas as pd
t = pd.date_range("2024-02-27", periods=10, freq="D", tz="UTC")
s = pd.Series(np.arange(10.0), index=t)
print(s.resample("3D").sum(), s["2024-02-29":"2024-03-02"], s.shift(1).fillna(0).head(3), s.pct_change().round(4).iloc[2:5], sep="\n")
print(t.day_name()[:3].tolist(), t.tz_convert("Asia/Kolkata")[0].isoformat(), (t[1] - t[0]).total_seconds(), pd.Timestamp("2024-03-31") + pd.offsets.MonthEnd(1), pd.Timedelta("1 days 2 hours") * 2)
print(pd.to_datetime(["2024-01-05", "05/02/2024"], format="mixed", dayfirst=False).strftime("%d %b").tolist(), pd.period_range("2024Q1", periods=3, freq="Q").astype(str).tolist(), pd.bdate_range("2024-03-01", periods=3).strftime("%a").tolist())
print(s.groupby(s.index.month).mean(), s.ewm(span=3).mean().round(5).tail(2), s.asof(pd.Timestamp("2024-03-01 12:00", tz="UTC")), s.interpolate().iloc[-1], sep="\n")
print(pd.Timestamp("2024-07-01 12:00", tz="Europe/Berlin").utcoffset(), pd.Timestamp(0, unit="s"), pd.NaT, pd.isna(pd.NaT))
c = pd.Categorical(["b", "a", "b"], categories=["a", "b"], ordered=True); print(c.codes.tolist(), c.max(), pd.Index([1, 2, 3]).union([3, 4]).tolist(), pd.MultiIndex.from_product([[1, 2], ["x"]]).tolist(), pd.array([1, None], dtype="Int64"))
