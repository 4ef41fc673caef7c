"""The other ways into the kernel of x86-64: the 32-bit entry and x32. Where the kernel has none, that is said."""

import ctypes
import mmap
import os
import pty
import signal
import struct
import sys

from attempts import N, P, report, summary
from kit import NUMBERS32, attempt, libc

# f(eax, ebx, ecx, edx) through int 0x80: push rbx; mov eax, edi; mov ebx, esi; mov r8, rdx; mov edx, ecx; mov ecx, r8d;
# int 0x80; cdqe; pop rbx; ret.
CODE = bytes.fromhex("5389f889f34989d089ca4489c1cd8048985bc3")
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(CODE)
int80 = ctypes.CFUNCTYPE(ctypes.c_long, *[ctypes.c_uint32] * 4)(ctypes.addressof(ctypes.c_char.from_buffer(page)))

pid = os.fork()
if not pid:
    os._exit(0 if int80(20, 0, 0, 0) == os.getpid() else 1)
if os.waitpid(pid, 0)[1]:
    print("this kernel has no 32-bit entry")
    sys.exit(0)

libc.mmap.restype = ctypes.c_void_p
low = libc.mmap(None, 4096, 3, 0x62, -1, 0)  # MAP_32BIT: an address that the 32-bit entry can hold


def i386(what, want, nr, *args):
    r = int80(nr, *(list(args) + [0, 0, 0])[:3])
    report(f"i386: {what}", -r if -4096 < r < 0 else 0, want)


def put(*words):
    ctypes.memmove(low, struct.pack(f"{len(words)}I", *words), 4 * len(words))
    return low


_, terminal = pty.openpty()
i386("getpid works", 0, 20)
for fam, fn in ((2, "INET"), (38, "ALG"), (40, "VSOCK"), (17, "PACKET")):
    i386(f"socketcall(SYS_SOCKET, AF_{fn})", N, 102, 1, put(fam, 5 if fam == 38 else 1, 0))
i386("socketcall(SYS_SOCKETPAIR)", N, 102, 8, put(1, 1, 0, low + 64))
i386("socketcall(SYS_BIND)", N, 102, 2, put(0, 0, 0))
i386("socket(AF_INET) works", 0, 359, 2, 1, 0)
i386("socket(AF_ALG)", P, 359, 38, 5, 0)
i386("socket(AF_VSOCK)", P, 359, 40, 1, 0)
i386("socketpair(AF_TIPC)", P, 360, 30, 1, 0)
i386("ioctl(TIOCSTI)", P, 54, terminal, 0x5412, low)
i386("ioctl(TIOCSETD)", P, 54, terminal, 0x5423, low)
i386("clone(CLONE_NEWUSER)", P, 120, 0x10000011, 0, 0)
i386("clone3", N, 435, 0, 0, 0)
for name in (
    "mount",
    "umount",
    "stime",
    "ptrace",
    "chroot",
    "swapon",
    "reboot",
    "init_module",
    "unshare",
    "setns",
    "bpf",
    "perf_event_open",
    "keyctl",
    "userfaultfd",
    "open_by_handle_at",
    "process_vm_readv",
    "clock_settime64",
    "adjtimex",
    "settimeofday",
    "syslog",
    "pivot_root",
    "kexec_load",
):
    i386(name, P, NUMBERS32[name], 1, 1, 1)
for name in (
    "modify_ldt",
    "vm86",
    "vm86old",
    "uselib",
    "io_uring_setup",
):
    i386(name, N, NUMBERS32[name], 1, 1, 1)
i386("number 500", N, 500)
# x32 calls have their numbers beside a bit. The filter kills whoever tries, or says no as for any other number.
for nr, what in ((39, "getpid"), (1, "write")):
    pid = os.fork()
    if not pid:
        os._exit(attempt(0x40000000 | nr, 1, 0, 0)[0])
    status = os.waitpid(pid, 0)[1]
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGSYS
    report(f"x32: {what}", P if killed else os.WEXITSTATUS(status), P, N)

sys.exit(summary())
