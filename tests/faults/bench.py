"""One session in this process, on a real folder and a server that is a list; its disk calls can be made to fail."""

from __future__ import annotations

import asyncio
import builtins
import json
import logging
import os
import random
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import structlog

from nexusd.bridge.link import Link
from nexusd.bridge.runner import Runner
from nexusd.bridge.session import Session
from nexusd.clientdir import ClientDir
from nexusd.config.load import load
from nexusd.errors import Fate, RequestError
from nexusd.secrets import Secrets
from nexusd.spool import atomic, inbox, layout, outbox, sending
from nexusd.wire import batch, calls, records
from nexusd.wire.budget import Turn
from nexusd.wire.fate import Answer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SESSION = "5e55" * 12
MODULES = (atomic, inbox, layout, outbox, sending)


class Server:
    """A server without a network: what it accepted, and what it shows of it."""

    server = "http://127.0.0.1:1"

    def __init__(self) -> None:
        self.shown: list[dict[str, Any]] = []  # what polls see: gone after a restart
        self.truth: list[tuple[str, str]] = []  # who, text: all that was ever accepted
        self.last = 0
        self.polls = 0
        self.next_cursor: Callable[[int, int | None], Any] = lambda last, _: str(last)
        self.lose: Callable[[], str] = lambda: ""  # "before", "after" or "" for each POST
        self.fail_polls = False
        self.echo = True
        self.seen_at_poll: Callable[[], None] = lambda: None

    def say(self, who: str, text: str, **more: Any) -> dict[str, Any]:
        self.last += 1
        message = {"id": f"msg_{random.getrandbits(48):x}", "agentId": who, "text": text, "cursor": str(self.last)}
        message |= {"verified": True, **more}
        self.shown.append(message)
        self.truth.append((who, text))
        return message

    def restart(self) -> None:
        self.shown, self.last = [], 0

    def said(self, who: str) -> list[str]:
        return [text for name, text in self.truth if name == who]

    # ---- as the client

    connections = 1
    server_time: float | None = None

    def remaining(self, lease: records.Lease) -> float | None:
        return lease.ttl

    async def session(self, session: str, *, fresh: bool = False) -> records.Session:
        return records.Session.of({"sessionId": session, "agents": ["alice", "bob"]})

    async def poll(self, session: str, agent: str, *, after: int | None = None, members: bool = False, wait: int = 0):
        await asyncio.sleep(0)
        self.polls += 1
        if self.fail_polls:
            raise RequestError(Fate.NOT_SENT, "server_unreachable", "a test says so")
        start = -1 if after is None else after
        messages = [m for m in self.shown if int(m["cursor"]) > start and (self.echo or m["agentId"] != agent)]
        last = int(messages[-1]["cursor"]) if messages else self.last
        body: dict[str, Any] = {"messages": messages, "nextCursor": self.next_cursor(last, after)}
        if body["nextCursor"] is ...:
            del body["nextCursor"]
        self.seen_at_poll()
        return batch.read(calls.poll(session, agent), Answer(200, body=json.dumps(body).encode()))

    async def send(self, _: str, agent: str, key: str | None, *, text: str | None = None, payload: Any = None):
        await asyncio.sleep(0)
        lost = self.lose()
        if lost != "before":
            message = self.say(agent, text or json.dumps(payload))
        if lost:
            raise RequestError(Fate.MAYBE_SENT, "answer_lost", "a test says so")
        return records.Sent.of(message | {"expiresAt": None})

    async def health(self) -> records.Health:
        return records.Health.of({"status": "ok", "capabilities": {"messageFormat": ["text", "json"]}})

    async def renew(self, session: str, agent: str, *, ttl: int | None = None):
        return records.Session.of({"sessionId": session, "ttl": 3600})


