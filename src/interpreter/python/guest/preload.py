"""Imports what code asks for most, so that a fresh isolate has it at once. Frozen into the built-in image."""


def _install():
    import importlib, io, os, sys

    standard = """
        abc argparse array ast base64 binascii bisect bz2 calendar cmath codecs collections collections.abc
        colorsys concurrent.futures configparser contextlib contextvars copy csv ctypes dataclasses datetime
        decimal difflib email email.message email.parser enum errno fnmatch fractions functools gc getpass
        glob graphlib gzip hashlib heapq hmac html html.parser http.client importlib.metadata inspect io
        ipaddress itertools json keyword linecache locale logging lzma math mimetypes multiprocessing numbers
        operator os os.path pathlib pickle platform pprint queue random re reprlib secrets select selectors
        shelve shlex shutil signal socket sqlite3 stat statistics string stringprep struct subprocess
        symtable sys sysconfig tarfile tempfile textwrap threading time timeit token tokenize tomllib
        traceback types typing unicodedata unittest unittest.mock urllib.error urllib.parse urllib.request
        uuid warnings weakref xml.dom.minidom xml.etree.ElementTree zipfile zlib zoneinfo
    """.split()
    science = """
        numpy numpy.random numpy.linalg numpy.fft numpy.ma numpy.polynomial pandas
        scipy scipy.stats scipy.optimize scipy.linalg scipy.signal scipy.interpolate scipy.integrate
        scipy.spatial scipy.sparse scipy.ndimage scipy.special scipy.cluster scipy.fft
        matplotlib matplotlib.pyplot matplotlib.figure seaborn sympy
        sklearn sklearn.linear_model sklearn.ensemble sklearn.cluster sklearn.model_selection
        sklearn.preprocessing sklearn.pipeline sklearn.metrics sklearn.decomposition sklearn.tree sklearn.svm
        sklearn.neighbors sklearn.naive_bayes sklearn.datasets sklearn.feature_extraction.text
        statsmodels.api statsmodels.formula.api PIL.Image PIL.ImageDraw lxml.etree lxml.html bs4 yaml jinja2
        openpyxl networkx tabulate pypdf regex dateutil.parser six tqdm
    """.split()

    os.environ["MPLCONFIGDIR"] = "/tmp/matplotlib"
    os.makedirs("/tmp/matplotlib", exist_ok=True)
    for name in standard + science:
        try:
            importlib.import_module(name)
        except ImportError as problem:
            # Not in every build of the interpreter: then it is not preloaded.
            sys.stderr.write(f"not preloaded: {name}: {problem}\n")

    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np
    import pandas as pd
    import scipy.stats
    import sklearn.linear_model
    import sqlite3
    import sympy

    # Once around, so that caches are filled before the freeze rather than in every isolate.
    plt.figure()
    plt.plot([1, 2, 3], [3, 1, 2], label="a")
    plt.title("a")
    plt.legend()
    plt.savefig(io.BytesIO(), format="png", bbox_inches="tight")
    plt.close("all")
    frame = pd.DataFrame({"a": [1, 2, 3, 1], "b": [1.0, 2.5, 3.5, 1], "c": list("wxyz")})
    frame.groupby("a")["b"].sum().to_string()
    frame.describe().to_string()
    frame._repr_html_()
    frame.to_csv()
    pd.read_csv(io.StringIO("a,b\n1,2\n"))
    repr(np.arange(10).reshape(2, 5))
    np.linalg.inv(np.eye(3))
    np.random.default_rng(1).normal(size=3)
    sympy.integrate(sympy.sin(sympy.Symbol("x")), sympy.Symbol("x"))
    sklearn.linear_model.LinearRegression().fit(np.arange(6).reshape(3, 2), np.arange(3.0))
    scipy.stats.norm.cdf(0.3)
    connection = sqlite3.connect(":memory:")
    connection.execute("select 1").fetchall()
    connection.close()

    # A cached font holds an open file, which a frozen memory cannot keep.
    import matplotlib.backends.backend_agg
    import matplotlib.font_manager
    import matplotlib.text
    for module in (matplotlib.font_manager, matplotlib.text, matplotlib.backends.backend_agg):
        for value in list(vars(module).values()):
            if hasattr(value, "cache_clear"):
                value.cache_clear()
    os.environ.pop("MPLCONFIGDIR")

    # What a snapshot brings along, and what the operator of a server adds for everybody: after the library, so
    # that neither can take the place of what is in it.
    sys.path += ["/usr/local/lib/snapshot-packages", "/usr/local/lib/site-packages"]


_install()
del _install
