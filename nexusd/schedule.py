"""What the daemon does now and then, and whether the machine has slept meanwhile."""

from __future__ import annotations

import time

from nexusd.bridge import link


class Schedule:
    """When what was done last. `watchdog`: seconds between signs of life, or None."""

    def __init__(self, watchdog: float | None) -> None:
        self.watchdog = watchdog
        self._done: dict[str, float] = {}
        self._asleep = _asleep()

    def due(self, what: str, every: float) -> bool:
        """Whether it was done that many seconds ago, or never."""
        return time.monotonic() - self._done.get(what, -every) >= every

    def done(self, what: str) -> None:
        """It is done now."""
        self._done[what] = time.monotonic()

    def slept(self) -> float:
        """Seconds that the machine has slept since the last time that this was asked."""
        before, self._asleep = self._asleep, _asleep()
        return self._asleep - before


def _asleep() -> float:
    """Seconds that the machine has slept since it was started."""
    return link.now() - time.monotonic()
