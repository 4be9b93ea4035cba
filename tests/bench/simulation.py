"""How long a message waits, over the same conversations and budget.

Our polls, fixed intervals, a clairvoyant, and one who knows the law by which the conversations are made but not what
comes: without foresight nobody does better than about that, so the distance to it is what a scheduler may still win.
"""

from __future__ import annotations

import asyncio
import math
import random
import statistics
from bisect import bisect_right

from nexusd.bridge import pace
from nexusd.wire.budget import Budget, Turn
from tests import virtual

SESSIONS = 50
PER_MINUTE = 90
HOURS = 4
QUICK, REST = 3.0, 30.0  # the defaults


def conversations(seed: int) -> list[list[float]]:
    """Each session's messages: bursts of about twenty, seconds apart, and silences of half an hour or so."""
    chance = random.Random(seed)
    traces = []
    for _ in range(SESSIONS):
        at, trace = chance.expovariate(1 / 2400), []
        while at < HOURS * 3600:
            for _ in range(1 + int(chance.expovariate(1 / 20))):
                trace.append(at)
                at += chance.lognormvariate(1.6, 1.0)  # median 5 s
            at += chance.expovariate(1 / 2400)
        traces.append([t for t in trace if t < HOURS * 3600])
    return traces


def fixed(traces: list[list[float]]) -> list[float]:
    """Every session at the same interval, spread evenly."""
    interval = SESSIONS * 60 / PER_MINUTE
    waits = []
    for n, trace in enumerate(traces):
        offset = interval * n / SESSIONS
        waits += [(offset - t) % interval for t in trace]
    return waits


def clairvoyant(traces: list[list[float]]) -> list[float]:
    """Asks exactly when there is something, as the budget allows: nobody can do better."""
    token = 60 / PER_MINUTE
    arrivals = sorted((t, n) for n, trace in enumerate(traces) for t in trace)
    waits, free_at, polled = [], 0.0, [0.0] * SESSIONS
    for t, n in arrivals:
        if polled[n] >= t:
            waits.append(polled[n] - t)  # a poll that waits for its token takes this one along
            continue
        free_at = max(free_at, t - 10 * token)  # the bucket
        at = max(t, free_at)
        free_at += token
        polled[n] = at
        waits.append(at - t)
    return waits


def informed(traces: list[list[float]]) -> list[float]:
    """Spends each token on the session where the expected wait that has gathered weighs most, by the true law."""

    def in_burst(silence: float) -> float:
        goes_on = 20 / 21 * 0.5 * math.erfc((math.log(max(silence, 1e-3)) - 1.6) / math.sqrt(2))
        return goes_on / (goes_on + 1 / 21)

    def weight(silence: float, asked: float) -> float:
        # For cycles x of cost C(x) at a fixed number of polls, x C'(x) - C(x) is the same for all at the optimum.
        within = in_burst(max(0.0, silence - asked))
        return within * asked**2 / 16 + (1 - within) * (asked**2 / 2 + asked**3 / 24) / 2400

    seen, polled, stirred = [0] * SESSIONS, [0.0] * SESSIONS, [-1e4] * SESSIONS
    waits = []
    for tick in range(int(HOURS * PER_MINUTE * 60)):
        at = tick * 60 / PER_MINUTE
        n = max(range(SESSIONS), key=lambda n: weight(at - stirred[n], at - polled[n]))
        polled[n], upto = at, bisect_right(traces[n], at)
        if upto > seen[n]:
            waits += [at - t for t in traces[n][seen[n] : upto]]
            seen[n], stirred[n] = upto, at
    return waits


def ours(traces: list[list[float]]) -> list[float]:
    """The daemon's own budget and pace, in virtual time."""
    return virtual.run(_ours(traces))


async def _ours(traces: list[list[float]]) -> list[float]:
    budget = Budget(PER_MINUTE, virtual.clock)
    begun = virtual.clock()
    waits: list[float] = []
    chance = random.Random(0)

    async def session(trace: list[float]) -> None:
        seen, asked, stirred = 0, 0.0, None

        def wanted() -> float:
            return REST if stirred is None else pace.interval(virtual.clock() - begun - stirred, QUICK, REST)

        def worth() -> float:
            return pace.worth(virtual.clock() - begun - asked, wanted())

        while True:
            async with budget.turn(Turn.POLL, worth):
                budget.debit()
            asked = virtual.clock() - begun
            upto = bisect_right(trace, asked)
            waits.extend(asked - t for t in trace[seen:upto])
            if upto > seen:
                seen, stirred = upto, asked
            await asyncio.sleep(wanted() * chance.uniform(0.9, 1.1))

    tasks = [asyncio.ensure_future(session(trace)) for trace in traces]
    await asyncio.sleep(HOURS * 3600)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return waits


def run(seed: int = 1) -> dict[str, tuple[float, float]]:
    """Mean and 95th percentile wait, in seconds, of each."""
    traces = conversations(seed)
    return {
        name: (statistics.mean(waits), statistics.quantiles(waits, n=20)[-1])
        for name, waits in (
            ("fixed", fixed(traces)),
            ("ours", ours(traces)),
            ("knowing the law", informed(traces)),
            ("clairvoyant", clairvoyant(traces)),
        )
    }


if __name__ == "__main__":
    print(run())
