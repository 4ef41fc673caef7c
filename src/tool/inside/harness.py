"""Runs the code of a call: its last expression is its value, figures and displayed things are told of, and so is the
exception that ends it. What is told goes to a file that the server reads afterwards."""

import ast
import base64
import builtins
import json
import linecache
import os
import sys
import traceback
import types

NAME = "<code>"
LARGEST = 2 << 20
OWN = sys.argv[1]
REPORT = os.path.join(OWN, "report")
FORMS = (
    ("_repr_html_", "text/html"),
    ("_repr_svg_", "image/svg+xml"),
    ("_repr_png_", "image/png"),
    ("_repr_jpeg_", "image/jpeg"),
    ("_repr_markdown_", "text/markdown"),
    ("_repr_latex_", "text/latex"),
    ("_repr_json_", "application/json"),
)


def tell(message):
    with open(REPORT, "a", encoding="utf-8") as report:
        report.write(json.dumps(message) + "\n")


def form(mime, content):
    if isinstance(content, str) and mime.startswith("image/") and mime != "image/svg+xml":
        content = base64.b64decode(content)
    if not isinstance(content, (str, bytes)):
        content = json.dumps(content)
    size = len(content.encode("utf-8", "surrogatepass")) if isinstance(content, str) else len(content)
    if size > LARGEST:
        return {"mime": mime, "size": size}
    if isinstance(content, bytes):
        return {"mime": mime, "data": base64.b64encode(content).decode()}
    return {"mime": mime, "text": content.encode("utf-8", "replace").decode()}


def plain(value):
    try:
        return repr(value)
    except Exception as problem:  # its own fault, and not the end of the run
        return "<%s whose repr failed: %s>" % (type(value).__name__, problem)


def is_json(value, depth=0):
    if value is None or isinstance(value, (bool, int, float, str)):
        return True
    if depth > 20:
        return False
    if isinstance(value, (list, tuple)):
        return all(is_json(part, depth + 1) for part in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_json(part, depth + 1) for key, part in value.items())
    return False


def rich(kind, value):
    forms, metadata = {}, {}
    bundle = getattr(value, "_repr_mimebundle_", None)
    try:
        if callable(bundle) and not isinstance(value, type):
            found = bundle(include=None, exclude=None)
            found, metadata = found if isinstance(found, tuple) else (found, {})
            forms.update(found or {})
    except Exception:
        pass
    for method, mime in FORMS:
        make = getattr(value, method, None)
        if mime in forms or not callable(make) or isinstance(value, type):
            continue
        try:
            content = make()
        except Exception:
            continue
        if isinstance(content, tuple):
            content = content[0]
        if content is not None:
            forms[mime] = content
    if type(value) in (dict, list, tuple, int, float, bool) and is_json(value):
        try:
            forms.setdefault("application/json", json.dumps(value, allow_nan=False))
        except ValueError:
            pass
    text = forms.pop("text/plain", None)
    all_forms = [form(mime, content) for mime, content in forms.items()]
    all_forms.append(form("text/plain", text if isinstance(text, str) else plain(value)))
    tell({"m": "rich", "kind": kind, "forms": all_forms, "metadata": metadata or {}})


def display(*values):
    for value in values:
        rich("display", value)


def figures():
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return
    import io

    for number in pyplot.get_fignums():
        figure, image = pyplot.figure(number), io.BytesIO()
        figure.savefig(image, format="png", bbox_inches="tight")
        forms = [form("image/png", image.getvalue()), form("text/plain", plain(figure))]
        tell({"m": "rich", "kind": "display", "forms": forms, "metadata": {}})
        pyplot.close(figure)


def exception(problem):
    # The frames before the first one of the caller's code are of this file.
    trace = problem.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != NAME:
        trace = trace.tb_next
    text = "".join(traceback.format_exception(type(problem), problem, trace))
    sys.stderr.write(text)
    frames = []
    for frame in traceback.extract_tb(trace):
        if frame.filename == NAME:
            frames.append(
                {
                    "file": NAME,
                    "line": frame.lineno or 0,
                    "column": (getattr(frame, "colno", None) or -1) + 1,
                    "function": "" if frame.name == "<module>" else frame.name,
                    "source": frame.line or "",
                }
            )
    if isinstance(problem, SyntaxError) and problem.filename == NAME:
        frames = [
            {
                "file": NAME,
                "line": problem.lineno or 0,
                "column": problem.offset or 0,
                "function": "",
                "source": (problem.text or "").rstrip("\n"),
            }
        ]
    kind = type(problem)
    module = "" if kind.__module__ in ("builtins", "__main__") else kind.__module__ + "."
    try:
        message = str(problem)
    except Exception:
        message = ""
    tell({"m": "exception", "type": module + kind.__qualname__, "message": message, "traceback": text, "frames": frames})


def run(code, space):
    value = eval(code, space)
    if code.co_flags & 0x80:  # CO_COROUTINE: it awaits at the top level
        import asyncio

        value = asyncio.run(value)
    return value


def main():
    with open(os.path.join(OWN, "code.py"), encoding="utf-8") as file:
        source = file.read()
    sys.argv = [NAME] + sys.argv[2:]
    sys.path[0] = os.getcwd()
    os.environ.setdefault("MPLBACKEND", "Agg")
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    if not hasattr(builtins, "display"):
        builtins.display = display
    linecache.cache[NAME] = (len(source), None, source.splitlines(True), NAME)
    flags = getattr(ast, "PyCF_ALLOW_TOP_LEVEL_AWAIT", 0)
    space = module.__dict__
    try:
        tree = compile(source, NAME, "exec", flags | ast.PyCF_ONLY_AST, True)
        last = None
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            last = ast.Expression(tree.body.pop().value)
        run(compile(tree, NAME, "exec", flags, True), space)
        if last is not None:
            value = run(compile(last, NAME, "eval", flags, True), space)
            if value is not None:
                rich("value", value)
        figures()
    except SystemExit as end:
        figures()
        raise end from None
    except BaseException as problem:
        exception(problem)
        sys.exit(1)


main()
