"""What the profile refuses, tried as somebody would who means it: with arguments that would work without it."""

import ctypes
import os
import pty
import signal
import struct
import sys

from attempts import N, P, no, report, summary
from kit import attempt

B = ctypes.create_string_buffer(4096)
A = ctypes.addressof(B)
null = os.open("/dev/null", os.O_RDWR)

# tracing and reading others
no("ptrace", P, 0, 0, 0, 0, note="TRACEME")
no("ptrace", P, 0x4206, os.getppid(), 0, 0, note="SEIZE")
iov = struct.pack("QQ", A, 8)
no("process_vm_readv", P, os.getpid(), iov, 1, iov, 1, 0)
no("process_vm_writev", P, os.getpid(), iov, 1, iov, 1, 0)
no("kcmp", P, os.getpid(), os.getpid(), 0, 0, 0)
no("pidfd_getfd", P, os.pidfd_open(os.getpid()), 0, 0)
no("perf_event_open", P, b"\x01" + bytes(3) + struct.pack("I", 120) + bytes(112), 0, -1, -1, 0)
no("bpf", P, 0, bytes(128), 128)
no("userfaultfd", P, 1)
no("io_uring_setup", N, 4, B)
no("io_uring_enter", N, 0, 0, 0, 0, 0, 0)
no("io_uring_register", N, 0, 0, 0, 0)

# namespaces
for flag, fn in (
    (0x20000, "NEWNS"),
    (0x2000000, "NEWCGROUP"),
    (0x4000000, "NEWUTS"),
    (0x8000000, "NEWIPC"),
    (0x10000000, "NEWUSER"),
    (0x20000000, "NEWPID"),
    (0x40000000, "NEWNET"),
):
    no("clone", P, flag | signal.SIGCHLD, 0, 0, 0, 0, note="CLONE_" + fn)
no("clone", P, 0x7E020011, 0, 0, 0, 0, note="all of them")
no("clone", P, 0xFFFFFFFF10000011, 0, 0, 0, 0, note="CLONE_NEWUSER below garbage")
no("clone3", N, struct.pack("11Q", 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0), 88)
no("clone3", N, struct.pack("11Q", 0x10000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0), 88, note="CLONE_NEWUSER")
for flag, fn in ((0x10000000, "NEWUSER"), (0x20000, "NEWNS"), (0x80, "NEWTIME"), (0x400, "FILES")):
    no("unshare", P, flag, note="CLONE_" + fn)
no("setns", P, os.open("/proc/self/ns/user", os.O_RDONLY), 0)

# mounts and roots
no("mount", P, b"none", b"/tmp", b"tmpfs", 0, 0)
no("umount2", P, b"/tmp", 2)
no("pivot_root", P, b"/tmp", b"/tmp")
no("chroot", P, b"/tmp")
no("open_tree", P, -100, b"/tmp", 0)
no("open_tree", P, -100, b"/tmp", 1, note="CLONE")
no("move_mount", P, null, b"", -100, b"/tmp", 4)
no("fsopen", P, b"tmpfs", 0)
no("fsconfig", P, null, 6, 0, 0, 0)
no("fsmount", P, null, 0, 0)
no("fspick", P, -100, b"/tmp", 0)
no("mount_setattr", P, -100, b"/tmp", 0, bytes(32), 32)
no("open_tree_attr", (P, N), -100, b"/tmp", 0, bytes(32), 32)
no("open_by_handle_at", P, -100, B, 0)
no("name_to_handle_at", P, -100, b"/tmp", struct.pack("Ii", 128, 0) + bytes(128), A, 0)
no("statmount", N, B, B, 64, 0)
no("listmount", N, B, B, 8, 0)
no("listns", N, B, B, 8, 0)
no("quotactl", P, 0, 0, 0, 0)
no("quotactl_fd", P, null, 0, 0, 0)
no("swapon", P, b"/tmp/x", 0)
no("swapoff", P, b"/tmp/x")
no("acct", P, 0)
no("fanotify_init", P, 0x200, 0)
no("fanotify_mark", P, null, 1, 8, -100, b"/tmp")

# kernel and machine
no("init_module", P, B, 8, b"")
no("finit_module", P, null, b"", 0)
no("delete_module", P, b"none", 0o4000)
no("kexec_load", P, 0, 0, 0, 0)
no("kexec_file_load", P, null, null, 0, b"", 0)
no("reboot", P, 0xFEE1DEAD, 672274793, 0, 0)
no("syslog", P, 3, B, 10)
no("syslog", P, 10, 0, 0, note="size")
no("iopl", P, 0)
no("ioperm", P, 0, 1, 0)
no("vhangup", P)
no("sethostname", P, b"x", 1)
no("setdomainname", P, b"x", 1)
no("settimeofday", P, 0, 0)
no("clock_settime", P, 0, bytes(16))
no("adjtimex", P, B)
no("clock_adjtime", P, 0, B)
no("add_key", P, b"user", b"k", b"v", 1, -3)
no("request_key", P, b"user", b"k", 0, 0)
no("keyctl", P, 0, -3, 0)
no("keyctl", P, 1, 0, note="JOIN_SESSION")

