"""A fault, and then it has passed: everything is well again without a hand, and status said so. Real processes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess

import pytest

from tests.misbehaving import Fault, Misbehaving, refusal, status
from tests.world import until


@pytest.fixture
def server():
    with Misbehaving() as running:
        yield running


@pytest.fixture
def chat(server, daemons):
    """(daemon, peer says): alice serves the session `chat`, in which bob is."""
    alice = daemons("alice", server.url)
    alice.add("chat", "--create", "--ttl", "600")
    (session,) = server.sessions()
    key = server.join(session, "bob")
    return alice, lambda text: server.say(session, "bob", key, text)


def told(daemon) -> dict:
    return json.loads(daemon.command("status", check=False).stdout)


def well(daemon) -> bool:
    return daemon.command("status", check=False).returncode == 0


async def _never(_, writer) -> bool:
    import asyncio  # noqa: PLC0415

    await asyncio.sleep(3600)
    return False


SILENT = Fault("silent", False, _never)


@pytest.mark.parametrize("fault", [SILENT, status(502), status(404), status(200, b"<html>"), refusal(429, "busy")])
def test_case_103_whatever_health_does_polls_and_sends_go_on(server, chat, fault):
    alice, say = chat
    server.faults = lambda request: fault if request.kind == "health" else None
    alice.start()
    for n in range(3):
        say(f"in {n}")
        alice.drop("chat", f"{n}.txt", f"out {n}")
        until(lambda n=n: alice.texts("chat") == [f"in {k}" for k in range(n + 1)])
        alice.receipt("chat", f"{n}.txt")
    assert server.said("alice") == [f"out {n}" for n in range(3)]
    assert told(alice)["sessions"][0]["state"] == "active"


GATEWAY = [
    status(401, b'{"error":"unauthorized"}'),
    status(403, b'{"error":"Forbidden"}'),
    status(403, b"<html>blocked</html>"),
    refusal(403, "forbidden"),
    status(404, b'{"error":"not_found"}'),
    status(409, b'{"error":"conflict"}'),
]


@pytest.mark.parametrize("fault", GATEWAY, ids=range(len(GATEWAY)))
def test_case_106_a_gateway_that_answers_everything_for_a_while_costs_nothing(server, chat, fault):
    alice, say = chat
    alice.start()
    say("before")
    until(lambda: alice.texts("chat") == ["before"])
    (session,) = server.sessions()
    key = (alice.client_dir / "sessions" / session / "key").read_text()
    joins = sum(r.kind == "join" for r in server.requests)
    server.faults = lambda request: None if request.kind in ("health", "describe") else fault
    alice.drop("chat", "a.txt", "hello")
    until(lambda: alice.view("chat")["state"] == "backoff")
    until(lambda: len([n for kind, n, _ in server.done if kind in ("send", "poll")]) >= 6)
    assert told(alice)["sessions"][0]["unsent"] == 1
    server.faults = lambda _: None
    say("after")
    until(lambda: alice.texts("chat") == ["before", "after"], patience=90)
    alice.receipt("chat", "a.txt")
    until(lambda: alice.view("chat")["state"] == "active" and alice.view("chat")["lastError"] is None, patience=90)
    assert sum(r.kind == "join" for r in server.requests) == joins
    assert (alice.client_dir / "sessions" / session / "key").read_text() == key
    assert alice.notices("chat") == []


@pytest.mark.parametrize(
    "answer", [status(403, b'{"error":"Forbidden"}'), status(200, b'{"ok":true}')], ids=["403", "200"]
)
def test_case_106_a_gateway_at_the_first_join_is_no_leave_and_no_entry(server, daemons, answer):
    alice = daemons("alice", server.url)
    session = server.create(ttl=600)
    alice.configure(sessions=f'[sessions.chat]\nid = "{session}"\n')
    server.faults = lambda request: answer if request.kind == "join" else None
    alice.start()
    until(lambda: alice.view("chat")["state"] == "backoff")
    server.faults = lambda _: None
    until(lambda: alice.view("chat")["state"] == "active", patience=60)
    assert (alice.client_dir / "sessions" / session / "key").read_text().strip()
    assert alice.notices("chat") == []


def test_session_json_is_true_while_the_records_of_all_sessions_are_away(chat):
    alice, _ = chat
    alice.start()
    until(lambda: alice.view("chat")["state"] == "active")
    alice.client_dir.rename(alice.home / "away")
    until(lambda: alice.view("chat")["state"] == "blocked")
    assert "is not there" in alice.view("chat")["lastError"]
    (alice.home / "away").rename(alice.client_dir)
    until(lambda: (seen := alice.view("chat"))["state"] == "active" and not seen["lastError"], patience=60)


def test_case_113_a_kill_during_the_join_needs_no_hand(server, daemons):
    alice = daemons("alice", server.url)
    session = server.create(ttl=600)
    alice.configure(sessions=f'[sessions.chat]\nid = "{session}"\n')
    server.faults = lambda request: Fault("swallowed", True, _never) if request.kind == "join" else None
    alice.start()
    until(lambda: [r for r in server.requests if r.kind == "join"])
    alice.kill()
    server.faults = lambda _: None
    alice.start()
    alice.drop("chat", "a.txt", "hello")
    until(lambda: alice.receipt("chat", "a.txt"))
    assert alice.view("chat")["state"] == "active"
    assert "unverified" in next(line["text"] for line in alice.inbox("chat") if line["kind"] == "notice")


def test_case_111_one_session_that_is_full_mutes_no_other(server, daemons):
    alice = daemons("alice", server.url)
    for name in ("full", "free"):
        alice.add(name, "--create", "--ttl", "600")
    sessions = {(p.parent.name): p.read_text().strip() for p in alice.client_dir.glob("sessions/*/nexusd")}
    full = next(session for session, folder in sessions.items() if folder.endswith("/full"))

    def fault(request):
        return (
            refusal(429, "rate_limit_exceeded", Retry_After="3600")
            if full in request.path and (request.kind == "send")
            else None
        )

    server.faults = fault
    alice.start()
    alice.drop("full", "a.txt", "hello")
    until(lambda: alice.view("full")["state"] == "backoff")
    polls = len([r for r in server.requests if r.kind == "poll" and full in r.path])
    alice.drop("free", "b.txt", "hello")
    alice.receipt("free", "b.txt")
    until(lambda: len([r for r in server.requests if r.kind == "poll" and full in r.path]) > polls)
    assert told(alice)["servers"][server.url]["pausedFor"] == 0


# ---- the place: real file systems


mounts = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("mount") is None, reason="mounting needs root and the program mount"
)


class Volume:
    """A small file system of its own, at a path."""

    def __init__(self, path, size: str = "1m") -> None:
        self.path, self.size = path, size
        path.mkdir(0o700)
        self.image = path.with_suffix(".image")

    def mount(self, *options: str) -> None:
        if not self.image.exists():
            subprocess.run(["truncate", "-s", self.size, self.image], check=True)
            subprocess.run(["mkfs.ext4", "-q", self.image], check=True, capture_output=True)
        ran = subprocess.run(
            ["mount", "-o", ",".join(["loop", *options]), self.image, self.path], check=False, capture_output=True
        )
        if ran.returncode:
            pytest.skip(f"no file system can be mounted here: {ran.stderr.decode()}")

    def unmount(self) -> None:
        subprocess.run(["umount", "-l", self.path], check=False, capture_output=True)


@pytest.fixture
def volume(tmp_path):
    made = Volume(tmp_path / "volume")
    yield made
    made.unmount()


@mounts
def test_case_121_a_volume_that_is_mounted_late_loses_nothing_and_nothing_is_made_under_it(server, chat, volume):
    alice, say = chat
    alice.configure(extra=f'root = "{volume.path}/nexus"')
    alice.root = volume.path / "nexus"
    volume.mount()
    alice.start()
    say("one")
    until(lambda: alice.texts("chat") == ["one"])
    alice.stop()
    volume.unmount()
    alice.start()
    say("two")
    seen = until(lambda: (found := told(alice))["sessions"][0]["state"] == "blocked" and found)
    assert seen["daemon"]["running"]
    assert "mount its volume" in seen["troubles"][0]
    assert list(volume.path.iterdir()) == []
    second = alice.command("run", "--once", check=False)  # no second one writes there either
    assert second.returncode in (1, 75)
    assert list(volume.path.iterdir()) == []
    volume.mount()
    until(lambda: alice.texts("chat") == ["one", "two"], patience=60)
    assert [line["seq"] for line in alice.inbox("chat")] == [1, 2]
    until(lambda: well(alice))


@mounts
def test_case_121_a_volume_that_is_taken_away_while_it_runs_is_waited_for(server, chat, volume):
    alice, say = chat
    alice.configure(extra=f'root = "{volume.path}/nexus"')
    alice.root = volume.path / "nexus"
    volume.mount()
    alice.start()
    say("one")
    until(lambda: alice.texts("chat") == ["one"])
    volume.unmount()
    say("two")
    until(lambda: told(alice)["sessions"][0]["state"] == "blocked")
    assert list(volume.path.iterdir()) == []
    volume.mount()
    until(lambda: alice.texts("chat") == ["one", "two"], patience=60)
    until(lambda: well(alice))


def fill(path) -> None:
    """Take all the space there is, for whoever we are."""
    with (path / "fill").open("wb", buffering=0) as file:
        size = 1 << 16
        while size:
            try:
                file.write(b"x" * size)
            except OSError:
                size //= 2


@mounts
def test_case_167_a_full_disk_is_said_at_once_and_passes(server, chat, volume):
    alice, say = chat
    alice.configure(extra=f'root = "{volume.path}/nexus"')
    alice.root = volume.path / "nexus"
    volume.mount()
    alice.start()
    say("one")
    until(lambda: alice.texts("chat") == ["one"])
    fill(volume.path)
    say("two" * 5_000)
    seen = until(lambda: (found := told(alice))["sessions"][0]["state"] == "blocked" and found)
    assert alice.command("status", check=False).returncode == 1
    assert "the disk is full" in seen["sessions"][0]["lastError"]
    assert "df -h" in seen["troubles"][0]
    (volume.path / "fill").unlink()
    until(lambda: len(alice.texts("chat")) == 2, patience=90)
    until(lambda: well(alice), patience=90)


@mounts
def test_case_120_a_disk_that_is_full_at_the_start_only_is_full_only_then(server, chat, volume):
    alice, say = chat
    alice.configure(extra=f'root = "{volume.path}/nexus"')
    alice.root = volume.path / "nexus"
    volume.mount()
    fill(volume.path)
    alice.start()
    say("one")
    until(lambda: not well(alice))
    (volume.path / "fill").unlink()
    until(lambda: alice.texts("chat") == ["one"], patience=60)
    until(lambda: well(alice))


def test_case_167_an_inbox_that_is_a_link_is_said_at_once_and_passes(server, chat):
    alice, say = chat
    alice.start()
    say("one")
    until(lambda: alice.texts("chat") == ["one"])
    inbox = alice.folder("chat") / "inbox.jsonl"
    inbox.rename(inbox.with_name("aside"))
    inbox.symlink_to("aside")
    say("two")
    seen = until(lambda: (found := told(alice))["sessions"][0]["state"] == "blocked" and found)
    assert "inbox.jsonl" in seen["troubles"][0]
    inbox.unlink()
    inbox.with_name("aside").rename(inbox)
    until(lambda: alice.texts("chat") == ["one", "two"], patience=90)
    until(lambda: well(alice), patience=90)


def test_case_120_a_ca_file_that_comes_late_is_taken_up(server, daemons):
    alice = daemons("alice", server.url)
    alice.configure(
        extra=f'server = "https://127.0.0.1:{server.port}"\nca_file = "late.pem"',
        sessions=(f'[sessions.chat]\nid = "{"5e" * 24}"\n'),
    )
    alice.start()
    until(lambda: "ca_file" in (told(alice)["sessions"][0].get("lastError") or ""))
    import certifi  # noqa: PLC0415

    shutil.copy(certifi.where(), alice.home / "late.pem")
    until(lambda: "ca_file" not in (told(alice)["sessions"][0].get("lastError") or ""), patience=60)


def test_a_session_folder_that_is_removed_again_and_again_is_back_each_time_and_drops_are_noticed(server, chat):
    alice, _ = chat
    alice.start()
    for n in range(4):
        until(lambda: (alice.folder("chat") / "outbox").is_dir() and alice.view("chat")["state"] == "active")
        alice.drop("chat", f"{n}.txt", f"text {n}")
        until(lambda n=n: server.said("alice")[-1:] == [f"text {n}"], patience=20)  # not only by the minute's look
        alice.folder("chat").rename(alice.home / f"away-{n}")


@mounts
def test_case_167_something_that_is_mounted_over_the_outbox_is_said(server, chat):
    alice, _ = chat
    alice.start()
    until(lambda: well(alice))
    outbox = alice.folder("chat") / "outbox"
    if subprocess.run(["mount", "-t", "tmpfs", "none", outbox], check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        (outbox / "a.txt").write_text("hello")
        alice.process.send_signal(signal.SIGHUP)
        seen = until(lambda: (found := told(alice))["sessions"][0]["state"] == "blocked" and found, patience=90)
        assert "another file system" in seen["sessions"][0]["lastError"]
    finally:
        subprocess.run(["umount", "-l", outbox], check=False)
    until(lambda: well(alice), patience=90)


@mounts
def test_case_120_no_inodes_at_the_first_start_is_said_and_passes(server, chat, tmp_path):
    alice, say = chat
    place = tmp_path / "few"
    place.mkdir()
    ran = subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=12,mode=700", "none", place], check=False)
    if ran.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        for n in range(20):
            with contextlib.suppress(OSError):
                (place / f"f{n}").touch()
        alice.configure(extra=f'root = "{place}/nexus"')
        alice.root = place / "nexus"
        alice.start()
        say("one")
        seen = until(lambda: (found := told(alice))["daemon"]["running"] and not found["ok"] and found)
        assert "no more files can be made there" in " ".join(seen["troubles"])
        subprocess.run(["mount", "-o", "remount,nr_inodes=10000", place], check=True)
        until(lambda: alice.texts("chat") == ["one"], patience=60)
        until(lambda: well(alice), patience=60)
    finally:
        subprocess.run(["umount", "-l", place], check=False)
