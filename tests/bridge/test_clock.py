"""Clocks that jump, machines that sleep, years to come: waits go on by a clock that never goes back."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from types import SimpleNamespace

import pytest

from nexusd import daemon, notify, schedule
from nexusd.spool.ulid import born, ulid
from nexusd.timestamps import stamp
from tests.bridge.world import World, unreachable

DAY = 86_400.0


def jumped(monkeypatch, seconds):
    """The wall clock, from now on, by so much."""
    before, before_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: before() + seconds)
    monkeypatch.setattr(time, "time_ns", lambda: before_ns() + int(seconds * 1e9))


@pytest.mark.parametrize("seconds", [-40 * 365 * DAY, -3600.0, 3600.0, 40 * 365 * DAY])
def test_case_22_a_clock_that_jumps_delays_nothing_and_gives_nothing_up(run, monkeypatch, seconds):
    async def main(world: World):
        world.is_in()
        world.server.ttl = 600.0
        await world.live(100, close=False)
        world.server.fail("send", *[unreachable()] * 3)
        world.drop("first")
        await world.live(1.0, close=False)  # it is failing
        jumped(monkeypatch, seconds)
        world.server.say("one")
        await world.live(40, close=False)
        assert world.heard() == ["one"]
        assert world.where() == {"first": "sent"}
        world.server.lose("send")
        world.drop("second")
        await world.live(900, close=False)
        assert world.where() == {"first": "sent", "second": "sent"}
        assert len(world.server.texts()) == 2
        assert world.server.asked("renew")
        polls = world.server.asked("poll")
        assert max(b - a for a, b in itertools.pairwise(polls)) < 60
        assert "gap" not in world.notices()

    run(main, renew_for='"always"')


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "America/St_Johns", "Pacific/Kiritimati"])
def test_case_25_times_are_utc_wherever_we_are_and_after_2038(run, monkeypatch, zone):
    monkeypatch.setenv("TZ", zone)
    time.tzset()

    async def main(world: World):
        jumped(monkeypatch, 2**31 + 1000 - time.time())
        world.is_in()
        world.server.say("one")
        await world.live(40, close=False)
        world.drop("x")
        await world.live(40)
        assert world.heard() == ["one"]
        assert world.receipt("x")["sentAt"].startswith("2038-01-19T03:")
        assert world.view()["lastPollAt"].startswith("2038-01-19T03:")

    try:
        run(main)
        assert stamp(0.0) == "1970-01-01T00:00:00.000Z"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stamp())
        jumped(monkeypatch, 2**32 - time.time())
        assert abs(born(ulid()) - 2**32) < 60
    finally:
        monkeypatch.undo()
        time.tzset()


# ---- the daemon's own clock


class Lively:
    """A supervisor whose one runner says when it was started."""

    def __init__(self) -> None:
        self.stuck: list[str] = []
        self.stirred = False
        self.outboxes = {}
        self.started = asyncio.Event()
        self.runners = {"chat": SimpleNamespace(start=self.started.set)}

    def describe(self) -> str:
        return ""

    def budgets(self) -> dict:
        return {}

    async def prune(self) -> None:
        pass


def ticking(monkeypatch, tmp_path):
    """A daemon without anything but its clock, and its supervisor."""
    monkeypatch.setattr(daemon, "TICK", 0.01)
    made = daemon.Daemon.__new__(daemon.Daemon)
    made._supervisor = Lively()
    made._stopping = asyncio.Event()
    made._reloader = SimpleNamespace(rejected=None, folders=set())
    made._config = SimpleNamespace(metrics_file=None, root=str(tmp_path))
    made._log = SimpleNamespace(info=lambda *_, **__: None, error=lambda *_, **__: None)
    made._report = lambda **_: None
    return made, made._supervisor


def test_case_23_after_a_sleep_everything_is_looked_at_within_a_tick(monkeypatch, tmp_path):
    async def main():
        slept = [0.0]
        monkeypatch.setattr(schedule, "_asleep", lambda: slept[0])
        made, supervisor = ticking(monkeypatch, tmp_path)
        clock = asyncio.create_task(made._until_stopped(SimpleNamespace(watch=lambda _: None)))
        async with asyncio.timeout(30):
            await asyncio.sleep(0.1)
            assert not supervisor.started.is_set()
            slept[0] += 4 * 3600
            await supervisor.started.wait()
            made._stopping.set()
            await clock

    asyncio.run(main())
    assert daemon.TICK <= 5


def test_case_26_a_disk_that_hangs_or_a_lane_that_does_leaves_the_watchdog_unfed(monkeypatch, tmp_path):
    async def main():
        made, supervisor = ticking(monkeypatch, tmp_path)
        fed = asyncio.Event()
        monkeypatch.setattr(notify, "notify", lambda **given: fed.set() if "WATCHDOG" in given else None)
        monkeypatch.setattr(notify, "watchdog_interval", lambda: 0.0)
        assert await made._in_order()
        supervisor.stuck = ["chat"]
        assert not await made._in_order()
        clock = asyncio.create_task(made._until_stopped(SimpleNamespace(watch=lambda _: None)))
        await asyncio.sleep(0.1)
        assert not fed.is_set()
        supervisor.stuck = []
        async with asyncio.timeout(30):
            await fed.wait()
        made._stopping.set()
        await clock
        monkeypatch.setattr(daemon, "DISK", 0.05)
        hanging = asyncio.Event()
        monkeypatch.setattr(asyncio, "to_thread", lambda *_: hanging.wait())
        assert not await made._in_order()

    asyncio.run(main())
