"""Threads, processes, and how they are scheduled."""

import concurrent.futures
import ctypes
import errno
import multiprocessing as mp
import os
import select
import signal
import subprocess
import threading
from multiprocessing import shared_memory

from kit import X86, c, either, kernel, only, step


def square(x):
    return x * x


def child_put(q, n):
    q.put(n)


def add_to(lock, value):
    for _ in range(100):
        with lock:
            value.value += 1


@step
def threads_50():
    out, lock, barrier = [], threading.Lock(), threading.Barrier(50)

    def run(i):
        barrier.wait()
        with lock:
            out.append(i)

    ts = [threading.Thread(target=run, args=(i,)) for i in range(50)]
    [t.start() for t in ts]
    [t.join() for t in ts]
    assert sorted(out) == list(range(50))


@step
def thread_condition_timeout():
    cv = threading.Condition()
    with cv:
        assert cv.wait(0.02) is False


@step
def thread_pool():
    with concurrent.futures.ThreadPoolExecutor(8) as p:
        assert sum(p.map(square, range(100))) == 328350


@step
def process_pool_fork():
    with concurrent.futures.ProcessPoolExecutor(3, mp_context=mp.get_context("fork")) as p:
        assert list(p.map(square, range(10))) == [i * i for i in range(10)]


@step
def process_pool_spawn():
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=mp.get_context("spawn")) as p:
        assert list(p.map(square, range(10))) == [i * i for i in range(10)]


@step
def multiprocessing_forkserver():
    ctx = mp.get_context("forkserver")
    q = ctx.Queue()
    p = ctx.Process(target=child_put, args=(q, 5))
    p.start()
    assert q.get(timeout=20) == 5
    p.join()


@step
def multiprocessing_lock_value_posix_semaphore():
    ctx = mp.get_context("fork")
    lock, v = ctx.Lock(), ctx.Value("i", 0, lock=False)
    ps = [ctx.Process(target=add_to, args=(lock, v)) for _ in range(4)]
    [p.start() for p in ps]
    [p.join() for p in ps]
    assert v.value == 400


@step
def shared_memory_posix():
    a = shared_memory.SharedMemory(create=True, size=4096)
    b = shared_memory.SharedMemory(name=a.name)
    a.buf[0] = 7
    assert b.buf[0] == 7
    b.close()
    a.close()
    a.unlink()


@step
def subprocess_output():
    assert subprocess.run(["/bin/echo", "hi"], capture_output=True, text=True, check=True).stdout == "hi\n"


@step
def subprocess_shell_pipeline():
    assert subprocess.check_output("printf 'b\\na\\n' | sort | head -n 1", shell=True) == b"a\n"


@step
def subprocess_new_session_timeout_kill():
    p = subprocess.Popen(["/bin/sleep", "60"], start_new_session=True)
    try:
        p.wait(0.05)
    except subprocess.TimeoutExpired:
        os.killpg(p.pid, signal.SIGKILL)
    assert p.wait() == -9


@step
def subprocess_preexec_close_fds_umask():
    p = subprocess.run(
        ["/bin/sh", "-c", "umask"], preexec_fn=lambda: os.nice(1), close_fds=True, umask=0o27, capture_output=True
    )
    assert p.stdout.strip() == b"0027", p


@step
def posix_spawn():
    pid = os.posix_spawn(
        "/bin/true", ["true"], os.environ, setpgroup=0, setsigmask=[signal.SIGUSR1], setsigdef=[signal.SIGUSR2]
    )
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@step
def fork_wait4_waitid():
    pid = os.fork()
    if not pid:
        os._exit(3)
    assert os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT).si_status == 3
    assert os.wait4(pid, 0)[1] >> 8 == 3


@step
def clone3_is_absent_and_clone_works():
    with only(errno.ENOSYS):
        kernel("clone3", 0, 0)
    pid = kernel("clone", signal.SIGCHLD, 0, 0, 0, 0)
    if not pid:
        os._exit(4)
    assert os.waitpid(pid, 0)[1] >> 8 == 4


@step
def vfork_execve_fexecve():
    fd = os.open("/bin/busybox", os.O_RDONLY | os.O_CLOEXEC)
    pid = os.fork()
    if not pid:
        os.execve(fd, ["true"], {})
    assert os.waitpid(pid, 0)[1] == 0
    os.close(fd)


@step
def sessions_and_groups():
    pid = os.fork()
    if not pid:
        os.setsid()
        os._exit(0 if os.getsid(0) == os.getpid() == os.getpgid(0) else 1)
    assert os.waitpid(pid, 0)[1] == 0


@step
def prctl_supervisor():
    PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 1, 4, 15, 36
    c("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    c("prctl", PR_SET_PDEATHSIG, 9, 0, 0, 0)
    c("prctl", PR_SET_PDEATHSIG, 0, 0, 0, 0)
    c("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)
    c("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)
    c("prctl", PR_SET_NAME, b"supervisor", 0, 0, 0)
    assert open("/proc/self/comm").read() == "supervisor\n"


@step
def subreaper_adopts():
    r, w = os.pipe()
    pid = os.fork()
    if not pid:
        middle = os.getpid()
        if not os.fork():
            while os.getppid() == middle:
                os.sched_yield()
            os.write(w, str(os.getppid()).encode())
            os._exit(9)
        os._exit(0)
    os.waitpid(pid, 0)
    assert int(os.read(r, 20)) == os.getpid()
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 9
    os.close(r)
    os.close(w)


@step
def pidfd():
    pid = os.fork()
    if not pid:
        signal.pause()
    fd = os.pidfd_open(pid)
    signal.pidfd_send_signal(fd, signal.SIGTERM)
    assert select.select([fd], [], [], 5)[0]
    assert os.waitid(os.P_PIDFD, fd, os.WEXITED).si_status == 15
    os.close(fd)


@step
def scheduling():
    assert os.sched_getaffinity(0)
    os.sched_setaffinity(0, os.sched_getaffinity(0))
    os.sched_yield()
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    os.sched_get_priority_max(os.SCHED_FIFO)
    os.sched_rr_get_interval(0)
    os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0))
    buf = ctypes.create_string_buffer(56)
    kernel("sched_getattr", 0, buf, 56, 0)
    kernel("ioprio_get", 1, 0)


@step
def membarrier_getcpu_rseq():
    assert kernel("membarrier", 0, 0, 0) >= 0  # MEMBARRIER_CMD_QUERY
    assert c("sched_getcpu") >= 0
    with either(errno.EINVAL):
        kernel("rseq", 0, 0, 0, 0)  # rseq: a wrong size is EINVAL, a refused call EPERM


@step
def thread_pointers():
    if X86:
        v = ctypes.c_ulong()
        kernel("arch_prctl", 0x1003, ctypes.byref(v))
        assert v.value
