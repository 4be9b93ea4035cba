"""What is measured, each as a function that yields rows: name, value, unit, aim."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from nexusd.bridge.sift import Known, sift
from nexusd.spool import dropping, line
from nexusd.spool.inbox import Inbox
from nexusd.spool.layout import SessionFolder
from nexusd.wire import batch, calls
from nexusd.wire.fate import Answer
from tests.bench import simulation
from tests.world import NEXUS, Daemon, Relay, until

if TYPE_CHECKING:
    from collections.abc import Iterator


class Row(NamedTuple):
    """One figure; `aim` is what it should not exceed."""

    name: str
    value: float
    unit: str
    aim: float | None = None


@contextmanager
def folder() -> Iterator[Path]:
    """A folder that goes away."""
    with tempfile.TemporaryDirectory(prefix="nexusd-bench-") as path:
        yield Path(path)


@contextmanager
def quiet_server() -> Iterator[str]:
    """The server on which nothing happens."""
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.server"], stdout=subprocess.PIPE)
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def with_sessions(home: Path, server: str, count: int, settings: str) -> Daemon:
    """A daemon that is in so many sessions already."""
    daemon = Daemon(home, server, "bench", settings=f'log_level = "info"\n{settings}')
    (home / "sessions.d").mkdir(mode=0o700)
    for n in range(count):
        identity = hashlib.sha256(f"session {n}".encode()).hexdigest()[:48]
        known = daemon.client_dir / "sessions" / identity
        known.mkdir(parents=True, mode=0o700)
        for name, value in (("agent", "bench"), ("key", "k" * 43), ("server", server)):
            (known / name).write_text(value + "\n")
        path = home / "sessions.d" / f"s{n}.toml"
        path.touch(0o600)
        path.write_text(f'id = "{identity}"\n')
    return daemon


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss(pid: int) -> float:
    """Its memory in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def asked(server: str) -> int:
    """Requests that the quiet server has had so far."""
    with urllib.request.urlopen(f"{server}/asked") as answer:  # noqa: S310 - our own
        return int(answer.read())


def span(seconds: float) -> None:
    """Let time pass: here it is what is measured against."""
    time.sleep(seconds)


def polls() -> Iterator[Row]:
    """CPU of an empty poll, all included."""
    for transport, aim in (("httpx", 0.4), ("aiohttp", 0.2)):
        yield Row(f"CPU of an empty poll, {transport}", _cost_of_a_poll(transport), "ms", aim)
    with quiet_server() as server:
        curl = ["curl", "-s", *(["-o", "/dev/null", f"{server}/v1/sessions/x/messages?after=0"] * 100)]
        before = os.times()
        subprocess.run(curl, check=False)
        after = os.times()
        spent = after.children_user + after.children_system - before.children_user - before.children_system
        yield Row("CPU of the same request by curl, 100 in one process", 10 * spent, "ms")


def _cost_of_a_poll(transport: str) -> float:
    """Milliseconds of a daemon's CPU."""
    settings = f'poll_interval = "100ms"\nactive_poll_interval = "100ms"\ntransport = "{transport}"'
    with folder() as home, quiet_server() as server:
        daemon = with_sessions(home / "d", server, 80, settings)
        daemon.start()
        span(5)
        used, made = cpu(daemon.process.pid), asked(server)
        span(15)
        used, made = cpu(daemon.process.pid) - used, asked(server) - made
        daemon.stop()
        return 1000 * used / made


def growth() -> Iterator[Row]:
    """Memory, start and idle CPU over the number of sessions; of 10,000 the start alone, for the rest takes minutes."""
    aims = {50: (45, 0.5), 1000: (60, 1.5)}
    for count in (10, 50, 100, 1000, 10_000):
        memory, start = aims.get(count, (None, None))
        with folder() as home, quiet_server() as server:
            daemon = with_sessions(home / "d", server, count, 'poll_interval = "1d"\nactive_poll_interval = "1d"')
            for again in (False, True):  # the first start makes the folders
                began = time.monotonic()
                daemon.start(ready=False)
                log = daemon.home / "log"
                until(lambda log=log, again=again: log.read_text().count("daemon.ready") > again, patience=120)
                took = time.monotonic() - began
                if count == 10_000:
                    daemon.kill()
                    continue
                until(lambda log=log, n=count * (1 + again): log.read_text().count("session.active") >= n, patience=240)
                if not again:
                    daemon.stop()
            yield Row(f"start to ready, {count} sessions", took, "s", start)
            if count == 10_000:
                return
            span(3)
            before = cpu(daemon.process.pid)
            span(10)
            yield Row(f"CPU at rest, {count} sessions", 10 * (cpu(daemon.process.pid) - before), "% of a core")
            yield Row(f"memory, {count} sessions", rss(daemon.process.pid), "MiB", memory)
            daemon.kill()


