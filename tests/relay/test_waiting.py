"""Polls that are held open."""

from __future__ import annotations

import asyncio

from nexusd.relay.waiting import Waiting


async def until_waiting(waiting: Waiting, how_many: int) -> None:
    while len(waiting) < how_many:  # noqa: ASYNC110 - only lets the tasks begin
        await asyncio.sleep(0)


def test_a_ring_wakes_everybody_in_that_session_and_nobody_else(runner) -> None:
    async def story() -> None:
        waiting = Waiting()
        here = [asyncio.create_task(waiting.wait("here", 60)) for _ in range(3)]
        there = asyncio.create_task(waiting.wait("there", 60))
        await until_waiting(waiting, 4)
        waiting.ring("here")
        await asyncio.gather(*here)
        assert not there.done()
        assert len(waiting) == 1
        there.cancel()
        await asyncio.wait([there])
        assert waiting._waiters == {}

    runner.run(story())


def test_who_waits_long_enough_goes_home_and_leaves_nothing(runner) -> None:
    waiting = Waiting()
    runner.run(waiting.wait("here", 0.0))
    assert waiting._waiters == {}


def test_closing_sends_everybody_home_and_nobody_waits_after(runner) -> None:
    async def story() -> None:
        waiting = Waiting()
        tasks = [asyncio.create_task(waiting.wait(name, 60)) for name in ("here", "there")]
        await until_waiting(waiting, 2)
        waiting.close()
        await asyncio.gather(*tasks)
        await waiting.wait("here", 60)
        assert len(waiting) == 0

    runner.run(story())


def test_ringing_an_empty_room_is_no_fault() -> None:
    waiting = Waiting()
    waiting.ring("here")
    assert len(waiting) == 0