# sockets
for fam, fn in (
    (0, "UNSPEC"),
    (3, "AX25"),
    (4, "IPX"),
    (5, "APPLETALK"),
    (9, "X25"),
    (15, "KEY"),
    (17, "PACKET"),
    (21, "RDS"),
    (23, "IRDA"),
    (24, "PPPOX"),
    (26, "LLC"),
    (27, "IB"),
    (29, "CAN"),
    (30, "TIPC"),
    (31, "BLUETOOTH"),
    (33, "RXRPC"),
    (35, "PHONET"),
    (36, "IEEE802154"),
    (37, "CAIF"),
    (38, "ALG"),
    (39, "NFC"),
    (40, "VSOCK"),
    (41, "KCM"),
    (42, "QIPCRTR"),
    (43, "SMC"),
    (44, "XDP"),
    (45, "MCTP"),
    (0x100000026, "ALG above garbage"),
):
    for t in (1, 2, 3, 5) if fam in (17, 38, 40) else (2,):
        no("socket", P, fam, t, 0, note=f"AF_{fn}, type {t}")
for fam, t, p, pn in (
    (2, 1, 132, "SCTP"),
    (2, 6, 33, "DCCP"),
    (2, 2, 136, "UDP-Lite"),
    (2, 1, 256, "SMC"),
    (2, 2, 115, "L2TP"),
    (10, 1, 132, "SCTP over IPv6"),
    (2, 3, 255, "raw"),
):
    no("socket", P, fam, t, p, note=pn)
for p, pn in (
    (2, "USERSOCK"),
    (4, "SOCK_DIAG"),
    (6, "XFRM"),
    (9, "AUDIT"),
    (12, "NETFILTER"),
    (15, "KOBJECT_UEVENT"),
    (16, "GENERIC"),
    (21, "CRYPTO"),
):
    no("socket", P, 16, 3, p, note="AF_NETLINK, NETLINK_" + pn)
no("socketpair", P, 30, 1, 0, B, note="AF_TIPC")
no("socketpair", P, 2, 1, 0, B, note="AF_INET")

# terminals
m, s = pty.openpty()
for req, rn in (
    (0x5412, "TIOCSTI"),
    (0x100005412, "TIOCSTI above garbage"),
    (0xFFFFFFFF00005412, "TIOCSTI above ones"),
    (0x541C, "TIOCLINUX"),
    (0x541D, "TIOCCONS"),
    (0x5423, "TIOCSETD"),
    (0x100005423, "TIOCSETD above garbage"),
):
    no("ioctl", P, s, req, bytes(8), note=rn)

# personality
for v, vn in (
    (0x40000, "ADDR_NO_RANDOMIZE"),
    (0x400000, "READ_IMPLIES_EXEC"),
    (0x100000, "MMAP_PAGE_ZERO"),
    (0x200000, "ADDR_COMPAT_LAYOUT"),
    (0x40008, "PER_LINUX32 and ADDR_NO_RANDOMIZE"),
    (0x100040000, "ADDR_NO_RANDOMIZE above garbage"),
    (6, "PER_BSD"),
):
    no("personality", P, v, note=vn)

# absent
no("get_mempolicy", N, 0, 0, 0, 0, 0)
no("set_mempolicy", N, 0, 0, 0)
no("mbind", N, 0, 0, 0, 0, 0, 0)
no("migrate_pages", N, os.getpid(), 0, 0, 0)
no("move_pages", N, 0, 0, 0, 0, 0, 0)
no("set_mempolicy_home_node", N, 0, 0, 0, 0)
no("process_madvise", N, os.pidfd_open(os.getpid()), iov, 1, 20, 0)
no("process_mrelease", N, null, 0)
no("memfd_secret", N, 0)
no("remap_file_pages", N, 0, 0, 0, 0, 0)
no("vmsplice", N, os.pipe()[1], iov, 1, 0)
no("cachestat", N, null, bytes(16), B, 0)
no("lsm_get_self_attr", N, 100, 0, B, 0)
no("lsm_set_self_attr", N, 100, B, 0, 0)
no("lsm_list_modules", N, B, B, 0)
no("modify_ldt", N, 0, B, 16)
for n in (
    "_sysctl",
    "create_module",
    "get_kernel_syms",
    "query_module",
    "nfsservctl",
    "lookup_dcookie",
    "uselib",
    "ustat",
    "sysfs",
    "afs_syscall",
    "getpmsg",
    "putpmsg",
    "security",
    "tuxcall",
    "vserver",
    "epoll_ctl_old",
    "epoll_wait_old",
):
    no(n, N, 1, A, A, 0, 0, 0)
for nr in (473, 480, 500, 600, 1000, 5000):
    report(f"number {nr}, newer than the list", attempt(nr, 0, 0, 0)[0], N)

sys.exit(summary())
