"""Files and memory."""

import concurrent.futures
import ctypes
import errno
import fcntl
import glob
import mmap
import os
import resource
import shutil
import sqlite3
import struct
import tempfile

from kit import c, either, kernel, libc, only, step


@step
def tempfile_shutil_tree():
    d = tempfile.mkdtemp()
    os.makedirs(d + "/a/b/c")
    open(d + "/a/b/f", "w").write("x" * 70000)
    os.symlink("f", d + "/a/b/l")
    os.link(d + "/a/b/f", d + "/a/h")
    os.mkfifo(d + "/a/p")
    os.unlink(d + "/a/p")
    os.chmod(d + "/a/b/f", 0o640)
    os.chown(d + "/a/b/f", -1, os.getgid())
    os.utime(d + "/a/b/f", (1, 2))
    os.chmod(d + "/a", 0o755)
    shutil.copytree(d + "/a", d + "/z", symlinks=True)
    shutil.copy2(d + "/a/b/f", d + "/copy")
    shutil.move(d + "/copy", d + "/moved")
    shutil.make_archive(d + "/t", "gztar", d + "/a")
    shutil.unpack_archive(d + "/t.tar.gz", d + "/u")
    assert len(list(os.walk(d))) > 8 and os.stat(d + "/moved").st_mtime == 2 and os.readlink(d + "/z/b/l") == "f"
    shutil.disk_usage(d)
    os.statvfs(d)
    glob.glob(d + "/**", recursive=True)
    cwd = os.getcwd()
    os.chdir(d)
    fd = os.open("a", os.O_RDONLY)
    os.fchdir(fd)
    os.close(fd)
    os.chdir(cwd)
    shutil.rmtree(d)


@step
def sendfile_copy_file_range_splice():
    with tempfile.TemporaryFile() as a, tempfile.TemporaryFile() as b:
        a.write(b"data" * 1000)
        a.flush()
        assert os.sendfile(b.fileno(), a.fileno(), 0, 4000) == 4000
        assert os.copy_file_range(a.fileno(), b.fileno(), 4000, 0, 4000) == 4000
        r, w = os.pipe()
        assert os.splice(a.fileno(), w, 100, offset_src=0) == 100
        r2, w2 = os.pipe()
        assert c("tee", r, w2, 100, 0) == 100
        for x in (r, w, r2, w2):
            os.close(x)


@step
def positioned_and_vectored_io():
    with tempfile.TemporaryFile() as f:
        fd = f.fileno()
        os.pwrite(fd, b"abcdef", 0)
        assert os.pread(fd, 3, 3) == b"def"
        os.pwritev(fd, [b"1", b"2"], 0)
        b = bytearray(2)
        os.preadv(fd, [b], 0)
        assert b == b"12"
        os.writev(fd, [b"x", b"y"])
        os.lseek(fd, 0, 0)
        os.readv(fd, [b])
        assert b == b"xy"
        os.truncate(fd, 100)
        os.posix_fallocate(fd, 0, 8192)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        os.fsync(fd)
        os.fdatasync(fd)
        c("sync_file_range", fd, ctypes.c_long(0), ctypes.c_long(0), 0)
        c("readahead", fd, ctypes.c_long(0), 100)
        c("syncfs", fd)


