"""What cannot work here says so, and what to use instead."""


def _install():
    import builtins, os, sys, threading, types

    def refuse(kind, text):
        def refused(*_, **__):
            raise kind(text)
        return refused

    no_threads = ("there are no threads in this sandbox: use asyncio for tasks that wait, or run the work in "
                  "order (n_jobs=1, max_workers do not help)")
    no_processes = ("there are no processes in this sandbox: do it in Python, or run the command with a tool in a "
                    "container")
    no_sockets = ("there are no sockets in this sandbox: use `from casemate import http` (http.get, http.post), "
                  "which goes through the gate")
    no_tls = "there is no ssl in this sandbox: `from casemate import http` takes https addresses"

    threading.Thread.start = refuse(RuntimeError, no_threads)
    import _thread
    _thread.start_new_thread = refuse(RuntimeError, no_threads)
    if hasattr(_thread, "start_joinable_thread"):
        _thread.start_joinable_thread = refuse(RuntimeError, no_threads)

    import subprocess
    subprocess.Popen.__init__ = refuse(OSError, no_processes)
    # It has no process to speak of, and __del__ looks at one.
    subprocess.Popen.__del__ = lambda self, *_: None
    for name in ("system", "popen", "fork", "forkpty", "execv", "execve", "execvp", "execvpe", "execl", "execlp",
                 "posix_spawn", "posix_spawnp", "spawnv", "spawnl", "startfile", "kill"):
        setattr(os, name, refuse(OSError, no_processes))

    import socket
    socket.socket.__init__ = refuse(OSError, no_sockets)
    for name in ("create_connection", "create_server", "getaddrinfo", "gethostbyname", "socketpair", "fromfd"):
        setattr(socket, name, refuse(OSError, no_sockets))

    import asyncio
    for module in (asyncio, asyncio.subprocess):
        for name in ("create_subprocess_exec", "create_subprocess_shell"):
            setattr(module, name, refuse(OSError, no_processes))

    # Missing where there is no ssl, and an AttributeError explains nothing.
    import http.client
    http.client.HTTPSConnection = type("HTTPSConnection", (), {"__init__": refuse(OSError, no_tls)})

    import hashlib
    if not hasattr(hashlib, "pbkdf2_hmac"):
        # Elsewhere OpenSSL has it, which is not here; the rest of hashlib needs none.
        import hmac

        def pbkdf2_hmac(hash_name, password, salt, iterations, dklen=None):
            """Password based key derivation function 2 (PKCS #5 v2.0) with HMAC."""
            if iterations < 1:
                raise ValueError("iteration value must be greater than 0.")
            size = hashlib.new(hash_name).digest_size
            length = size if dklen is None else dklen
            if length < 1:
                raise ValueError("key length must be greater than 0.")
            password, salt, key = bytes(password), bytes(salt), b""
            for block in range(1, -(-length // size) + 1):
                last = hmac.digest(password, salt + block.to_bytes(4, "big"), hash_name)
                total = int.from_bytes(last, "big")
                for _ in range(iterations - 1):
                    last = hmac.digest(password, last, hash_name)
                    total ^= int.from_bytes(last, "big")
                key += total.to_bytes(size, "big")
            return key[:length]

        hashlib.pbkdf2_hmac = pbkdf2_hmac

    class Missing:
        """Modules of C that this build has not, with what to use instead."""
        reasons = {"_ssl": no_tls, "_multiprocessing": no_processes, "_posixsubprocess": no_processes}

        def find_spec(self, name, path=None, target=None):
            reason = self.reasons.get(name)
            if reason is not None:
                raise ImportError(reason, name=name)
            return None

    for name in ("ssl", "_ssl"):
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, Missing())

    import multiprocessing
    for name in ("Process", "Pool"):
        setattr(multiprocessing, name, refuse(OSError, no_processes))


_install()
del _install
