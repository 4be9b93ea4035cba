"""send beside a daemon: this process plays the daemon."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from nexusd.clientdir import ClientDir
from nexusd.serving import Serving


class Daemon:
    """Serves the session `room` from a folder, and does with each drop as it is told."""

    def __init__(self, nexus, session: str, folder) -> None:
        self.folder = folder
        self.claimed = folder / ".nexusd" / "sending" / "01JTESTCLAIM"
        for place in (folder / "outbox", folder / "sent", folder / "failed", self.claimed):
            place.mkdir(parents=True)
        self._serving = Serving(ClientDir(nexus.home))
        assert self._serving.take(session, str(folder))
        self.dropped: list[tuple[str, bytes]] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def handle(self, how) -> None:
        self._thread = threading.Thread(target=self._run, args=(how,), daemon=True)
        self._thread.start()

    def _run(self, how) -> None:
        while not self._stop.is_set():
            for name in sorted(os.listdir(self.folder / "outbox")):
                if not name.startswith("."):
                    os.rename(self.folder / "outbox" / name, self.claimed / name)
                    self.dropped.append((name, (self.claimed / name).read_bytes()))
                    how(name)
            time.sleep(0.001)

    def _note(self, place: str, name: str, note: dict) -> None:
        aside = self.folder / f".{name}"
        aside.write_text(json.dumps(note))
        os.rename(aside, self.folder / place / name)

    def accept(self, name: str) -> None:
        self._note("sent", f"{name}.receipt.json", {"id": "msg_1", "cursor": "5", "confirmed": "answer"})
        os.rename(self.claimed / name, self.folder / "sent" / name)

    def bounce(self, name: str) -> None:
        self._note("failed", f"{name}.error.json", {"error": "too_large", "message": "too large", "remedy": "cut it"})
        os.rename(self.claimed / name, self.folder / "failed" / name)

    def close(self) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join()
        self._serving.close()


@pytest.fixture
def daemon(nexus, room, tmp_path):
    playing = Daemon(nexus, room, tmp_path / "root" / "research")
    yield playing
    playing.close()


def test_send_goes_through_the_outbox_and_returns_the_receipt(nexus, daemon):
    daemon.handle(daemon.accept)
    ran = nexus("send", "room", "hello", "there")
    assert (ran.status, ran.json) == (0, {"id": "msg_1", "cursor": "5", "confirmed": "answer"})
    ((name, data),) = daemon.dropped
    assert name.endswith(".txt")
    assert data == b"hello there\n"
    assert nexus("poll", "room").json["messages"] == []


@pytest.mark.parametrize("name", ["room", "research"])
def test_the_session_is_found_by_alias_and_by_the_folders_name(nexus, daemon, name):
    daemon.handle(daemon.accept)
    assert nexus("send", name, "x").json["id"] == "msg_1"


def test_a_text_keeps_its_own_newlines_for_the_daemon_drops_one(nexus, daemon):
    daemon.handle(daemon.accept)
    nexus("send", "room", "-", stdin=b"a\n\n\n")
    assert daemon.dropped[0][1] == b"a\n\n\n"


def test_json_goes_as_a_payload_and_with_a_text_as_an_envelope(nexus, daemon):
    daemon.handle(daemon.accept)
    nexus("send", "room", "--json", '{"a": "\\ud800 ä"}')
    nexus("send", "room", "look", "--json", "[1]")
    (first, payload), (second, envelope) = daemon.dropped
    assert first.endswith(".json")
    assert not first.endswith(".msg.json")
    assert json.loads(payload) == {"a": "\ud800 ä"}
    assert second.endswith(".msg.json")
    assert json.loads(envelope) == {"text": "look", "json": [1]}


def test_a_bounced_message_gives_the_daemons_error(nexus, daemon):
    daemon.handle(daemon.bounce)
    ran = nexus("send", "room", "hello")
    assert (ran.status, ran.json["error"]) == (1, "too_large")
    assert "cut it" in ran.err


def test_what_nobody_claims_is_taken_back(nexus, daemon):
    ran = nexus("send", "room", "hello", "--timeout", "100ms")
    assert (ran.status, ran.json["error"]) == (1, "not_sent")
    assert os.listdir(daemon.folder / "outbox") == []


def test_claimed_but_unanswered_is_queued(nexus, daemon):
    daemon.handle(lambda name: None)
    ran = nexus("send", "room", "hello", "--timeout", "300ms")
    assert (ran.status, ran.json) == (0, {"status": "queued", "file": daemon.dropped[0][0]})


def test_no_wait_returns_at_once(nexus, daemon):
    ran = nexus("send", "room", "hello", "--no-wait")
    assert (ran.status, ran.json["status"]) == (0, "queued")
    assert os.listdir(daemon.folder / "outbox") == [ran.json["file"]]


@pytest.mark.parametrize(
    "args", [["--direct"], ["--agent-id", "bob"], ["--url", "http://localhost:{port}"], ["--strict", "--json", "1"]]
)
def test_direct_another_agent_and_another_server_go_by_http(nexus, other, room, daemon, args):
    assert other("join", room, "--agent-id", "bob").status == 0
    args = [arg.format(port=nexus.server.rpartition(":")[2]) for arg in args]
    ran = nexus("send", "room", "hello", *args)
    assert (ran.status, "cursor" in ran.json) == (0, True)
    assert os.listdir(daemon.folder / "outbox") == []


def test_the_sessions_own_agent_and_server_go_through_the_outbox(nexus, daemon):
    daemon.handle(daemon.accept)
    assert nexus("send", "room", "x", "--agent-id", "alice", "--url", nexus.server + "/").json["id"] == "msg_1"


def test_without_a_daemon_it_goes_by_http(nexus, daemon):
    daemon.close()
    daemon._serving = Serving(ClientDir(nexus.home))
    ran = nexus("send", "room", "hello")
    assert "expiresAt" in ran.json
    assert "no daemon runs for room" in ran.err
    assert "no daemon runs" not in nexus("send", "room", "hello", "--direct").err


def test_a_daemon_that_runs_but_does_not_serve_this_session_is_no_daemon_to_be_started(nexus, daemon):
    daemon.close()
    daemon._serving = Serving(ClientDir(nexus.home))
    daemon._serving.take_root(os.path.dirname(daemon.folder))
    ran = nexus("send", "room", "hello")
    assert "the daemon does not serve room" in ran.err
    assert "nexusd status" in ran.err
    assert "nexusd run" not in ran.err


def test_an_outbox_that_is_not_there_says_what_to_do(nexus, daemon):
    os.rmdir(daemon.folder / "outbox")
    ran = nexus("send", "room", "hello")
    assert (ran.status, ran.json["error"]) == (1, "no_outbox")
    assert "--direct" in ran.err


def test_beside_a_daemon_nothing_heavy_is_imported(nexus, daemon):
    daemon.handle(daemon.accept)
    process = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "nexusd.cli.nexus", "send", "room", "hello"],
        env=nexus.env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(process.stdout)["id"] == "msg_1"
    imported = {line.rpartition("|")[2].strip() for line in process.stderr.splitlines() if "import time:" in line}
    heavy = {"httpx", "structlog", "asyncio", "msgspec", "watchfiles", "http.client", "ssl", "email", "dataclasses"}
    assert "nexusd.cli.hand.dropping" in imported
    assert not imported & (heavy | {"socket", "subprocess", "shutil", "tempfile", "datetime", "inspect"})
    assert not {name for name in imported if name.startswith(("nexusd.wire", "nexusd.bridge"))}
    verbs = {name for name in imported if name.startswith("nexusd.cli.hand.")}
    assert not {name for name in verbs if name.endswith(("polling", "waiting", "sessions", "naming", "examining"))}
