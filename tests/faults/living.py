"""A daemon's session in virtual time that can die at any call, by kill -9 or with the power, and a server that notes.

The disk is `disk.Recorder`: after a power loss what was not synced may be gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from nexusd.wire import backoff
from tests import virtual
from tests.bridge.world import Server, World, clocked
from tests.faults.bench import CHANGING, MODULES, atomic
from tests.faults.disk import Recorder

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

NOBODY = SimpleNamespace(shown=[], truth=[], last=0)  # the recorder need not turn a server back: we die in its presence
COUNTED = frozenset(CHANGING) - {"listdir", "scandir", "pread", "fstat"}  # calls before which a death is planned


class Dead(BaseException):
    """Nothing of the daemon runs any more; no handler of its own may see it as an error."""


class Mortal:
    """`os`, as the spool sees it. `calls_left`: it dies at the call after so many, half way through a write."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.calls_left: int | None = None
        self.dead = False

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.recorder, name)
        return (lambda *given, **more: self._call(name, real, given, more)) if name in CHANGING else real

    def _call(self, name: str, real: Any, given: tuple[Any, ...], more: dict[str, Any]) -> Any:
        if self.dead:
            raise Dead
        if self.calls_left is not None and name in COUNTED:
            self.calls_left -= 1
            if self.calls_left < 0:
                if name == "write":
                    real(*given[:-1], bytes(given[-1])[: len(given[-1]) // 2])
                self.dead = True
                raise Dead
        return real(*given, **more)

    def open_file(self, fd: int, mode: str) -> Any:
        """Instead of `open` in `atomic`."""
        file = self.recorder.open_file(fd, mode)
        if "w" in mode:
            real = file.write
            file.write = lambda data: self._call("write", real, (data,), {})
        return file


class Truth(Server):
    """The server, noting each message in `sentAt`, by number, and what it has shown to whom.

    After its restart cursors and ids come again. `owed`: what peers said and the daemon took in, by its own doing.
    """

    def __init__(self, world: Living) -> None:
        super().__init__()
        self.world = world
        self.now = world.loop.time
        self.ttl = 30 * 86_400.0
        self.accepted: list[dict[str, Any]] = []
        self.restarts = 0
        self.owed: set[str] = set()
        self._shown: set[str] = set()
        self.die_at: tuple[str, bool] | None = None  # at a request of this kind, once it has acted or before

    def say(self, text: str | None, agent: str = "bob", **more: Any) -> int:
        number = f"{len(self.accepted):06}"
        cursor = super().say(text, agent, **{**more, "id": f"m{self.cursor + 1}", "sentAt": number})
        self.accepted.append(self.messages[-1])
        return cursor

    def alive(self) -> None:
        self.ends_at = self.world.loop.time() + self.ttl

    def restart(self) -> None:
        super().restart()
        self.restarts += 1

    def bodies(self, agent: str) -> list[str]:
        """What was accepted of somebody's, in order, whatever became of it."""
        return [body(m) for m in self.accepted if m["agentId"] == agent]

    @contextlib.asynccontextmanager
    async def _request(self, what: str):
        self._alive(what, acted=False)
        async with super()._request(what):
            yield
            self._alive(what, acted=True)
            await asyncio.sleep(0.01)  # the answer's way back
            self._alive("", acted=True)

    def _alive(self, what: str, *, acted: bool) -> None:
        if self.die_at == (what, acted):
            self.die_at, self.world.disk.dead = None, True
        if self.world.disk.dead:
            raise Dead

    async def poll(self, session: str, agent: str, **asked: Any):
        runner = self.world.runner
        if runner is None or asyncio.current_task() is not runner.poll._task:
            return await super().poll(session, agent, **asked)  # a look for a witness
        if not runner.session.state.reread:  # else it had reason to doubt what it was shown
            self.owed |= self._shown
        self._shown = set()
        found = await super().poll(session, agent, **asked)
        self._shown = {json.loads(m.fields["sentAt"]) for m in found.messages if m.agent_id == "bob"}
        return found

    def forget_shown(self) -> None:
        """The daemon died with what it was shown last."""
        self._shown = set()


class Living(World):
    """`do` runs something in the loop; `home` is a temporary folder."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]) -> None:
        self.loop = virtual.Loop()
        self.loop.set_exception_handler(lambda *_: None)  # the dead complain of being dead
        clocked(monkeypatch, lambda: self.loop.time() - virtual.START)
        monkeypatch.setattr(backoff, "_CHANCE", random.Random(1))
        self._patch = monkeypatch
        super().__init__(home, settings)
        self.home = home
        self.server = Truth(self)
        self.is_in()
        self._mount()

    def _mount(self) -> None:
        self.disk = Mortal(Recorder(self.home / "nexus", NOBODY))
        for module in MODULES:
            self._patch.setattr(module, "os", self.disk)
        self._patch.setattr(atomic, "open", self.disk.open_file, raising=False)

    def do(self, what) -> Any:
        async def inside() -> Any:
            found = what()
            return await found if asyncio.iscoroutine(found) else found

        return self.loop.run_until_complete(inside())

    def start(self, die_after: int | None = None) -> None:
        """A new life; it may end at a disk call of its very beginning."""
        self.disk.dead, self.disk.calls_left, self.server.die_at = False, die_after, None
        try:
            self.do(lambda: self.born().start())
        except Dead:
            self.do(self.session.view.cancel)
            self.runner = None

    def stop(self) -> None:
        """As by SIGTERM; it may die of that."""
        try:
            self.do(self.die)
        except Dead:
            self.session.view.cancel()

    def sleep(self, seconds: float) -> None:
        self.do(lambda: asyncio.sleep(seconds))

    def kill(self) -> None:
        """As by kill -9; also the end of one that died by itself."""
        self.disk.dead = True
        self.do(lambda: self.die(suddenly=True))
        self.server.forget_shown()

    def lose_power(self, chance: random.Random, times: dict[str, float]) -> None:
        """What a disk may have kept. `times` are those of the dropped files, by name."""
        root, image = self.home / "nexus", self.home / "image"
        image.mkdir()
        self.disk.recorder.image(image, len(self.disk.recorder.ops), chance)
        shutil.rmtree(root, ignore_errors=True)
        image.rename(root)
        for path in root.rglob("*"):
            if path.name in times:
                os.utime(path, (times[path.name],) * 2)
        self._mount()

    def put(self, name: str, data: bytes, at: float) -> None:
        """Dropped the careful way: all of it on the disk."""
        outbox, disk = str(self.folder / "outbox"), self.disk.recorder
        aside = f"{outbox}/.{name}.tmp"
        fd = disk.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        disk.write(fd, data)
        disk.fsync(fd)
        os.utime(fd, (at, at))
        os.close(fd)
        disk.rename(aside, f"{outbox}/{name}")
        self.sync("outbox")

    def sync(self, folder: str) -> None:
        fd = self.disk.recorder.open(str(self.folder / folder), os.O_RDONLY)
        self.disk.recorder.fsync(fd)
        os.close(fd)

    def lines(self) -> list[dict[str, Any]]:
        """All whole lines, of parts put aside too."""
        found = []
        for path in self.folder.glob("*.jsonl"):
            data = path.read_bytes()
            found += [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]
        return sorted(found, key=lambda line: line["seq"])

    def close(self) -> None:
        if self.runner is not None:
            self.kill()
        self.loop.close()


def body(message: dict[str, Any]) -> str:
    """A text or a payload, as one string."""
    return message["text"] if message.get("text") is not None else json.dumps(message["json"])
