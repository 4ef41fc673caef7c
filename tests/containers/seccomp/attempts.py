"""Calls that are to be refused: made, compared, counted."""

import errno
import os

from kit import NUMBERS, attempt

# Refused, and absent: what is optional looks as in an older kernel.
P, N = errno.EPERM, errno.ENOSYS
counts = {"ok": 0, "FAIL": 0}
names = set()


def text(error):
    return "success" if error == 0 else errno.errorcode.get(error, str(error))


def report(what, got, *wanted):
    """One attempt: what came of it, and what may."""
    good = got in wanted
    counts["ok" if good else "FAIL"] += 1
    print(f"{'ok  ' if good else 'FAIL'}  {what:58} {text(got):8} wanted {' or '.join(map(text, wanted))}", flush=True)


def no(name, wanted, *args, note=""):
    """A call that this machine has is made, and fails as it is to."""
    if name not in NUMBERS:
        return
    error, result = attempt(NUMBERS[name], *args)
    if error == 0 and name in ("clone", "clone3") and result == 0:
        os._exit(0)
    names.add(name)
    report(f"{name} {note}".strip(), error, *(wanted if isinstance(wanted, tuple) else (wanted,)))


def summary():
    print(f"{counts['ok']} as written, {counts['FAIL']} not; {len(names)} different calls")
    return 1 if counts["FAIL"] or not counts["ok"] else 0
