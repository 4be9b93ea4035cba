"""How long to wait after a failure."""

from __future__ import annotations

import random

FIRST = 1.0  # seconds
LONGEST = 60.0  # seconds


_CHANCE = random.Random()  # noqa: S311 - spreads load, guards nothing; one for all: each would be 2.5 kB


class Backoff:
    """Doubling waits from 1 s to 60 s with jitter, so that many clients of one server spread out."""

    def __init__(self, rng: random.Random | None = None, *, longest: float = LONGEST) -> None:
        self._rng = rng or _CHANCE
        self._longest = longest
        self.failures = 0

    def failed(self) -> float:
        """Seconds to wait now that it failed once more: between half and the whole of the doubled wait."""
        whole = min(self._longest, FIRST * 2.0 ** min(self.failures, 20))
        self.failures += 1
        return whole * self._rng.uniform(0.5, 1.0)

    def succeeded(self) -> None:
        """Begin at the first wait again."""
        self.failures = 0
