"""Every call whose number comes on the standard input, a name and a number a line: each with three kinds of arguments,
in a process of its own. Prints a line for each: the name, and what came of it, `0` for success."""

import os
import signal
import sys

from kit import attempt

KINDS = ([0] * 6, [1, 2, 3, 4, 5, 6], [2**64 - 1] * 6)


def outcome(number, args):
    pid = os.fork()
    if not pid:
        # A call that waits is one that was let through.
        signal.alarm(2)
        os._exit(attempt(number, *args)[0])
    status = os.waitpid(pid, 0)[1]
    return f"signal{os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else str(os.WEXITSTATUS(status))


for line in sys.stdin.read().splitlines():
    name, number = line.split()
    print(name, *(outcome(int(number), args) for args in KINDS), flush=True)
