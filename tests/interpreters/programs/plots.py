# with matplotlib, numpy, pandas
import os
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
x = np.linspace(0, 10, 100)
figure, axes = plt.subplots(2, 2, figsize=(6, 4))
axes[0, 0].plot(x, np.sin(x), "r--", label="sin"); axes[0, 0].legend(); axes[0, 0].set_title("Größe $\\alpha^2$")
axes[0, 1].bar(["a", "b", "c"], [3, 1, 2]); axes[1, 0].scatter(x, x ** 2, c=x, s=5); axes[1, 1].hist(np.sin(x), bins=10)
figure.tight_layout()
for name in ("a.png", "a.svg", "a.pdf"):
    figure.savefig(name)
    with open(name, "rb") as f: head = f.read(8)
    print(name, os.path.getsize(name) > 5000, head[:4] if name != "a.svg" else head[:5])
plt.close(figure)
print(pd.DataFrame({"a": [1, 3, 2]}).plot(title="t").get_title(), len(plt.get_fignums())); plt.close("all")
figure, axis = plt.subplots(); image = axis.imshow(np.arange(12.0).reshape(3, 4)); figure.colorbar(image); figure.canvas.draw()
print(np.asarray(figure.canvas.buffer_rgba()).shape, axis.get_xlim(), [t.get_text() for t in axis.get_xticklabels()][:3], matplotlib.colors.to_hex("tab:blue")); plt.close("all")
