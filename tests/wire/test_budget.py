"""The server's limit, kept; hours of it in virtual time."""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter

import pytest

from nexusd.wire.budget import BUCKET, Budget, Turn
from tests import virtual

RATE = 60  # a minute: one a second


class Log:
    """What was done when, by whom."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.begun = virtual.clock()
        self.done: list[tuple[float, str]] = []

    async def one(self, kind: Turn, who: str) -> None:
        async with self.budget.turn(kind):
            self.budget.debit()
            self.done.append((virtual.clock() - self.begun, who))

    async def forever(self, kind: Turn, who: str) -> None:
        while True:
            await self.one(kind, who)

    async def during(self, seconds: float, *jobs) -> Counter[str]:
        """What each did while these jobs ran for so long."""
        before = len(self.done)
        tasks = [asyncio.ensure_future(job) for job in jobs]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return Counter(who for _, who in self.done[before:])


def simulate(main, per_minute: float = RATE, *, empty: bool = False):
    """Run `main(log)` in virtual time; `empty`: the bucket is spent already."""

    async def begin():
        log = Log(Budget(per_minute, virtual.clock))
        if empty:
            for _ in range(int(BUCKET)):
                log.budget.debit()
        return await main(log)

    return virtual.run(begin())


def test_a_bucket_of_ten_goes_at_once_and_the_rest_at_the_rate():
    async def main(log: Log):
        await asyncio.gather(*(log.one(Turn.POLL, str(n)) for n in range(15)))
        return [round(at, 2) for at, _ in log.done]

    assert simulate(main) == [0.0] * 10 + [1.0, 2.0, 3.0, 4.0, 5.0]


def test_no_minute_of_an_hour_has_more_than_the_rate_and_the_bucket():
    async def main(log: Log):
        await log.during(3600, *(log.forever(Turn(n % 3), f"s{n}") for n in range(50)))
        return [at for at, _ in log.done]

    times = simulate(main, 90)
    most = max(sum(1 for at in times if begin <= at < begin + 60) for begin in range(0, 3600, 7))
    assert most <= 90 + BUCKET
    assert len(times) == pytest.approx(3600 * 1.5 + BUCKET, abs=2)


def test_an_idle_hour_saves_up_no_more_than_the_bucket():
    async def main(log: Log):
        await asyncio.sleep(3600)
        await asyncio.gather(*(log.one(Turn.SEND, str(n)) for n in range(12)))
        return [at > 3600.5 for at, _ in log.done]

    assert simulate(main) == [False] * 10 + [True] * 2


def test_renewals_go_first_then_sends_then_polls():
    async def main(log: Log):
        await asyncio.gather(log.one(Turn.POLL, "poll"), log.one(Turn.SEND, "send"), log.one(Turn.RENEW, "renew"))
        return [who for _, who in log.done]

    assert simulate(main, empty=True) == ["renew", "send", "poll"]


def test_within_a_kind_who_came_first_goes_first():
    async def main(log: Log):
        await asyncio.gather(*(log.one(Turn.POLL, str(n)) for n in range(30)))
        return [who for _, who in log.done]

    assert simulate(main, empty=True) == [str(n) for n in range(30)]


def test_while_a_poll_waits_sends_get_two_thirds_and_no_more():
    async def main(log: Log):
        return await log.during(
            900, log.forever(Turn.SEND, "send"), log.forever(Turn.SEND, "send"), log.forever(Turn.POLL, "poll")
        )

    found = simulate(main, empty=True)
    assert found["send"] == pytest.approx(600, abs=3)
    assert found["poll"] == pytest.approx(300, abs=3)


def test_without_a_poll_that_waits_sends_get_all():
    async def main(log: Log):
        return await log.during(300, log.forever(Turn.SEND, "send"))

    assert simulate(main, empty=True)["send"] == pytest.approx(300, abs=2)


def test_a_renewal_never_waits_for_more_than_one_request_whatever_the_load():
    async def main(log: Log):
        busy = [log.forever(Turn.SEND, "send") for _ in range(20)] + [log.forever(Turn.POLL, "poll") for _ in range(20)]
        waits = []

        async def renewals() -> None:
            while True:
                await asyncio.sleep(17.3)
                asked = virtual.clock()
                await log.one(Turn.RENEW, "renew")
                waits.append(virtual.clock() - asked)

        await log.during(1000, renewals(), *busy)
        return waits

    waits = simulate(main, empty=True)
    assert len(waits) > 50
    assert max(waits) <= 1.01


def test_sessions_take_turns_however_busy_one_of_them_is():
    async def main(log: Log):
        greedy = log.forever(Turn.SEND, "greedy")
        others = [log.forever(Turn.SEND, f"s{n}") for n in range(9)]
        return await log.during(1000, greedy, *others)

    found = simulate(main, empty=True)
    assert len(found) == 10
    assert max(found.values()) - min(found.values()) <= 1


def test_many_quiet_sessions_all_get_their_polls():
    async def main(log: Log):
        async def poller(n: int) -> None:
            while True:
                await log.one(Turn.POLL, f"s{n}")
                await asyncio.sleep(30)

        return await log.during(3600, *(poller(n) for n in range(100)))

    found = simulate(main, 90)
    assert len(found) == 100
    assert min(found.values()) >= 3600 / (100 / 1.5) - 3  # the rate shared by a hundred
    assert max(found.values()) - min(found.values()) <= 2


def test_nothing_goes_while_the_server_said_to_wait_and_then_it_goes_on_slowly():
    async def main(log: Log):
        log.budget.pause(40.0)
        assert log.budget.paused_for == pytest.approx(40.0)
        await asyncio.gather(*(log.one(kind, kind.name) for kind in (Turn.POLL, Turn.POLL, Turn.SEND, Turn.RENEW)))
        return [(round(at), who) for at, who in log.done]

    # A full bucket is not spent at once on a server that has just complained.
    begin, *rest = simulate(main)
    assert begin == (40, "RENEW")
    assert [who for _, who in rest] == ["SEND", "POLL", "POLL"]


def test_a_pause_counts_for_those_who_wait_already_and_is_never_made_shorter():
    async def main(log: Log):
        waiting = asyncio.ensure_future(log.one(Turn.POLL, "poll"))
        await asyncio.sleep(0.5)
        log.budget.pause(100.0)
        log.budget.pause(1.0)
        await waiting
        return log.done[0][0]

    assert simulate(main, empty=True) == pytest.approx(100.5, abs=0.1)


def test_a_pause_holds_without_a_limit_of_ours_too():
    async def main(log: Log):
        await asyncio.gather(*(log.one(Turn.POLL, "x") for _ in range(100)))
        at_once = log.done[-1][0]
        log.budget.pause(30.0)
        await log.one(Turn.SEND, "y")
        return at_once, log.done[-1][0]

    at_once, later = simulate(main, 0)
    assert at_once < 0.1
    assert later == pytest.approx(30, abs=0.1)


def test_requests_behind_the_first_of_a_turn_overdraw_and_are_paid_back():
    async def main(log: Log):
        async with log.budget.turn(Turn.SEND):
            for _ in range(15):  # a send, a look, a rejoin, ...
                log.budget.debit()
        assert log.budget.used == 15
        await log.one(Turn.SEND, "next")
        return log.done[0][0]

    assert simulate(main) == pytest.approx(6, abs=0.1)  # 5 overdrawn, and its own


def test_a_turn_that_asked_nothing_costs_nothing():
    async def main(log: Log):
        for _ in range(100):
            async with log.budget.turn(Turn.SEND):
                pass
        assert log.budget.used == 0
        return virtual.clock() - log.begun

    assert simulate(main) < 0.1


def test_a_turn_that_asked_nothing_is_passed_on_to_who_waits():
    async def main(log: Log):
        for _ in range(int(BUCKET) - 1):
            log.budget.debit()
        async with log.budget.turn(Turn.SEND):
            waiting = asyncio.ensure_future(log.one(Turn.POLL, "poll"))
            await asyncio.sleep(0.25)
        await waiting
        return log.done[0][0]

    assert simulate(main) == pytest.approx(0.25, abs=0.01)


def test_who_gives_up_waiting_takes_nothing_away_and_leaves_no_hole():
    async def main(log: Log):
        waiting = [asyncio.ensure_future(log.one(Turn.POLL, str(n))) for n in range(6)]
        await asyncio.sleep(0.1)
        for n in (0, 2, 3):
            waiting[n].cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return [(round(at), who) for at, who in log.done]

    assert simulate(main, empty=True) == [(1, "1"), (2, "4"), (3, "5")]


def test_who_is_cancelled_in_the_moment_of_its_turn_passes_it_on():
    async def main(log: Log):
        first = asyncio.ensure_future(log.one(Turn.POLL, "first"))
        second = asyncio.ensure_future(log.one(Turn.POLL, "second"))
        await asyncio.sleep(0.1)
        log.budget._timer.cancel()
        await asyncio.sleep(1.0)
        log.budget._admit()  # the first one's turn has come, and it does not know yet
        first.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        return [(round(at), who) for at, who in log.done]

    assert simulate(main, empty=True) == [(1, "second")]


def test_a_turn_of_another_task_pays_nothing_for_this_one():
    async def main(log: Log):
        async with log.budget.turn(Turn.SEND):

            async def other() -> None:
                log.budget.debit()

            await asyncio.create_task(other(), context=contextvars.Context())
            log.budget.debit()
        await asyncio.gather(*(log.one(Turn.POLL, "x") for _ in range(9)))
        return [round(at) for at, _ in log.done]

    assert simulate(main) == [0] * 8 + [1]


def test_a_fault_within_a_turn_leaves_the_budget_right():
    async def main(log: Log):
        async def faulty(requests: int) -> None:
            async with log.budget.turn(Turn.SEND):
                for _ in range(requests):
                    log.budget.debit()
                raise RuntimeError

        for requests in [0] * 20 + [1]:
            with pytest.raises(RuntimeError):
                await faulty(requests)
        await asyncio.gather(*(log.one(Turn.POLL, "x") for _ in range(10)))
        return [round(at) for at, _ in log.done]

    assert simulate(main) == [0] * 9 + [1]
