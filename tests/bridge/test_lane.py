"""A recurring job: when it runs, and that it never runs twice at once. In virtual time."""

from __future__ import annotations

import asyncio

import pytest

from nexusd.bridge.lane import Lane
from tests import virtual


class Job:
    """Notes when it ran; each run takes `takes` seconds and gives the next of `delays`."""

    def __init__(self, *delays: float | Exception | None, takes: float = 0.0) -> None:
        self.delays = list(delays)
        self.takes = takes
        self.began: list[int] = []
        self.faults: list[Exception] = []
        self.now = self.most = 0
        self.lane = Lane(self.step, self.fault)

    async def step(self) -> float | None:
        self.began.append(round((virtual.clock() - virtual.START) * 10))
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self.takes)
        finally:
            self.now -= 1
        delay = self.delays.pop(0) if self.delays else None
        if isinstance(delay, Exception):
            raise delay
        return delay

    def fault(self, fault: Exception) -> float:
        self.faults.append(fault)
        return 5.0


def tenths(job_of, *steps) -> Job:
    """Run steps, (seconds to wait before, what to do with the lane), and then a minute more."""

    async def main():
        job = job_of()
        for wait, step in steps:
            await asyncio.sleep(wait)
            step(job.lane)
        await asyncio.sleep(60)
        return job

    return virtual.run(main())


def wake(delay: float = 0.0):
    return lambda lane: lane.wake(delay)


def test_it_runs_when_woken_and_then_when_it_said():
    job = tenths(lambda: Job(1.0, 2.0, None), (0, wake()))
    assert job.began == [0, 10, 30]


def test_nothing_due_is_nothing_run_until_it_is_woken():
    job = tenths(lambda: Job(None, None), (3, wake()), (4, wake()))
    assert job.began == [30, 70]


def test_a_wake_makes_it_earlier_and_never_later():
    job = tenths(lambda: Job(10.0, None), (0, wake()), (1, wake(2)), (0.5, wake(20)))
    assert job.began == [0, 30]


def test_a_wake_during_a_run_is_a_run_behind_it_and_no_second_one_beside_it():
    job = tenths(lambda: Job(50.0, None, takes=2.0), (0, wake()), (1, wake()), (0.1, wake()), (0.1, wake()))
    assert job.began == [0, 20]
    assert job.most == 1


def test_many_wakes_at_once_are_one_run():
    def many(lane: Lane) -> None:
        for _ in range(50):
            lane.wake()

    job = tenths(lambda: Job(None), (0, many))
    assert job.began == [0]


def test_a_fault_stays_inside_and_says_when_to_go_on():
    job = tenths(lambda: Job(ValueError("x"), OSError("y"), 1.0, None), (0, wake()))
    assert job.began == [0, 50, 100, 110]
    assert [type(fault) for fault in job.faults] == [ValueError, OSError]


def test_a_run_that_was_woken_during_a_fault_comes_at_once():
    job = tenths(lambda: Job(ValueError("x"), None, takes=1.0), (0, wake()), (0.5, wake()))
    assert job.began == [0, 10]


def test_after_a_stop_nothing_begins():
    job = tenths(lambda: Job(1.0, 1.0, 1.0), (0, wake()), (0.5, lambda lane: lane.stop()), (0, wake()))
    assert job.began == [0]


@pytest.mark.parametrize(("patience", "finished"), [(0.0, False), (1.0, False), (5.0, True)])
def test_a_close_gives_a_run_some_time_and_then_ends_it(patience, finished):
    async def main():
        job = Job(None, takes=3.0)
        job.lane.wake()
        await asyncio.sleep(0.5)
        await job.lane.close(patience)
        return job.now, job.delays, virtual.clock() - virtual.START

    now, delays, at = virtual.run(main())
    assert now == 0
    assert (delays == []) is finished
    assert at == pytest.approx(3.0 if finished else 0.5 + patience, abs=0.01)


def test_a_close_of_an_idle_lane_is_at_once():
    async def main():
        lane = Job(1.0).lane
        await lane.close(60.0)
        lane.wake(1.0)
        lane.wake()
        await asyncio.sleep(10)
        await lane.close()
        return virtual.clock() - virtual.START

    assert virtual.run(main()) < 11


def test_a_task_that_waits_for_nothing_is_not_there():
    async def main():
        lanes = [Job(1000.0).lane for _ in range(100)]
        for lane in lanes:
            lane.wake()
        await asyncio.sleep(1)
        return len(asyncio.all_tasks())

    assert virtual.run(main()) == 1
