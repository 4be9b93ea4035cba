"""When to look. Real events of real folders; each wait is for what must happen, with a bound."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from typing import TYPE_CHECKING

import pytest
import watchfiles

from nexusd.bridge import watcher as watchers
from nexusd.bridge.watcher import Watcher
from tests.bridge.world import Log

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

PATIENCE = 20.0  # seconds; a bound, not a wait


class Seen:
    """What the watcher said, and waiting for it."""

    def __init__(self) -> None:
        self.calls: list[set[str] | None] = []
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self.quick = False

    def __call__(self, folders: set[str] | None) -> bool:
        self.calls.append(folders)
        task = asyncio.ensure_future(self._notify())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return self.quick

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, found) -> None:
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(found)

    def look(self, folder: Path) -> bool:
        """Whether it was said to look into this folder, be it with all others."""
        return any(call is None or str(folder) in call for call in self.calls)


@contextlib.asynccontextmanager
async def watching(*folders: Path):
    seen, log = Seen(), Log()
    watcher = Watcher(seen, log)
    watcher.watch(map(str, folders))
    running = asyncio.create_task(watcher.run())
    try:
        async with asyncio.timeout(PATIENCE):
            await watcher.live.wait()
        yield watcher, seen, log
    finally:
        running.cancel()
        await asyncio.wait({running})


@pytest.fixture
def places(tmp_path) -> list[Path]:
    made = [tmp_path / name for name in ("one", "two")]
    for path in made:
        path.mkdir()
    return made


async def test_at_the_beginning_everything_is_looked_into(places):
    async with watching(*places) as (_, seen, _):
        await seen.until(lambda: None in seen.calls)


async def test_a_file_that_is_dropped_is_told_with_its_folder_and_no_other(places):
    async with watching(*places) as (_, seen, _):
        await seen.until(lambda: None in seen.calls)
        (places[0] / "x").write_text("x")
        await seen.until(lambda: any(call and str(places[0]) in call for call in seen.calls))
        assert not [call for call in seen.calls if call and str(places[1]) in call]


async def test_what_happens_below_a_folder_is_not_told(places):
    (places[0] / "below").mkdir()
    async with watching(*places) as (_, seen, _):
        await seen.until(lambda: None in seen.calls)
        (places[0] / "below" / "x").write_text("x")
        (places[1] / "y").write_text("y")
        await seen.until(lambda: any(call and str(places[1]) in call for call in seen.calls))
        assert not [call for call in seen.calls if call and str(places[0] / "below") in call]


async def test_a_name_that_is_not_utf8_blinds_nobody(places, monkeypatch):
    monkeypatch.setattr(watchers, "FIRST", 0.01)
    async with watching(*places) as (_, seen, _):
        await seen.until(lambda: None in seen.calls)
        seen.calls.clear()
        os.mkfifo(os.path.join(os.fsencode(places[0]), b"\xff\xfe"))
        await seen.until(lambda: seen.look(places[0]))
        for n in range(3):
            seen.calls.clear()
            (places[1] / f"after {n}").write_text("x")
            await seen.until(lambda: seen.look(places[1]))


async def test_a_folder_that_is_removed_and_made_again_is_seen_again(places):
    async with watching(*places) as (_, seen, _):
        await seen.until(lambda: None in seen.calls)
        seen.calls.clear()
        shutil.rmtree(places[0])
        await seen.until(lambda: bool(seen.calls))
        places[0].mkdir()
        (places[0] / "early").write_text("x")
        await seen.until(lambda: seen.look(places[0]))


async def test_other_folders_can_be_watched_from_now_on(places):
    async with watching(places[0]) as (watcher, seen, _):
        await seen.until(lambda: None in seen.calls)
        watcher.watch([str(places[1])])
        seen.calls.clear()
        (places[1] / "x").write_text("x")
        await seen.until(lambda: seen.look(places[1]))


async def test_with_nothing_to_watch_it_waits_and_does_not_fail(tmp_path):
    async with watching(tmp_path / "not there") as (watcher, seen, log):
        assert log.named("watch.failed") == []
        (tmp_path / "there").mkdir()
        watcher.watch([str(tmp_path / "there")])
        await seen.until(lambda: None in seen.calls)
        seen.calls.clear()
        (tmp_path / "there" / "x").write_text("x")
        await seen.until(lambda: seen.look(tmp_path / "there"))


async def test_a_watch_that_cannot_be_had_is_said_once_and_looks_are_taken_instead(places, monkeypatch):
    monkeypatch.setattr(watchers, "FIRST", 0.001)
    monkeypatch.setattr(watchers, "UNHEALTHY", 0.002)
    tries = []

    async def none(*_: str, **__: object):
        tries.append(1)
        raise OSError(28, "No space left on device")
        yield

    monkeypatch.setattr(watchfiles, "awatch", none)
    async with watching(*places) as (watcher, seen, log):
        await seen.until(lambda: seen.calls.count(None) > 10)
        assert len(tries) > 1
        assert len(log.named("watch.failed")) == 1
        assert "No space" in log.named("watch.failed")[0]["error"]
        assert watcher.live.is_set()


async def test_everything_is_looked_into_on_a_clock_too(places, monkeypatch):
    monkeypatch.setattr(watchers, "HEALTHY", 0.01)
    async with watching(*places) as (_, seen, _):
        await seen.until(lambda: seen.calls.count(None) > 5)


async def test_while_something_goes_on_it_is_watched_more_closely_and_nothing_is_missed(places, monkeypatch):
    steps = []
    real = watchfiles.awatch
    monkeypatch.setattr(watchfiles, "awatch", lambda *given, **more: steps.append(more["step"]) or real(*given, **more))
    async with watching(*places) as (_, seen, _):
        await seen.until(lambda: None in seen.calls)
        seen.quick = True
        for n in range(5):
            seen.calls.clear()
            (places[0] / f"x{n}").write_text("x")
            await seen.until(lambda: seen.look(places[0]))
    assert steps[0] == watchers.REST
    assert steps[-1] == watchers.QUICK


@pytest.mark.parametrize("alone", [True, False])
async def test_a_folder_that_is_made_later_is_watched_as_soon_as_it_is_looked_for(places, tmp_path, alone):
    late = tmp_path / "late"
    async with watching(late, *([] if alone else places)) as (watcher, seen, _):
        watcher.look_for_missing()
        late.mkdir()
        seen.calls.clear()
        watcher.look_for_missing()
        await seen.until(lambda: seen.look(late))
        seen.calls.clear()
        (late / "a.txt").write_text("x")
        await seen.until(lambda: any(call is not None and str(late) in call for call in seen.calls))


async def test_a_folder_that_may_be_read_again_is_watched_as_soon_as_it_is_looked_for(places, monkeypatch):
    """Its rights were taken away for a while: the kernel watches no folder that we may not read."""
    closed, may = {str(places[0])}, os.access
    monkeypatch.setattr(watchers.os, "access", lambda path, mode: path not in closed and may(path, mode))
    async with watching(*places) as (watcher, seen, log):
        (places[1] / "other").touch()
        await seen.until(lambda: seen.look(places[1]))
        closed.clear()
        seen.calls.clear()
        watcher.look_for_missing()
        await seen.until(lambda: None in seen.calls)
        seen.calls.clear()
        (places[0] / "dropped").touch()
        await seen.until(lambda: {str(places[0])} in seen.calls)
        assert log.events == []
