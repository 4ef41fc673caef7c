"""Runs a preload before a snapshot is frozen: in a namespace of its own, leaving no trace of itself.

`source` and `name` are the preload and what tracebacks call it; `packages` the names at the top of the packages.
"""


def _build():
    import builtins, gc, importlib, importlib.machinery, json, linecache, sys
    import _host

    library = [path for path in sys.path if not path.endswith("-packages")]
    for package in packages:
        found = package in sys.builtin_module_names or importlib.machinery.PathFinder.find_spec(package, library)
        if found:
            sys.stderr.write(f"{package} comes with Python here: the one among the packages is never imported\n")
    importlib.invalidate_caches()
    before = {module.partition(".")[0] for module in sys.modules}
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    # Functions that are defined here look for their names here, in every isolate: it is not `__main__`, so that
    # those stay out of the user's way.
    space = {"__name__": "__preload__", "__builtins__": builtins, "__doc__": None}
    exec(compile(source, name, "exec", dont_inherit=True), space)
    after = {module.partition(".")[0] for module in sys.modules}
    loaded = json.dumps(sorted(after - before)).encode()
    header = {"m": "rich", "kind": "value", "forms": [{"mime": "application/json", "size": len(loaded)}]}
    linecache.cache.pop("<casemate build>", None)
    for leftover in ("last_exc", "last_type", "last_value", "last_traceback"):
        if hasattr(sys, leftover):
            delattr(sys, leftover)
    gc.collect()
    # What is there now is never garbage: collections need not look at it, nor write to its pages.
    gc.freeze()
    _host.call(json.dumps(header).encode() + b"\n" + loaded)


_build()
