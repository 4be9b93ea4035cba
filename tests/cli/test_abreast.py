from __future__ import annotations

import threading

import pytest

from nexusd.cli.hand.abreast import AT_ONCE, PER_MINUTE, Pace, ask_all
from nexusd.errors import Fate, RequestError, UserError


class Time:
    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def pace(time):
    return Pace(lambda: time.now, time.sleep)


def test_a_minutes_requests_go_at_once_and_the_next_wait_for_the_next_minute(pace, time):
    for _ in range(PER_MINUTE):
        pace.turn()
    assert time.slept == []
    pace.turn()
    assert time.slept == [60.0]
    for _ in range(PER_MINUTE - 1):
        pace.turn()
    assert time.slept == [60.0]
    pace.turn()
    assert time.now == 220.0


def test_a_429_holds_the_next_ones_back(pace, time):
    pace.pause(7)
    pace.pause(3)
    pace.turn()
    assert time.slept == [7.0]


def test_results_come_in_order_and_errors_are_results():
    def ask(n: int) -> int:
        if n == 3:
            raise UserError("three", "no threes")
        return n * n

    results = ask_all(range(5), lambda _: "s", ask)
    assert [r if isinstance(r, int) else r.code for r in results] == [0, 1, 4, "three", 16]
    assert ask_all([], lambda _: "s", ask) == []


def test_at_most_eight_are_asked_at_once():
    together, most, lock, all_in = 0, 0, threading.Lock(), threading.Barrier(AT_ONCE)

    def ask(n: int) -> None:
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        all_in.wait(10)  # lets nobody out before eight are in
        with lock:
            together -= 1

    ask_all(range(AT_ONCE * 4), lambda _: "s", ask)
    assert most == AT_ONCE


@pytest.mark.parametrize(("refusals", "code"), [(1, None), (2, "rate_limit_exceeded")])
def test_a_429_is_asked_again_once(refusals, code):
    asked = []

    def ask(n: int) -> str:
        asked.append(n)
        if len(asked) <= refusals:
            raise RequestError(Fate.WAIT, "rate_limit_exceeded", "slow down", status=429, retry_after=0.0)
        return "in"

    (result,) = ask_all([1], lambda _: "s", ask)
    assert len(asked) == 2
    assert getattr(result, "code", None) == code


def test_a_fault_of_our_own_is_not_swallowed():
    def ask(n: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ask_all([1, 2], lambda _: "s", ask)
