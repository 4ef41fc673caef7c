# with pandas, numpy
import io
import pandas as pd
df = pd.DataFrame({"name": ["Ann", "Bob", "Cid", "Dee", "Eve"], "age": [31, 25, None, 40, 25], "city": ["Rome", "Oslo", "Rome", "Bonn", None], "pay": [3000.5, 2500, 4100.25, 5000, 1800]})
print(df, df.dtypes, df.describe(), df.isna().sum(), sep="\n")
print(df[df.pay > 2600].sort_values("pay", ascending=False)[["name", "pay"]], df.loc[1:2, "age"], df.iloc[-1].to_dict(), df.query("age < 40 and city == 'Rome'"), sep="\n")
df["band"] = pd.cut(df.pay, [0, 2000, 4000, 9000], labels=["low", "mid", "high"])
df["age"] = df.age.fillna(df.age.mean()).astype("int64")
print(df.assign(twice=lambda d: d.pay * 2).drop(columns="city").set_index("name"), df.band.value_counts().sort_index(), df.to_csv(index=False), df.to_json(orient="records"), sep="\n")
back = pd.read_csv(io.StringIO("d,v\n2024-01-01,1\n2024-01-02,\n2024-01-03,x\n"), parse_dates=["d"]); print(back, back.dtypes["d"].kind, pd.to_numeric(back.v, errors="coerce").sum())
wide = pd.DataFrame({"id": [1, 2], "a": [3, 4], "b": [5, 6]}); print(wide.melt("id"), wide.melt("id").pivot(index="id", columns="variable", values="value"), wide.T, sep="\n")
print(df.name.str.upper().str[:2].tolist(), df.name.str.contains("e").tolist(), df.pay.apply(lambda x: round(x / 1000)).tolist(), df.pay.rank().tolist(), df.drop_duplicates("age").shape, df.duplicated("age").tolist())
print(df.to_html(index=False)[:120], df.to_string(), (pd.Series([1, 2**40]) * 2).tolist(), pd.Series([2**31 - 1]) + 1)
try: df["none"]
except KeyError as problem: print("KeyError", problem)
