"""A real server for the tests, and a relay that cuts connections on demand."""

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
TOKEN = "python-test-token-0123456789abcdef01234567"


def binary() -> Path:
    named = os.environ.get("CASEMATE_BIN")
    candidates = [Path(named)] if named else [REPOSITORY / f"target/{kind}/casemate" for kind in ("debug", "release")]
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError(f"no casemate binary at {', '.join(map(str, candidates))}; build it or set CASEMATE_BIN")


class Server:
    """The binary with its own directories."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tools = folder / "tools"
        tools.mkdir()
        for path in (REPOSITORY / "examples/tools").glob("*.*"):
            shutil.copy(path, tools)
        shutil.copy(REPOSITORY / "tests/guests/stdin_cat.wasm", tools / "cat.wasm")
        self.start()

    def start(self) -> None:
        ready = self.folder / "ready.json"
        ready.unlink(missing_ok=True)
        arguments = ["--address", "127.0.0.1:0", "--http-address", "127.0.0.1:0", "--tools", "tools", "--data", "data"]
        environment = {**os.environ, "CASEMATE_AUTH__TOKEN": TOKEN}
        environment.pop("CASEMATE_CONFIG", None)
        environment["CASEMATE_CONTAINERS__IMAGES"] = "docker.io/casemate-test/*"
        environment["CASEMATE_CONTAINERS__ON_SHUTDOWN"] = "stop"
        if interpreters := os.environ.get("CASEMATE_TEST_INTERPRETERS"):
            environment["CASEMATE_INTERPRETERS__DIRECTORY"] = interpreters
        with open(self.folder / "log", "a") as log:
            self.process = subprocess.Popen(
                [binary(), "serve", *arguments, "--ready-file", "ready.json"],
                cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        until(lambda: ready.exists() or self.process.poll() is not None, "the server")
        assert self.process.poll() is None, (self.folder / "log").read_text()
        self.address = json.loads(ready.read_text())["grpc"]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def until(holds, what: str, patience: float = 30.0) -> None:
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, f"waited {patience} s for {what}"
        time.sleep(0.005)


class Relay:
    """Passes connections on to the server and cuts them all when told to."""

    def __init__(self, target: str) -> None:
        host, port = target.rsplit(":", 1)
        self.target = (host, int(port))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.lock = threading.Lock()
        self.open: list[socket.socket] = []
        self.accepted = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection(self.target)
            with self.lock:
                self.accepted += 1
                self.open += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    @staticmethod
    def _pass(one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                other.sendall(data)
        except OSError:
            pass
        finally:
            for end in (one, other):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def cut(self) -> None:
        with self.lock:
            for end in self.open:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            self.open.clear()

    def close(self) -> None:
        self.listener.close()
        self.cut()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.stop()


@pytest.fixture
def relay(server):
    relay = Relay(server.address)
    yield relay
    relay.close()


@pytest.fixture
def client(server):
    from casemate import Client

    with Client(server.address, TOKEN) as client:
        yield client
