"""Runs turns before the freeze, so that no isolate has to warm up; then forgets them. Last of all."""


def _install(driver):
    import builtins, gc, linecache, sys

    _, _, _, turn, reseed = driver
    main = sys.modules["__main__"].__dict__
    before = set(main)
    # The host has a list of turns for this, and says so when it is at its end.
    import _host, os
    # Where files that come with a call are, and where those that are written belong.
    os.chdir("/work")
    # Modules among the files of a call are found before those of the library, as beside any program.
    sys.path.insert(0, "/work")
    while _host.call(b'{"m":"warm"}\n') == b"{}\n":
        turn()
    for name in set(main) - before:
        del main[name]
    for name in ("_",):
        if hasattr(builtins, name):
            delattr(builtins, name)
    for name in ("last_exc", "last_type", "last_value", "last_traceback"):
        if hasattr(sys, name):
            delattr(sys, name)
    for name in [name for name in linecache.cache if name.startswith("<")]:
        del linecache.cache[name]
    reseed()

    gc.collect()
    # What is there now is never garbage: collections need not look at it, nor write to its pages.
    gc.freeze()


_install(_casemate)
del _install, _casemate
