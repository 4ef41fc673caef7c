"""Terminals, limits, identity, self-restriction, and IPC."""

import ctypes
import errno
import fcntl
import os
import pty
import random
import resource
import signal
import struct
import termios
import traceback

from kit import NUMBERS, attempt, c, either, kernel, libc, only, step


def until(fd, text):
    """Reads from a terminal until it has shown this."""
    out = b""
    while text not in out:
        out += os.read(fd, 65536)


def rest(fd):
    """All that a terminal shows until its last process is gone."""
    out = b""
    with either(errno.EIO):
        while d := os.read(fd, 65536):
            out += d
    return out


@step
def pty_openpty_window_size():
    m, s = pty.openpty()
    fcntl.ioctl(m, termios.TIOCSWINSZ, struct.pack("4H", 40, 100, 0, 0))
    assert struct.unpack("4H", fcntl.ioctl(s, termios.TIOCGWINSZ, bytes(8)))[:2] == (40, 100)
    a = termios.tcgetattr(s)
    termios.tcsetattr(s, termios.TCSANOW, a)
    termios.tcflush(s, termios.TCIOFLUSH)
    f = fcntl.ioctl(m, 0x5441, os.O_RDWR | os.O_NOCTTY)  # TIOCGPTPEER
    assert os.isatty(f)
    os.close(f)
    fcntl.ioctl(m, 0x80045430, bytes(4))
    fcntl.ioctl(m, 0x80045439, bytes(4))
    fcntl.ioctl(m, termios.TIOCPKT, struct.pack("i", 0))
    for req in (termios.TIOCMGET, termios.TIOCMBIS):  # what serial libraries try on everything
        with either(errno.ENOTTY, errno.EINVAL):
            fcntl.ioctl(s, req, bytes(4))
    os.close(m)
    os.close(s)


@step
def pty_fork_controlling_terminal():
    pid, fd = pty.fork()
    if not pid:
        os.execv("/bin/sh", ["sh", "-c", "tty; stty size; read x; echo got $x"])
    os.write(fd, b"line\n")
    out = rest(fd)
    assert b"/dev/pts/" in out and b"got line" in out, out
    assert os.waitpid(pid, 0)[1] == 0
    os.close(fd)


@step
def vi_on_a_terminal():
    pid, fd = pty.fork()
    if not pid:
        os.environ["TERM"] = "xterm"
        os.execv("/bin/vi", ["vi", "/tmp/vi.txt"])
    until(fd, b"~")
    os.write(fd, b"iedited")
    until(fd, b"edited")
    os.write(fd, b"\x1b")
    os.read(fd, 65536)
    os.write(fd, b":wq\n")
    rest(fd)
    assert os.waitpid(pid, 0)[1] == 0 and open("/tmp/vi.txt").read() == "edited\n"
    os.close(fd)


@step
def tiocsctty_tiocnotty_job_control():
    m, s = pty.openpty()
    pid = os.fork()
    if not pid:
        try:
            os.setsid()
            fcntl.ioctl(s, termios.TIOCSCTTY, 0)
            assert os.tcgetpgrp(s) == os.getpgrp()
            os.tcsetpgrp(s, os.getpgrp())
            fcntl.ioctl(s, 0x5429, bytes(4))
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            fcntl.ioctl(s, termios.TIOCNOTTY)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    os.close(m)
    os.close(s)


# ---- limits, identity, randomness, self-restriction


@step
def resource_limits():
    s, h = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(s, 512), h))
    resource.prlimit(0, resource.RLIMIT_CORE, (0, 0))
    resource.getrusage(resource.RUSAGE_CHILDREN)
    os.getloadavg()
    os.sysconf("SC_NPROCESSORS_ONLN")
    c("sysinfo", ctypes.create_string_buffer(128))
    os.uname()


@step
def randomness():
    assert len(os.getrandom(32)) == 32
    random.SystemRandom().random()
    os.urandom(8)


