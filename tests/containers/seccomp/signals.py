"""Signals, timers, clocks, and waiting for descriptors."""

import ctypes
import os
import select
import selectors
import shutil
import signal
import struct
import tempfile
import threading
import time

from kit import c, kernel, step


@step
def signals_handlers():
    got = []
    old = signal.signal(signal.SIGUSR1, lambda s, f: got.append(s))
    os.kill(os.getpid(), signal.SIGUSR1)
    signal.raise_signal(signal.SIGUSR1)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
    assert len(got) == 3, got
    signal.signal(signal.SIGUSR1, old)


@step
def signals_masks_and_waiting():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    os.kill(os.getpid(), signal.SIGUSR2)
    assert signal.SIGUSR2 in signal.sigpending()
    assert signal.sigwaitinfo([signal.SIGUSR2]).si_pid == os.getpid()
    assert signal.sigtimedwait([signal.SIGUSR2], 0.01) is None
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])


@step
def sigqueue():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
    c("sigqueue", os.getpid(), int(signal.SIGRTMIN), ctypes.c_void_p(42))
    assert signal.sigwait([signal.SIGRTMIN]) == signal.SIGRTMIN
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGRTMIN])


@step
def signals_by_descriptor():
    mask = (ctypes.c_ulong * 16)(1 << (signal.SIGUSR2 - 1))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    fd = c("signalfd", -1, ctypes.byref(mask), 0o2000000)
    os.kill(os.getpid(), signal.SIGUSR2)
    assert struct.unpack_from("I", os.read(fd, 128))[0] == signal.SIGUSR2
    os.close(fd)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])


@step
def sigaltstack_faulthandler():
    import faulthandler

    faulthandler.enable()
    faulthandler.disable()


@step
def timers_itimer_alarm():
    got = []
    old = signal.signal(signal.SIGALRM, lambda *a: got.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    deadline = time.monotonic() + 5
    while not got and time.monotonic() < deadline:
        time.sleep(0.001)
    signal.alarm(1)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, old)
    assert got


@step
def timers_posix():
    t = ctypes.c_void_p()
    sev = (ctypes.c_int * 16)(0, 0, 0, 1)  # SIGEV_NONE
    c("timer_create", 1, ctypes.byref(sev), ctypes.byref(t))
    its = (ctypes.c_long * 4)(0, 0, 1, 0)
    c("timer_settime", t, 0, its, None)
    c("timer_gettime", t, its)
    c("timer_getoverrun", t)
    c("timer_delete", t)


@step
def timers_by_descriptor():
    fd = c("timerfd_create", 1, 0o2000000)
    c("timerfd_settime", fd, 0, (ctypes.c_long * 4)(0, 0, 0, 10_000_000), None)
    assert struct.unpack("Q", os.read(fd, 8))[0] == 1
    os.close(fd)


@step
def clocks():
    for k in (
        time.CLOCK_REALTIME,
        time.CLOCK_MONOTONIC,
        time.CLOCK_BOOTTIME,
        time.CLOCK_PROCESS_CPUTIME_ID,
        time.CLOCK_THREAD_CPUTIME_ID,
    ):
        assert time.clock_gettime(k) > 0
        time.clock_getres(k)
    time.sleep(0.001)
    os.times()
    time.localtime()
    time.process_time()
    kernel("gettimeofday", ctypes.create_string_buffer(16), 0)


# ---- waiting for descriptors


@step
def select_poll_epoll():
    r, w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.write(w, b"x")
    assert select.select([r], [w], [], 1)[0] == [r]
    p = select.poll()
    p.register(r, select.POLLIN)
    assert p.poll(100)
    e = select.epoll()
    e.register(r, select.EPOLLIN)
    assert e.poll(1)
    e.close()
    s = selectors.DefaultSelector()
    s.register(r, selectors.EVENT_READ)
    assert s.select(1)
    s.close()
    os.close(r)
    os.close(w)


@step
def epoll_pwait2_ppoll_pselect():
    e = select.epoll()
    ev = ctypes.create_string_buffer(64)
    ts = (ctypes.c_long * 2)(0, 1000)
    assert kernel("epoll_pwait2", e.fileno(), ev, 1, ts, 0, 8) == 0
    assert c("ppoll", None, 0, ts, None) == 0
    assert c("pselect", 0, None, None, None, ts, None) == 0
    e.close()


@step
def events_by_descriptor():
    fd = os.eventfd(3)
    assert os.eventfd_read(fd) == 3
    os.close(fd)


@step
def inotify():
    d = tempfile.mkdtemp()
    fd = c("inotify_init1", 0o2000000)
    wd = c("inotify_add_watch", fd, d.encode(), 0x100)
    open(d + "/new", "w").close()
    assert b"new" in os.read(fd, 4096)
    c("inotify_rm_watch", fd, wd)
    os.close(fd)
    shutil.rmtree(d)