def outbox() -> Iterator[Row]:
    """From an outbox to the server: what our own commands drop, what is simply written there, and a burst."""
    with folder() as home:
        relay = Relay(home)
        alice = Daemon(home / "a", relay.url, "alice", settings='log_level = "warning"\npoll_interval = "30s"')
        alice.add("chat", "--create")
        alice.start(ready=False)
        until((alice.folder("chat") / "session.json").exists)
        alice.drop("chat", "first", "warm up")
        alice.receipt("chat", "first")
        session = next(alice.client_dir.joinpath("sessions").iterdir()).name

        def written(n: int) -> str:
            (alice.folder("chat") / "outbox" / f"{n}.txt").write_text(f"message {n}")
            return f"{n}.txt"

        def dropped(n: int) -> str:
            return dropping.drop(alice.folder("chat"), f"message {n}").name

        for what, put, aim in (("nexusd.drop", dropped, 15), ("plain write", written, 230)):
            taken = []
            for n in range(100):
                began = time.time()
                identity = alice.receipt("chat", put(n))["id"]
                sent = next(m["sentAt"] for m in relay.messages(session, "alice") if m["id"] == identity)
                taken.append(1000 * (datetime.fromisoformat(sent).timestamp() - began))
            yield Row(f"{what} to accepted, median of 100", median(taken), "ms", aim)
            yield Row(f"{what} to accepted, worst of 100", max(taken), "ms")
        words = [*NEXUS, "send", str(alice.folder("chat")), "hello"]
        taken = []
        for _ in range(20):
            began = time.monotonic()
            subprocess.run(
                words, check=True, capture_output=True, env=os.environ | {"NEXUS_CLIENT_DIR": str(alice.client_dir)}
            )
            taken.append(1000 * (time.monotonic() - began))
        yield Row("nexus send, from its start to its end, median of 20", median(taken), "ms")
        began = time.monotonic()
        for n in range(10_000):
            alice.drop("chat", f"burst{n}", f"{n}")
        done = alice.folder("chat") / "sent" / "burst9999.receipt.json"
        until(done.exists, patience=200)
        yield Row("burst of 10,000 files, each", 1000 * (time.monotonic() - began) / 10_000, "ms")
        alice.stop()
        relay.stop()


def backlog() -> Iterator[Row]:
    """A poll that brings 10,000 messages, to its commit."""

    one = '{"id":"msg_%d","agentId":"bob","text":"message number %d","cursor":"%d","verified":true}'
    body = ('{"messages":[' + ",".join(one % (n, n, n) for n in range(1, 10_001)) + '],"nextCursor":"10000"}').encode()
    with folder() as home:
        place = SessionFolder(str(home), "chat")
        place.make()
        inbox = Inbox(place, rotate_at=1 << 30)
        began = time.perf_counter()
        found = batch.read(calls.poll("s" * 48, "alice"), Answer(200, {}, body))
        news = sift(found, Known(None, "", set, "alice", keyed=True, greeted=False))
        lines = [
            line.render(e, seq=n, session="chat", received_at="2026-01-01T00:00:00.000Z")
            for n, e in enumerate(news.entries, 1)
        ]
        inbox.append(lines, "now")
        yield Row("a poll of 10,000 messages, to disk", time.perf_counter() - began, "s", 0.3)


def waiting() -> Iterator[Row]:
    """The simulation."""
    figures = simulation.run()
    tenth = figures["fixed"][0] / 10
    for name, (mean, late) in figures.items():
        yield Row(f"wait for a message, {name}, mean", mean, "s", tenth if name == "ours" else None)
        yield Row(f"wait for a message, {name}, 95 %", late, "s")


ALL = (backlog, waiting, outbox, polls, growth)