class Bench:
    """A home with one session called chat, ours as alice."""

    def __init__(self, home: Path, server: Server | None = None, settings: str = "") -> None:
        self.home = home
        self.server = server or Server()
        home.mkdir(exist_ok=True)
        config = home / "config.toml"
        config.touch(0o600)
        config.write_text(
            'root = "nexus"\nclient_dir = "client"\nsettle = 0\nquiet = 0\n'
            'agent_id = "alice"\nrequests_per_minute = 0\n'
            f"{settings}\n"
            f'[sessions.chat]\nid = "{SESSION}"\n'
        )
        self.config = load(str(config))
        self.clients = ClientDir(self.config.client_dir)
        if self.clients.agent(SESSION) is None:
            self.clients.save(SESSION, server=self.server.server, key="k" * 20, agent="alice")
        self.root = home / "nexus"
        self.folder = self.root / "chat"
        self.runner: Runner | None = None

    def start(self) -> None:
        """A new life of the daemon's; only inside an event loop."""
        log = structlog.wrap_logger(
            structlog.PrintLogger(open(os.devnull, "w")),  # noqa: SIM115
            wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        )
        link = Link(self.server.server, self.config)
        link.client = self.server
        session = Session(self.config.sessions[0], str(self.root), link, self.clients, Secrets(), log)
        session.open()
        self.runner = Runner(session, random.Random(1))
        for lane in self.runner.lanes:
            lane.stop()  # steps are taken by hand: `turn`

    @property
    def session(self) -> Session:
        return self.runner.session

    async def turn(self) -> list[str]:
        """A poll and a step of the sender; the faults that came out."""
        faults = []
        self.session.standing._holds.clear()  # as if the time of a backoff had passed
        for lane, step in ((Turn.POLL, self.runner._poller.step), (Turn.SEND, self.runner._sender.step)):
            try:
                await step()
            except Exception as fault:
                faults.append(f"{type(fault).__name__}: {fault}")
                self.runner._fault(lane, fault)
        return faults

    async def until_done(self, turns: int = 60) -> None:
        """Turns until everything dropped is sent or failed, and a poll brought nothing."""
        for _ in range(turns):
            faults = await self.turn()
            sender = self.runner._sender
            if not faults and sender.idle and not list((self.folder / "outbox").glob("[!.]*")):
                assert not await self.turn()
                return
        raise AssertionError(f"not done after {turns} turns: {faults}, {self.places()}")

    def drop(self, name: str, text: str) -> None:
        (self.folder / "outbox").mkdir(parents=True, exist_ok=True)
        aside = self.folder / "outbox" / f".{name}.tmp"
        aside.write_text(text)
        at = time.time_ns()
        os.utime(aside, ns=(at, at))
        aside.rename(self.folder / "outbox" / name)

    def lines(self) -> list[dict[str, Any]]:
        found = []
        rotated = sorted(self.folder.glob("inbox-*.jsonl"), key=lambda p: int(p.stem.split("-")[1]))
        for path in [*rotated, self.folder / "inbox.jsonl"]:
            data = path.read_bytes() if path.exists() else b""
            assert not data or data.endswith(b"\n"), "a torn line"
            found += [json.loads(line) for line in data.split(b"\n")[:-1]]
        return found

    def heard(self) -> list[str]:
        return [line["text"] for line in self.lines() if line["kind"] == "message"]

    def places(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for place in ("outbox", "sent", "failed", ".nexusd/sending/*"):
            for path in self.folder.glob(f"{place}/*"):
                if not path.name.endswith((".receipt.json", ".error.json", ".tmp")):
                    found.setdefault(path.name, []).append(place)
        return found

    def close(self) -> None:
        if self.runner is not None:
            self.runner.session.view.cancel()

    def check(self, *, theirs: list[str], ours: list[str]) -> None:
        """Nothing lost, nothing doubled, in order, every line valid, every file in one place."""
        lines = self.lines()
        assert self.heard() == theirs
        assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
        assert self.server.said("alice") == ours
        assert all(len(places) == 1 for places in self.places().values()), self.places()


CHANGING = (
    *("open", "write", "fsync", "fdatasync", "ftruncate", "rename", "replace", "mkdir", "rmdir", "unlink"),
    *("listdir", "scandir", "pread", "fstat"),
)


class Tripped:
    """`os`, as the spool sees it. Calls are counted; `trip(name, number)` gives an errno for those that are to fail."""

    def __init__(self, trip: Callable[[str, int], int | None]) -> None:
        self._trip = trip
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in CHANGING:
            return real

        def call(*args: Any, **more: Any) -> Any:
            fault = self.next(name)
            if fault is None:
                return real(*args, **more)
            if name == "write":
                real(args[0], bytes(args[1])[: len(args[1]) // 2])  # as a full disk does: some of it is there
            if name in ("fsync", "fdatasync", "rename", "replace", "unlink", "mkdir") and self.late:
                real(*args, **more)  # it has happened all the same
            raise OSError(fault, os.strerror(fault), *(a for a in args[:1] if isinstance(a, str)))

        return call

    late = False

    def next(self, name: str) -> int | None:
        self.calls.append(name)
        return self._trip(name, len(self.calls) - 1)

    def open_file(self, fd: int, mode: str) -> Any:
        """Instead of `open` in `atomic`: its writes fail too."""
        file = builtins.open(fd, mode)  # noqa: SIM115 - given on as `open` would
        if "w" not in mode:
            return file
        real, tripped = file.write, self

        class Half:
            def __enter__(self) -> Self:
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def flush(self) -> None:
                file.flush()

            def write(self, data: bytes) -> int:
                fault = tripped.next("write")
                if fault is None:
                    return real(data)
                real(data[: len(data) // 2])
                raise OSError(fault, os.strerror(fault))

        return Half()


@contextmanager
def tripped(trip: Callable[[str, int], int | None], *, late: bool = False):
    """The spool's disk calls go through `trip` inside."""
    disk = Tripped(trip)
    disk.late = late
    for module in MODULES:
        module.os = disk
    atomic.open = disk.open_file
    try:
        yield disk
    finally:
        for module in MODULES:
            module.os = os
        del atomic.open
