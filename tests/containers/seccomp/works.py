"""What ordinary programs do: every step has to pass under the profile. Prints each, and ends with 1 if one failed."""

import sys
import time
import traceback

import files
import processes
import signals
import sockets
import terminals
from kit import STEPS

MODULES = (processes, signals, sockets, files, terminals)


def main():
    failed = 0
    for f in STEPS:
        began = time.monotonic()
        try:
            f()
            print(f"ok    {f.__module__}.{f.__name__}  {(time.monotonic() - began) * 1000:.0f} ms", flush=True)
        except BaseException as error:
            failed += 1
            print(f"FAIL  {f.__module__}.{f.__name__}: {error!r}", flush=True)
            traceback.print_exc()
    print(f"{len(STEPS) - failed} of {len(STEPS)} steps in {len(MODULES)} parts passed")
    return 1 if failed else 0


# Processes that are spawned import this file, too.
if __name__ == "__main__":
    sys.exit(main())
