"""A whole daemon in virtual time: its sessions, its root, a server that can do anything, and a machine that can too.

Faults are states that are put in force and taken away again. `calm` takes all of them away; what is asked then is
whether everything is well again without a hand, and how long that took.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import functools
import json
import os
import random
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexusd import clientdir, root, serving
from nexusd.bridge import session as sessions
from nexusd.bridge import view
from nexusd.bridge.link import Link
from nexusd.bridge.supervisor import Supervisor
from nexusd.clientdir import ClientDir
from nexusd.config.load import load
from nexusd.secrets import Secrets
from nexusd.spool import atomic, inbox, layout, outbox, rootlock, sending
from nexusd.wire import backoff, budget, records
from tests import virtual
from tests.bridge.world import SERVER, Log, Server, _inline, lost, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

IDS = {"chat": "5e" * 24, "work": "7a" * 24}
OTHERS = {"chat": "6f" * 24, "work": "8b" * 24}  # sessions that a slip of the hand gives these names
DISK = (atomic, inbox, layout, outbox, sending, clientdir, serving, root, rootlock)
WRITES = {"open", "mkdir", "rename", "replace", "write", "fsync", "fdatasync", "unlink", "ftruncate", "link", "pwrite"}


class Place:
    """`os`, as the disk's modules see it: below `where` every call that changes something may fail with `error`."""

    def __init__(self) -> None:
        self.error: int | None = None
        self.where = "/"

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in WRITES or self.error is None:
            return real
        return functools.partial(self._failing, name, real)

    def _failing(self, name: str, real: Any, *given: Any, **more: Any) -> Any:
        writes = name != "open" or given[1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        path = given[0]
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        elif str(path).startswith("/proc/self/fd/"):
            path = os.path.realpath(path)
        if writes and self.error is not None and os.fsdecode(path).startswith(self.where):
            raise OSError(self.error, os.strerror(self.error), path)
        return real(*given, **more)


class Room(Server):
    """One session on the server; `accepted` is the truth, each message with its number in `sentAt`."""

    def __init__(self, session: str, house: Household) -> None:
        super().__init__()
        self.id, self.house, self.now = session, house, house.loop.time
        self.accepted: list[dict[str, Any]] = []
        self.restarts = 0
        self.late: float | None = None  # seconds after which a send takes effect, whose answer never comes
        self.echo_after = 0.0  # seconds after which our own messages are shown
        self.skew = 0.0  # seconds by which `expiresAt` is off
        self.gone = False

    def say(self, text: str | None, agent: str = "bob", **more: Any) -> int:
        number = f"{self.id[:2]}{len(self.accepted):06}"
        cursor = super().say(text, agent, **{**more, "id": f"m{self.cursor + 1}", "sentAt": number})
        self.accepted.append(self.messages[-1])
        self.messages[-1]["at"] = self.house.loop.time()
        return cursor

    def alive(self) -> None:
        self.ends_at = self.house.loop.time() + self.ttl

    def restart(self) -> None:
        super().restart()
        self.restarts += 1

    def said(self, agent: str = "me") -> list[str]:
        return [m["text"] for m in self.accepted if m["agentId"] == agent]

    def _lease(self) -> dict[str, Any]:
        left = (self.ends_at or virtual.clock() + self.ttl) - virtual.clock()
        at = time.gmtime(self.house.true_time() + left + self.skew)
        return {"ttl": self.ttl, "expiresAt": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", at)}

    @contextlib.asynccontextmanager
    async def _request(self, what: str):
        await self.house.meets(self, what)
        if self.gone:
            raise refusal(404, "session_not_found")
        async with super()._request(what):
            yield
            await asyncio.sleep(0.01)
        if self.house.swallow(what):
            await asyncio.sleep(30.0)
            raise lost()

    async def poll(self, session: str, agent: str, **asked: Any):
        hidden = [
            m for m in self.messages if m["agentId"] == agent and self.house.loop.time() - m["at"] < self.echo_after
        ]
        self.messages = [m for m in self.messages if m not in hidden]
        try:
            return await super().poll(session, agent, **asked)
        finally:
            self.messages = sorted(self.messages + hidden, key=lambda m: int(m["cursor"]))

    async def send(self, session: str, agent: str, key: str | None, **body: Any) -> records.Sent:
        if self.late is None:
            return await super().send(session, agent, key, **body)

        def land() -> None:
            if agent in self.members:
                self.say(body["text"], agent, verified=key == self.members[agent])

        await self.house.meets(self, "send")
        self.house.loop.call_later(30.0 + self.late, land)  # it was under way in something between us
        await asyncio.sleep(30.0)
        raise lost()


class Router:
    """The client of all sessions, as the Link knows it."""

    def __init__(self, house: Household) -> None:
        self.server = SERVER
        self.house = house
        self.connections = 1
        self.born = house.loop.time()

    @property
    def server_time(self) -> float | None:
        return self.house.true_time() if self.house.tells_time else None

    def remaining(self, lease: records.Lease) -> float | None:
        now = self.server_time
        return lease.ttl if lease.expires_at is None else lease.expires_at - (time.time() if now is None else now)

    async def health(self) -> records.Health:
        how = self.house.health
        await asyncio.sleep(0.01)
        if how == "hangs":
            await asyncio.sleep(30.0)
            raise lost()
        if how == "gone":
            raise refusal(404)
        return records.Health.of(
            {"uptime": self.house.loop.time() - self.born + 1, "capabilities": {"messageFormat": ["text", "json"]}}
        )

    async def close(self) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        async def asked(session: str, *given: Any, **more: Any) -> Any:
            self.house.on_request()
            room = next(room for room in self.house.all_rooms if room.id == session)
            return await getattr(room, name)(session, *given, **more)

        return asked


class Household:
    """A daemon's home. `do` runs something in the loop."""

    def __init__(self, home: Path, patch: pytest.MonkeyPatch, seed: int) -> None:
        self.loop = virtual.Loop()
        self.loop.set_exception_handler(lambda *_: None)
        self.home, self.patch = home, patch
        self.chance = random.Random(seed)
        self.jump = 0.0  # seconds by which this machine's clock is off
        self._real = time.time()
        patch.setattr(asyncio, "to_thread", _inline)
        patch.setattr(time, "time", lambda: self.true_time() + self.jump)
        patch.setattr(time, "time_ns", lambda: int((self.true_time() + self.jump) * 1e9))
        patch.setattr(time, "monotonic", self.loop.time)
        patch.setattr(time, "clock_gettime", lambda _: self.loop.time())
        patch.setattr(sessions, "Outbox", functools.partial(outbox.Outbox, clock=self.loop.time))
        patch.setattr(backoff, "_CHANCE", random.Random(seed))
        self.place = Place()
        for module in DISK:
            patch.setattr(module, "os", self.place)
        self.locked: set[str] = set()  # sessions that another daemon holds
        take = serving.Serving.take
        patch.setattr(
            serving.Serving, "take", lambda s, session, folder: session not in self.locked and take(s, session, folder)
        )
        patch.setattr(view, "DELAY", 0.2)
        self.supervisor: Supervisor | None = None
        self.ticking: asyncio.Task[None] | None = None
        self.rooms = {name: Room(session, self) for name, session in IDS.items()}
        self.other_rooms = {name: Room(session, self) for name, session in OTHERS.items()}
        self.all_rooms = [*self.rooms.values(), *self.other_rooms.values()]
        self.router = Router(self)
        self.on_request: Callable[[], None] = lambda: None
        self.reset()
        file = home / "config.toml"
        file.touch(0o600)
        tables = "".join(f'[sessions.{name}]\nid = "{session}"\n' for name, session in IDS.items())
        file.write_text(
            f'agent_id = "me"\nroot = "nexus"\nclient_dir = "client"\nserver = "{SERVER}"\n'
            f"requests_per_minute = 600\n{tables}"
        )
        self.file = file
        self.config = load(str(file), {})
        self.root = Path(self.config.root)
        self.client_dir = ClientDir(self.config.client_dir)
        self.log = Log()

    def reset(self) -> None:
        """No fault is in force."""
        self.words: dict[str, Callable[[], Exception]] = {}  # what a request of a kind is answered with
        self.silent: set[str] = set()  # kinds whose answers never come
        self.nodes = 0  # every so many requests meet a node that knows no session
        self.health = "well"
        self.tells_time = True
        self.place.error = None
        self.locked.clear()
        self._count = 0
        for room in self.all_rooms:
            room.late, room.echo_after, room.skew, room.gone, room.echo = None, 0.0, 0.0, False, True

    def true_time(self) -> float:
        """What a clock would show that is right."""
        return self._real + self.loop.time() - virtual.START

    # ---- the server's side

    async def meets(self, room: Room, what: str) -> None:
        """What a request meets on its way."""
        self._count += 1
        if self.nodes and self._count % self.nodes == 0:
            await asyncio.sleep(0.01)
            raise refusal(404, "session_not_found")
        word = self.words.get(what) or self.words.get("*")
        if word is not None:
            await asyncio.sleep(0.01)
            raise word()

    def swallow(self, what: str) -> bool:
        return what in self.silent or "*" in self.silent

    def restart_server(self) -> None:
        self.router.connections += 1
        self.router.born = self.loop.time()
        for room in self.all_rooms:
            room.restart()

    # ---- the daemon's

    def do(self, what: Callable[[], Any]) -> Any:
        async def inside() -> Any:
            found = what()
            return await found if asyncio.iscoroutine(found) else found

        return self.loop.run_until_complete(inside())

    def sleep(self, seconds: float) -> None:
        self.do(lambda: asyncio.sleep(seconds))

    def start(self) -> None:
        def make(server: str, config: Any) -> Link:
            link = Link(server, config)
            link.budget = budget.Budget(config.requests_per_minute, self.loop.time)
            link.client = self.router
            self.on_request = link.budget.debit
            return link

        async def begin() -> None:
            self.supervisor = Supervisor(self.config, Secrets(), self.log, make_link=make)
            self.supervisor.look_at_the_root()
            await self.supervisor.apply(self.config)
            self.ticking = asyncio.ensure_future(self._tick())

        self.do(begin)

    async def _tick(self) -> None:
        """As the daemon's clock and its watcher's do."""
        for n in range(10**9):
            await asyncio.sleep(1.0)
            self.supervisor.look_at_the_root()
            self.supervisor.heed_hands()
            if n % 60 == 0:
                for runner in list(self.supervisor.runners.values()):
                    runner.send.wake()

    def serve(self, name: str, room: Room) -> None:
        """A hand gives this name the id of that session; it is a member there."""
        if "me" not in room.members:
            room.members["me"] = f"{room.id[:2]}-key-123456"
            place, self.place.error = self.place.error, None
            self.client_dir.save(room.id, server=room.server, key=room.members["me"], agent="me")
            self.place.error = place
        sessions = tuple(dataclasses.replace(it, id=room.id) if it.name == name else it for it in self.config.sessions)
        self.config = dataclasses.replace(self.config, sessions=sessions)
        if self.supervisor is not None:
            self.do(lambda: self.supervisor.apply(self.config))

    def served(self, name: str) -> Room:
        """The session that has this name now."""
        current = next(it.id for it in self.config.sessions if it.name == name)
        return next(room for room in self.all_rooms if room.id == current)

    def meant(self, name: str) -> str:
        """The session that a file is for; empty where it had this name while no daemon could see that."""
        runner = self.supervisor.runners.get(name) if self.supervisor is not None else None
        room = self.served(name)
        seen = room.id == runner.session.id if runner is not None else not self.other_rooms[name].members
        return room.id if seen else ""

    def kill(self) -> None:
        """As by kill -9: nothing is written down."""

        async def end() -> None:
            supervisor, self.supervisor = self.supervisor, None
            self.ticking.cancel()
            for life in supervisor.lives.values():
                life._lane.stop()
                if life.runner is not None:
                    await life.runner.abandon()
                await life._lane.close()
            if supervisor._serving is not None:
                supervisor._serving.close()
            supervisor.root.close()

        self.do(end)

    def stop(self) -> None:
        """As by SIGTERM."""

        async def end() -> None:
            supervisor, self.supervisor = self.supervisor, None
            self.ticking.cancel()
            await supervisor.close()
            supervisor.root.close()

        self.do(end)

    def close(self) -> None:
        self.place.error = None
        if self.supervisor is not None:
            self.kill()
        self.loop.close()

    # ---- files

    def drop(self, session: str, name: str, text: str) -> bool:
        """A careful writer's drop; whether there is a folder for it."""
        folder = self.root / session / "outbox"
        if not folder.is_dir():
            return False
        aside = folder / f".{name}.tmp"
        aside.write_text(text)
        at = self.true_time()
        os.utime(aside, (at, at))
        aside.rename(folder / name)
        if self.supervisor is not None and session in self.supervisor.runners:
            self.do(self.supervisor.runners[session].send.wake)
        return True

    def unmount(self, *, folder: bool) -> None:
        """The root's volume is taken away; `folder`: an empty one is left, as a mount point is."""
        if not (away := self.home / "volume").exists():
            self.root.rename(away)
            if folder:
                self.root.mkdir(0o700)

    def mount(self) -> None:
        """It is there again; what was made under it is under it."""
        if (away := self.home / "volume").exists():
            if self.root.exists():
                shutil.rmtree(self.root)
            away.rename(self.root)

    def lines(self, session: str) -> list[dict[str, Any]]:
        folder = self.root / session
        parts = sorted(folder.glob("inbox-*.jsonl"), key=lambda p: int(p.stem.split("-")[1]))
        data = b"".join(p.read_bytes() for p in [*parts, folder / "inbox.jsonl"] if p.exists())
        return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]

    def places(self, session: str) -> dict[str, str]:
        """The one place of each dropped file."""
        found: dict[str, str] = {}
        for place, pattern in (
            ("outbox", "outbox/*"),
            ("sent", "sent/*"),
            ("failed", "failed/*"),
            ("sending", ".nexusd/sending/*/*"),
        ):
            for path in (self.root / session).glob(pattern):
                if not path.name.endswith((".receipt.json", ".error.json", ".tmp")):
                    assert path.name not in found, f"{path.name} is in {found[path.name]} and in {place}"
                    found[path.name] = place
        return found

    def note(self, session: str, name: str, place: str) -> dict[str, Any]:
        ending = "receipt" if place == "sent" else "error"
        return json.loads((self.root / session / place / f"{name}.{ending}.json").read_text())


ERRORS = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO, errno.EDQUOT)
