"""So many requests from one address in any sixty seconds, and no more."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

from nexusd.relay.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW = 60.0
"""Seconds."""
ADDRESSES = 4096


class RateLimit:
    """At most `allowed` requests an address in a sliding window of 60 s; 0 is no limit. `clock` gives seconds.

    The last 4096 addresses are remembered, so a flood from many cannot fill the memory. An IPv6 host owns a whole /64
    and counts as one.
    """

    def __init__(self, allowed: int, clock: Callable[[], float], addresses: int = ADDRESSES) -> None:
        self._allowed = allowed
        self._clock = clock
        self._addresses = addresses
        self._seen: OrderedDict[str, deque[float]] = OrderedDict()

    def __len__(self) -> int:
        """How many addresses are remembered."""
        return len(self._seen)

    def take(self, address: str) -> None:
        """Count a request; 429 `rate_limit_exceeded`, with the seconds to wait, where it is one too many."""
        if self._allowed <= 0:
            return
        now = self._clock()
        self._forget(now)
        neighbourhood = _neighbourhood(address)
        times = self._seen.setdefault(neighbourhood, deque())
        while times and times[0] <= now - WINDOW:
            times.popleft()
        if len(times) >= self._allowed:
            wait = max(1, math.ceil(times[0] + WINDOW - now))
            raise Refusal(
                429, "rate_limit_exceeded", f"more than {self._allowed} requests in a minute", retry_after=wait
            )
        times.append(now)
        self._seen.move_to_end(neighbourhood)

    def _forget(self, now: float) -> None:
        while self._seen:
            times = next(iter(self._seen.values()))
            if len(self._seen) <= self._addresses and times and times[-1] > now - WINDOW:
                break
            self._seen.popitem(last=False)


def _neighbourhood(address: str) -> str:
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped) if parsed.ipv4_mapped else parsed.exploded[:19]
    return address
