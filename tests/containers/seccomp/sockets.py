"""Sockets, asyncio, and what goes through them."""

import array
import asyncio
import errno
import fcntl
import functools
import os
import signal
import socket
import ssl
import struct
import tempfile
import termios

from kit import either, step


@step
def asyncio_tcp_unix_subprocess():
    async def main():
        async def echo(r, w):
            w.write(await r.readline())
            await w.drain()
            w.close()

        for start, connect in (
            (functools.partial(asyncio.start_server, echo, "127.0.0.1", 0), None),
            (functools.partial(asyncio.start_unix_server, echo, "/tmp/a.sock"), "u"),
        ):
            s = await start()
            r, w = await (
                asyncio.open_unix_connection("/tmp/a.sock")
                if connect
                else asyncio.open_connection(*s.sockets[0].getsockname())
            )
            w.write(b"hello\n")
            assert await r.readline() == b"hello\n"
            w.close()
            s.close()
        p = await asyncio.create_subprocess_exec("/bin/cat", stdin=-1, stdout=-1)
        assert (await p.communicate(b"abc"))[0] == b"abc"
        await asyncio.gather(*(asyncio.sleep(0.001) for _ in range(100)))
        assert await asyncio.to_thread(pow, 4, 2) == 16
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: None)

    asyncio.run(main())


@step
def asyncio_pidfd_child_watcher():
    async def main():
        with asyncio.PidfdChildWatcher() as w:
            w.attach_loop(asyncio.get_running_loop())
            asyncio.get_event_loop_policy().set_child_watcher(w)
            p = await asyncio.create_subprocess_exec("/bin/false")
            assert await p.wait() == 1

    asyncio.run(main())
    asyncio.set_event_loop_policy(None)


@step
def tcp_loopback_options():
    s = socket.create_server(("127.0.0.1", 0), reuse_port=True)
    k = socket.create_connection(s.getsockname())
    a, _ = s.accept()
    k.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    assert k.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    a.settimeout(1)
    k.sendall(b"x" * 100000)
    n = 0
    k.shutdown(socket.SHUT_WR)
    while d := a.recv(65536):
        n += len(d)
    assert n == 100000 and a.getpeername() == k.getsockname()
    [x.close() for x in (s, k, a)]


@step
def tcp_ipv6_socket():
    s = socket.socket(socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    s.close()
    socket.socket(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP).close()
    socket.socket(socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_UDP).close()


@step
def udp_loopback_msgs():
    a, b = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDP) for _ in "ab")
    a.bind(("127.0.0.1", 0))
    b.sendto(b"d", a.getsockname())
    assert a.recvfrom(10)[0] == b"d"
    b.sendmsg([b"1", b"2"], [], 0, a.getsockname())
    assert a.recvmsg(10)[0] == b"12"
    a.close()
    b.close()


@step
def ping_socket_may_be_asked_for():
    with either(errno.EACCES):
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP).close()


@step
def mptcp_may_be_asked_for():
    with either(errno.EPROTONOSUPPORT, errno.ENOPROTOOPT, errno.EINVAL):
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).close()


@step
def unix_socketpair_fd_passing():
    a, b = socket.socketpair()
    r, w = os.pipe()
    socket.send_fds(a, [b"m"], [w])
    _, fds, _, _ = socket.recv_fds(b, 10, 1)
    os.write(fds[0], b"via")
    assert os.read(r, 9) == b"via"
    for f in (r, w, fds[0]):
        os.close(f)
    cred = a.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    assert struct.unpack("3i", cred)[0] == os.getpid()
    a.close()
    b.close()
    for t in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        x, y = socket.socketpair(socket.AF_UNIX, t)
        x.send(b"1")
        assert y.recv(2) == b"1"
        x.close()
        y.close()


@step
def unix_abstract():
    s = socket.socket(socket.AF_UNIX)
    s.bind("\0casemate")
    s.listen()
    s.close()


@step
def netlink_route_interfaces():
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    s.bind((0, 0))
    s.send(struct.pack("IHHIIB3x", 20, 18, 0x301, 1, 0, 0))
    assert s.recv(65536)
    s.close()
    assert "lo" in [n for _, n in socket.if_nameindex()]


@step
def getaddrinfo_localhost():
    assert "127.0.0.1" in [a[4][0] for a in socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)]
    socket.gethostname()
    socket.getaddrinfo("::1", 1)


@step
def ioctls_of_sockets_and_files():
    a, b = socket.socketpair()
    a.send(b"abc")
    n = array.array("i", [0])
    fcntl.ioctl(b, termios.FIONREAD, n)
    assert n[0] == 3
    fcntl.ioctl(a, termios.FIONBIO, array.array("i", [1]))
    fcntl.ioctl(a, termios.FIOCLEX)
    fcntl.ioctl(a, termios.FIONCLEX)
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    fcntl.ioctl(s, 0x8912, struct.pack("iP", 0, 0))  # SIOCGIFCONF
    for x in (a, b, s):
        x.close()
    with tempfile.TemporaryFile() as f, tempfile.TemporaryFile() as g:
        # TCGETS, TIOCGWINSZ, FIONCLEX, FS_IOC_GETFLAGS, FICLONE
        for req in (0x5401, 0x5413, 0x5450, 0x80086601, 0x40049409):
            with either(errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL):
                fcntl.ioctl(f, req, g.fileno() if req == 0x40049409 else bytes(64))


@step
def ssl_context_and_handshake():
    ctx = ssl.create_default_context()
    k, s = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        ctx.wrap_bio(k, s, server_hostname="localhost").do_handshake()
    except ssl.SSLWantReadError:
        pass
    assert s.pending and ssl.RAND_bytes(16)
