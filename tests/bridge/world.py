"""One session's loops with a server in memory, the disk of a temporary folder, and time that passes at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexusd.bridge.link import Link
from nexusd.bridge.runner import Runner
from nexusd.bridge.session import Session
from nexusd.clientdir import ClientDir
from nexusd.config.load import load
from nexusd.errors import Fate, RequestError
from nexusd.secrets import Secrets
from nexusd.wire import batch, budget, calls, records
from nexusd.wire.fate import Answer, fate_of
from tests import virtual

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

SERVER = "http://relay.localhost"
ID, OTHER_ID = "5e" * 24, "6f" * 24


def refusal(status: int, code: str | None = None, **more: Any) -> RequestError:
    """An answer that says no."""
    return RequestError(fate_of(status, code), code or "non_json_response", "the server says no", status=status, **more)


def unreachable() -> RequestError:
    """A request that certainly did not arrive."""
    return RequestError(Fate.NOT_SENT, "server_unreachable", "nothing listens there")


def lost() -> RequestError:
    """A request whose answer was lost."""
    return RequestError(Fate.MAYBE_SENT, "answer_lost", "the connection broke")


class Server:
    """A NexusMessaging server in memory that answers as NexusClient gives it on, and notes what it was asked.

    `faults[what]` are raised before a request is acted on, `losses[what]` after it: one for each request.
    """

    def __init__(self) -> None:
        self.server = SERVER
        self.log: list[tuple[float, str]] = []
        self.faults: dict[str, list[RequestError]] = {}
        self.losses: dict[str, list[RequestError]] = {}
        self.members: dict[str, str] = {"bob": "bobs-key-123456"}
        self.messages: list[dict[str, Any]] = []
        self.extra = b""  # raw elements behind the messages
        self.cursor = 0
        self.ttl = 3600.0
        self.expires = True  # whether replies name an end
        self.ends_at: float | None = None
        self.echo = True
        self.takes_json = True
        self.holds = False  # polls, as long as they ask for
        self.warning: str | None = None
        self.rewrite = lambda text: text
        self.afters: list[int | None] = []
        self.now: Callable[[], float] = virtual.clock
        self.born = virtual.START
        self.connections = 1
        self.on_request = lambda: None

    # what happens there

    def say(self, text: str, agent: str = "bob", **more: Any) -> int:
        self.cursor += 1
        message = {"id": f"m{self.cursor}-{len(self.log)}", "agentId": agent, "cursor": str(self.cursor)}
        self.messages.append({**message, "verified": True, "text": text, **more})
        self.alive()
        return self.cursor

    def restart(self) -> None:
        """Sessions survive, messages do not, cursors and the uptime start again; connections are closed."""
        self.messages, self.cursor = [], 0
        self.born = self.now()
        self.connections += 1

    def alive(self) -> None:
        self.ends_at = virtual.clock() + self.ttl

    def fail(self, what: str, *faults: RequestError) -> None:
        self.faults.setdefault(what, []).extend(faults)

    def lose(self, what: str, *faults: RequestError) -> None:
        self.losses.setdefault(what, []).extend(faults or (lost(),))

    def asked(self, what: str) -> list[float]:
        """When it was asked for this, in seconds from the start."""
        return [round(at - virtual.START, 1) for at, name in self.log if name == what]

    def texts(self, agent: str = "me") -> list[str | None]:
        return [m.get("text") for m in self.messages if m["agentId"] == agent]

    # what NexusClient offers

    @contextlib.asynccontextmanager
    async def _request(self, what: str):
        self.on_request()
        self.log.append((virtual.clock(), what))
        await asyncio.sleep(0.01)
        if self.faults.get(what):
            raise self.faults[what].pop(0)
        if self.ends_at is not None and virtual.clock() > self.ends_at and what != "health":
            raise refusal(404, "session_not_found")
        yield
        if self.losses.get(what):
            raise self.losses[what].pop(0)

    def _lease(self) -> dict[str, Any]:
        left = (self.ends_at or virtual.clock() + self.ttl) - virtual.clock()
        at = time.gmtime(time.time() + left)
        return {
            "ttl": self.ttl,
            **({"expiresAt": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", at)} if self.expires else {}),
        }

    server_time: float | None = None

    async def session(self, session: str, *, fresh: bool = False) -> records.Session:
        async with self._request("session"):
            return records.Session.of({"sessionId": session, "agents": list(self.members), **self._lease()})

    async def join(self, _: str, agent: str) -> records.Joined:
        async with self._request("join"):
            if agent in self.members:
                raise refusal(409, "agent_id_taken")
            self.members[agent] = f"{agent}s-key-{len(self.log)}-123456"
            return records.Joined.of({"sessionKey": self.members[agent], **self._lease()})

    async def poll(
        self, _: str, agent: str, *, after: int | None = None, members: bool = False, wait: int = 0
    ) -> batch.Batch:
        async with self._request("poll"):
            self._member(agent)
            self.afters.append(after)
            until = virtual.clock() + wait * self.holds
            while True:
                shown = [m for m in self.messages if after is None or int(m["cursor"]) > after]
                if shown or virtual.clock() >= until:
                    break
                await asyncio.sleep(0.05)
            raws = [json.dumps(m).encode() for m in shown if self.echo or m["agentId"] != agent]
            body = b'{"messages":[' + b",".join([*raws, *filter(None, [self.extra])]) + b'],"nextCursor":'
            body += json.dumps(str(self.cursor)).encode()
            body += b',"members":[{"agentId":"bob","lastSeenAt":"x","more":1}]}' if members else b"}"
            return batch.read(calls.poll(ID, agent), Answer(200, {}, body))

    async def send(
        self, _: str, agent: str, key: str | None, *, text: str | None = None, payload: Any = None
    ) -> records.Sent:
        async with self._request("send"):
            self._member(agent)
            if key is not None and key != self.members[agent]:
                raise refusal(403, "invalid_session_key")
            more = {} if payload is None else {"json": payload}
            self.say(self.rewrite(text) if text is not None else text, agent, verified=key is not None, **more)
            if text is None:
                del self.messages[-1]["text"]
            warning = {"warning": self.warning} if self.warning else {}
            sent = {"id": self.messages[-1]["id"], "cursor": str(self.cursor), **self._lease(), **warning}
        return records.Sent.of(sent)

    async def renew(self, _: str, agent: str, *, ttl: int | None = None) -> records.Session:
        async with self._request("renew"):
            self._member(agent)
            self.ttl = ttl or self.ttl
            self.alive()
            return records.Session.of({"sessionId": ID, **self._lease()})

    async def health(self) -> records.Health:
        async with self._request("health"):
            formats = ["text", "json"] if self.takes_json else ["text"]
            uptime = virtual.clock() - self.born + 5
            return records.Health.of(
                {"uptime": uptime, "capabilities": {"messageFormat": formats, "longPoll": self.holds}}
            )

    def remaining(self, lease: records.Lease) -> float | None:
        return lease.ttl if lease.expires_at is None else lease.expires_at - time.time()

    async def close(self) -> None:
        pass

    def _member(self, agent: str) -> None:
        if agent not in self.members:
            raise refusal(403, "agent_not_in_session")


class Log:
    """What was logged: (event, fields)."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def bind(self, **_: Any) -> Log:
        return self

    def info(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    debug = warning = error = info

    def named(self, event: str) -> list[dict[str, Any]]:
        return [fields for name, fields in self.events if name == event]


class World:
    """A life of one session after another, on one disk and with one server."""

    def __init__(self, tmp_path: Path, settings: dict[str, str]) -> None:
        usual = {"agent_id": '"me"', "root": '"nexus"', "client_dir": '"client"', "server": f'"{SERVER}"'}
        usual |= {"poll_interval": '"30s"', "active_poll_interval": '"3s"', "requests_per_minute": "0"}
        usual["quiet"] = '"0s"'  # files have the time of the real clock
        file = tmp_path / "config.toml"
        file.touch(0o600)
        lines = [f"{key} = {value}" for key, value in (usual | settings).items()]
        file.write_text("\n".join([*lines, f'[sessions.chat]\nid = "{ID}"\n']))
        self.config = load(str(file), {})
        self.server = Server()
        self.client_dir = ClientDir(self.config.client_dir)
        os.makedirs(os.path.join(self.client_dir.path, "sessions"))  # as it is once a daemon has taken a session
        self.log = Log()
        self.secrets = Secrets()
        self.folder = Path(self.config.root, "chat")
        self.runner: Runner | None = None

    def is_in(self, key: str = "mine-123456") -> None:
        """We have joined before."""
        self.client_dir.save(ID, server=SERVER, key=key, agent="me")
        self.server.members["me"] = key

    def born(self) -> Runner:
        """A new life on what the earlier ones left."""
        link = Link(SERVER, self.config)
        link.budget = budget.Budget(self.config.requests_per_minute, virtual.clock)
        self.server.on_request = link.budget.debit
        link.client = self.server
        (config,) = self.config.sessions
        self.session = Session(config, self.config.root, link, self.client_dir, self.secrets, self.log)
        self.session.open()
        self.runner = Runner(self.session, random.Random(1))
        return self.runner

    async def live(self, seconds: float, *, close: bool = True) -> None:
        """Live for so long; a life begins if there is none."""
        if self.runner is None:
            self.born()
            self.runner.start()
        await asyncio.sleep(seconds)
        if close:
            await self.die()

    async def die(self, *, suddenly: bool = False) -> None:
        """End; `suddenly`: as by kill -9, nothing is written down any more."""
        runner, self.runner = self.runner, None
        if suddenly:
            for lane in runner.lanes:
                lane.stop()
            for lane in runner.lanes:
                await lane.close()
            runner.session.view.cancel()
        else:
            await runner.close(3.0)

    # the disk

    def drop(self, name: str, text: str | bytes = "hello") -> Path:
        path = self.folder / "outbox" / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        at = time.time()
        os.utime(path, (at, at))
        if self.runner is not None:
            self.runner.send.wake()  # as the watcher would
        return path

    def inbox(self) -> list[dict[str, Any]]:
        parts = sorted(self.folder.glob("inbox-*.jsonl"), key=lambda p: int(p.stem.split("-")[1]))
        path = self.folder / "inbox.jsonl"
        data = b"".join(p.read_bytes() for p in [*parts, *([path] if path.exists() else [])])
        lines = [json.loads(line) for line in data.splitlines()]
        assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
        return lines

    def heard(self) -> list[str | None]:
        return [line.get("text") for line in self.inbox() if line["kind"] == "message"]

    def notices(self) -> list[str]:
        return [line["notice"] for line in self.inbox() if line["kind"] == "notice"]

    def receipt(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / "sent" / f"{name}.receipt.json").read_text())

    def error(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / "failed" / f"{name}.error.json").read_text())

    def where(self) -> dict[str, str]:
        """The one place of each dropped file."""
        found: dict[str, str] = {}
        places = {"outbox": "outbox/*", "sent": "sent/*", "failed": "failed/*", "sending": ".nexusd/sending/*/*"}
        for place, pattern in places.items():
            for path in self.folder.glob(pattern):
                if not path.name.endswith((".receipt.json", ".error.json", ".tmp")):
                    assert path.name not in found
                    found[path.name] = place
        return found

    def view(self) -> dict[str, Any]:
        return json.loads((self.folder / "session.json").read_text())


async def _inline(function, *given, **more):
    return function(*given, **more)


def clocked(monkeypatch: pytest.MonkeyPatch, since: Callable[[], float]) -> None:
    """The program's clocks show virtual time, and its threads are none."""
    real = time.time()
    monkeypatch.setattr(asyncio, "to_thread", _inline)
    monkeypatch.setattr(time, "time", lambda: real + since())
    monkeypatch.setattr(time, "time_ns", lambda: int((real + since()) * 1e9))
    monkeypatch.setattr(time, "monotonic", lambda: virtual.START + since())
    monkeypatch.setattr(time, "clock_gettime", lambda _: virtual.START + since())


def worlds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Gives `run(main, **settings)`: runs `main(world)` in virtual time."""

    def since() -> float:
        try:
            return virtual.clock() - virtual.START
        except RuntimeError:
            return 0.0

    clocked(monkeypatch, since)

    def run(main, **settings: str) -> Any:
        async def begin() -> Any:
            world = World(tmp_path, settings)
            try:
                return await main(world)
            finally:
                if world.runner is not None:
                    await world.die()

        return virtual.run(begin())

    return run