@step
def locks_flock_fcntl_ofd():
    with tempfile.NamedTemporaryFile() as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        fcntl.flock(f, fcntl.LOCK_UN)
        fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.lockf(f, fcntl.LOCK_UN)
        fcntl.fcntl(f, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
        fcntl.fcntl(f, fcntl.F_SETFD, fcntl.FD_CLOEXEC)


@step
def xattrs():
    with tempfile.NamedTemporaryFile() as f:
        for p in (f.name, f.fileno()):
            for call in (
                lambda: os.listxattr(p),
                lambda: os.setxattr(p, "user.a", b"1"),
                lambda: os.getxattr(p, "user.a"),
                lambda: os.removexattr(p, "user.a"),
            ):
                with either(errno.EOPNOTSUPP, errno.ENODATA):
                    call()


@step
def statx_openat2_faccessat2_close_range_renameat2():
    buf = ctypes.create_string_buffer(256)
    kernel("statx", -100, b"/etc/passwd", 0, 0xFFF, buf)
    d = os.open("/etc", os.O_DIRECTORY)
    os.close(kernel("openat2", d, b"passwd", struct.pack("QQQ", 0o2000000, 0, 0x08), 24))  # RESOLVE_BENEATH
    os.close(d)
    assert os.access("/etc/passwd", os.R_OK, effective_ids=True)
    kernel("faccessat2", -100, b"/etc/passwd", 4, 0x200)
    a, b = os.open("/dev/null", 0), os.open("/dev/null", 0)
    kernel("close_range", b, b, 0)
    os.close(a)
    for n in ("/tmp/r1", "/tmp/r2"):
        open(n, "w").write(n)
    kernel("renameat2", -100, b"/tmp/r1", -100, b"/tmp/r2", 2)  # RENAME_EXCHANGE
    assert open("/tmp/r1").read() == "/tmp/r2"
    with either(errno.ENOSYS):
        kernel("fchmodat2", -100, b"/tmp/r1", 0o600, 0)  # where the kernel has it
    os.unlink("/tmp/r1")
    os.unlink("/tmp/r2")


@step
def libaio():
    ctx = ctypes.c_ulong(0)
    kernel("io_setup", 4, ctypes.byref(ctx))
    ts = (ctypes.c_long * 2)(0, 1000)
    kernel("io_getevents", ctx.value, 0, 1, ctypes.create_string_buffer(32), ts)
    kernel("io_destroy", ctx.value)


@step
def sqlite_wal_threads():
    d = tempfile.mkdtemp()
    db = sqlite3.connect(d + "/db")
    db.execute("pragma journal_mode=wal")
    db.execute("create table t(a)")

    def w(i):
        k = sqlite3.connect(d + "/db", timeout=30)
        with k:
            k.execute("insert into t values(?)", (i,))
        k.close()

    with concurrent.futures.ThreadPoolExecutor(4) as p:
        list(p.map(w, range(20)))
    assert db.execute("select count(*), sum(a) from t").fetchone() == (20, 190)
    db.close()
    shutil.rmtree(d)


# ---- memory


@step
def mmap_anonymous_file_resize_madvise():
    m = mmap.mmap(-1, 1 << 16)
    m[:3] = b"abc"
    m.resize(1 << 17)
    m.madvise(mmap.MADV_DONTNEED)
    m.close()
    with tempfile.TemporaryFile() as f:
        f.truncate(8192)
        m = mmap.mmap(f.fileno(), 8192)
        m[0:1] = b"z"
        m.flush()
        m.close()
        assert f.read(1) == b"z"


@step
def mprotect_executable_mincore_mlock():
    m = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    a = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(m)))
    c("mprotect", a, 4096, 7)
    c("mincore", a, 4096, ctypes.create_string_buffer(1))
    c("msync", a, 4096, 4)
    with either(errno.ENOMEM):  # the limit
        c("mlock", a, 4096)
        c("munlock", a, 4096)
    # Where nothing may be locked, the kernel itself says EPERM.
    nothing = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == 0
    with either(errno.ENOMEM, errno.EPERM if nothing else errno.ENOMEM):
        c("mlockall", 1)
        c("munlockall")


@step
def protection_keys_may_be_asked_for():
    with either(errno.ENOSPC, errno.EINVAL, errno.ENOSYS):
        c("pkey_free", c("pkey_alloc", 0, 0))


@step
def memfd_seals():
    fd = os.memfd_create("m", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, b"x")
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    with only(errno.EPERM):
        os.write(fd, b"y")
    os.close(fd)


@step
def ctypes_callbacks():
    cmp = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))(
        lambda a, b: a[0] - b[0]
    )
    arr = (ctypes.c_int * 5)(5, 3, 1, 4, 2)
    libc.qsort(arr, 5, 4, cmp)
    assert list(arr) == [1, 2, 3, 4, 5]