@step
def identity_calls_reach_the_kernel():
    os.setresuid(-1, -1, -1)
    os.setresgid(-1, -1, -1)
    os.setuid(os.getuid())
    os.setgid(os.getgid())
    os.getgroups()
    os.getresuid()
    with only(errno.EPERM):
        os.setgroups([])
    libc.setfsuid(os.getuid())


@step
def capabilities_are_read():
    kernel("capget", struct.pack("Ii", 0x20080522, 0), ctypes.create_string_buffer(24))


@step
def personality_harmless():
    assert libc.personality(ctypes.c_ulong(0xFFFFFFFF)) == 0
    libc.personality(ctypes.c_ulong(8))
    assert libc.personality(ctypes.c_ulong(0)) == 8


@step
def landlock_self_restriction():
    with either(errno.ENOSYS, errno.EOPNOTSUPP):
        assert kernel("landlock_create_ruleset", 0, 0, 1) >= 1  # version


@step
def seccomp_self_restriction():
    pid = os.fork()
    if not pid:
        # allow everything but getppid, which is to give 99
        nr = NUMBERS["getppid"]
        prog = (
            struct.pack("HBBI", 0x20, 0, 0, 0)
            + struct.pack("HBBI", 0x15, 0, 1, nr)
            + struct.pack("HBBI", 6, 0, 0, 0x50000 | 99)
            + struct.pack("HBBI", 6, 0, 0, 0x7FFF0000)
        )
        buf = ctypes.create_string_buffer(prog)
        fp = struct.pack("HxxxxxxQ", 4, ctypes.addressof(buf))
        c("prctl", 38, 1, 0, 0, 0)
        kernel("seccomp", 1, 0, fp)
        os._exit(attempt(nr)[0])
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 99


# ---- System V and POSIX IPC


@step
def sysv_semaphores():
    i = c("semget", 0, 1, 0o600 | 0o1000)
    c("semop", i, struct.pack("Hhh", 0, 1, 0), 1)
    ts = (ctypes.c_long * 2)(0, 1000000)
    c("semtimedop", i, struct.pack("Hhh", 0, -1, 0), 1, ts)
    c("semctl", i, 0, 0)


@step
def sysv_shared_memory():
    libc.shmat.restype = ctypes.c_void_p
    i = c("shmget", 0, 4096, 0o600 | 0o1000)
    p = libc.shmat(i, None, 0)
    ctypes.memset(p, 65, 10)
    assert ctypes.string_at(p, 2) == b"AA"
    c("shmdt", ctypes.c_void_p(p))
    c("shmctl", i, 0, None)


@step
def sysv_messages():
    i = c("msgget", 0, 0o600 | 0o1000)
    c("msgsnd", i, struct.pack("l4s", 1, b"abcd"), 4, 0)
    b = ctypes.create_string_buffer(12)
    assert c("msgrcv", i, b, 4, ctypes.c_long(0), 0) == 4
    c("msgctl", i, 0, None)


@step
def posix_semaphore_named():
    libc.sem_open.restype = ctypes.c_void_p
    s = libc.sem_open(b"/works", os.O_CREAT, 0o600, 1)
    assert s
    s = ctypes.c_void_p(s)
    c("sem_wait", s)
    c("sem_post", s)
    c("sem_close", s)
    c("sem_unlink", b"/works")


@step
def posix_message_queue():
    q = c("mq_open", b"/works", os.O_CREAT | os.O_RDWR, 0o600, None)
    c("mq_send", q, b"hi", 2, 0)
    b = ctypes.create_string_buffer(8192)
    assert c("mq_receive", q, b, 8192, None) == 2
    c("mq_close", q)
    c("mq_unlink", b"/works")


@step
def numa_falls_back():
    # What libnuma does to find out; ENOSYS is "no NUMA here".
    with only(errno.ENOSYS):
        kernel("get_mempolicy", 0, 0, 0, 0, 0)
