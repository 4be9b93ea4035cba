"""How long to wait after a failure."""

from __future__ import annotations

import random

from nexusd.wire.backoff import FIRST, LONGEST, Backoff


class Highest(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return b


class Lowest(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return a


def test_waits_double_up_to_a_minute():
    backoff = Backoff(Highest())
    assert [backoff.failed() for _ in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_jitter_takes_away_half_at_most_so_no_wait_is_ever_nothing():
    backoff = Backoff(Lowest())
    assert [backoff.failed() for _ in range(7)] == [0.5, 1, 2, 4, 8, 16, 30]
    assert FIRST / 2 > 0


def test_clients_that_failed_together_do_not_come_back_together():
    waits = {round(Backoff(random.Random(seed)).failed(), 6) for seed in range(50)}
    assert len(waits) > 40


def test_a_success_begins_anew():
    backoff = Backoff(Highest())
    for _ in range(5):
        backoff.failed()
    backoff.succeeded()
    assert (backoff.failures, backoff.failed()) == (0, 1.0)


def test_a_failure_that_lasts_for_ever_overflows_nothing():
    backoff = Backoff(Highest(), longest=5.0)
    for _ in range(5000):
        assert backoff.failed() <= 5.0 < LONGEST
    assert backoff.failures == 5000
