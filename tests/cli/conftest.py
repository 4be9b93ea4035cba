"""The real program as a process, against a real relay or a server that answers as a test says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import nexusd

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(nexusd.__file__)))
RELAY = "import sys; from nexusd.relay.serve import serve; sys.exit(serve('127.0.0.1', 0, None, {limit}))"


@dataclass
class Ran:
    status: int
    out: str
    err: str

    @property
    def json(self):
        """stdout is one document on one line, and nothing else."""
        assert self.out.endswith("\n"), (self.out, self.err)
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)

    @property
    def lines(self):
        return [json.loads(line) for line in self.out.splitlines()]


class Nexus:
    """`nexus` with a home of its own."""

    def __init__(self, home, server: str) -> None:
        self.home = str(home)
        self.env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": ROOT,
            "NEXUS_CLIENT_DIR": self.home,
            "NEXUS_URL": server,
            "HOME": self.home,
        }
        self.server = server

    def start(self, *args: str, umask: int = -1, **env: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "nexusd.cli.nexus", *args],
            env=self.env | env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            umask=umask,
        )

    def __call__(self, *args: str, stdin: bytes = b"", umask: int = -1, **env: str) -> Ran:
        process = self.start(*args, umask=umask, **env)
        out, err = process.communicate(stdin, timeout=60)
        ran = Ran(process.returncode, out.decode(), err.decode())
        assert "Traceback" not in ran.err, ran.err
        return ran

    def path(self, *parts: str) -> str:
        return os.path.join(self.home, *parts)

    def file(self, *parts: str) -> str | None:
        try:
            with open(self.path(*parts)) as file:
                return file.read()
        except FileNotFoundError:
            return None

    def write(self, text: str, *parts: str) -> None:
        os.makedirs(os.path.dirname(self.path(*parts)), 0o700, exist_ok=True)
        with open(self.path(*parts), "w") as file:
            file.write(text)


class Answering:
    """A server that gives the prepared answers in turn, the last one for ever, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict, bytes]] = []
        self.asked: list[tuple[str, str, dict, bytes]] = []
        self.open = threading.Event()  # cleared: answers are held back
        self.open.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.asked.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                outer.open.wait(60)
                status, headers, body = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815 - http.server looks for these names

            def log_message(self, *args) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, status: int, body: dict | bytes, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answers.append((status, {k.replace("_", "-"): v for k, v in headers.items()}, data))

    def close(self) -> None:
        self.open.set()
        self._server.shutdown()
        self._server.server_close()


def start_relay(limit: int = 0):
    process = subprocess.Popen(
        [sys.executable, "-c", RELAY.format(limit=limit)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": ROOT},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    return process, json.loads(process.stdout.readline())["url"]


@pytest.fixture(scope="session")
def relay():
    process, url = start_relay()
    yield url
    process.terminate()
    process.wait(10)


@pytest.fixture
def answering():
    server = Answering()
    yield server
    server.close()


@pytest.fixture
def nexus(tmp_path, relay):
    return Nexus(tmp_path / "client", relay)


@pytest.fixture
def other(tmp_path, relay):
    """A second person with a home of their own."""
    return Nexus(tmp_path / "other", relay)


@pytest.fixture
def room(nexus):
    """A session that `nexus` is in as alice, under the alias room; gives its id."""
    return nexus("create", "--join-as", "alice", "--alias", "room", "--ttl", "600").json["sessionId"]
