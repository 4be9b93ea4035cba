"""Asking for many sessions at once, within what the servers allow."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TypeVar

from nexusd.cli.output import say
from nexusd.errors import Fate, NexusError, RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE = 8  # requests
PER_MINUTE = 90  # of the 100 that the public server allows
WAIT = 5.0  # seconds to wait after a 429 that does not say how long


class Pace:
    """One server's limit for this run: 90 requests in each minute, and a pause for all of them after a 429."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._begun = clock()
        self._asked = 0
        self._paused_until = 0.0

    def turn(self) -> None:
        """Wait until one more request may go."""
        with self._lock:
            due = max(self._begun + 60.0 * (self._asked // PER_MINUTE), self._paused_until)
            self._asked += 1
        wait = due - self._clock()
        if wait > 0:
            self._sleep(wait)

    def pause(self, seconds: float) -> None:
        """The server said 429."""
        with self._lock:
            self._paused_until = max(self._paused_until, self._clock() + seconds)


def ask_all(items: Sequence[T], server_of: Callable[[T], str], ask: Callable[[T], R]) -> list[R | NexusError]:
    """`ask` for every item, at most 8 at once and within each server's limit; results in the items' order.

    A 429 pauses that server's requests and is asked again once. Errors are results, like any other.
    """
    if len(items) > PER_MINUTE:
        say(f"note: {len(items)} requests; a server gets at most {PER_MINUTE} a minute, so this can take a while")
    paces = {server: Pace() for server in set(map(server_of, items))}
    results: dict[int, R | NexusError] = {}
    order = iter(range(len(items)))  # `next` on it is one step: no two threads get the same number
    broken: list[BaseException] = []

    def work() -> None:
        try:
            while not broken and (at := next(order, None)) is not None:
                results[at] = _patiently(paces[server_of(items[at])], ask, items[at])
        except BaseException as fault:
            broken.append(fault)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(AT_ONCE, len(items)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if broken:
        raise broken[0]
    return [results[at] for at in range(len(items))]


def _patiently(pace: Pace, ask: Callable[[T], R], item: T) -> R | NexusError:
    """Ask in turn; once more after a 429."""
    for again in (True, False):
        pace.turn()
        try:
            return ask(item)
        except NexusError as fault:
            if not (isinstance(fault, RequestError) and fault.fate is Fate.WAIT and again):
                return fault
            pace.pause(WAIT if fault.retry_after is None else fault.retry_after)
    raise AssertionError("unreachable")
