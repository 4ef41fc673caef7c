"""What the scripts here have in common: calls by name, as libc has them or past it."""

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
X86 = os.uname().machine == "x86_64"
STEPS = []


def _numbers(column):
    found = {}
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "calls.txt")) as table:
        for line in table:
            if line.startswith("#"):
                continue
            columns = line.split()
            if columns[column] != "-":
                found[columns[0]] = int(columns[column])
    return found


NUMBERS = _numbers(1 if X86 else 3)
NUMBERS32 = _numbers(2) if X86 else {}


def attempt(number, *args):
    """A call of the kernel by its number: its errno, 0 for none, and what it returned."""
    ctypes.set_errno(0)
    r = libc.syscall(ctypes.c_long(number), *[ctypes.c_void_p(a) if isinstance(a, int) else a for a in args])
    return (ctypes.get_errno() if r == -1 else 0), r


def kernel(name, *args):
    """A call of the kernel by its name; raises what went wrong."""
    e, r = attempt(NUMBERS[name], *args)
    if e:
        raise OSError(e, f"{name}: {os.strerror(e)}")
    return r


def c(name, *args):
    """A call of libc; raises what went wrong."""
    ctypes.set_errno(0)
    r = getattr(libc, name)(*args)
    if r == -1:
        e = ctypes.get_errno()
        raise OSError(e, f"{name}: {os.strerror(e)}")
    return r


def either(*errors):
    """Passes what succeeds, and what fails with one of these: the kernel's own answers, not the profile's."""
    return _Either(errors)


def only(error):
    """Passes what fails with this, and nothing else."""
    return _Either((error,), must=True)


class _Either:
    def __init__(self, errors, must=False):
        self.errors, self.must = errors, must

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        assert error or not self.must, "it is to fail, and succeeds"
        return isinstance(error, OSError) and error.errno in self.errors


def step(f):
    STEPS.append(f)
    return f
