"""An event loop whose time passes at once: hours of waiting in a moment, the same each time."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine

START = 1_000_000.0


class _Selector(selectors.DefaultSelector):
    """Where the loop would wait, time jumps instead; a look costs a microsecond, so that it never stands still."""

    now = START

    def select(self, timeout: float | None = None):
        if timeout is None:
            raise AssertionError("nothing will ever happen: everything waits for something else")
        self.now += timeout + 1e-6
        return super().select(0)


class Loop(asyncio.SelectorEventLoop):
    """For code that waits for nothing but the loop's own clock: no threads, no sockets."""

    def __init__(self) -> None:
        self._jumping = _Selector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end in virtual time."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(main)


def clock() -> float:
    """The running loop's time."""
    return asyncio.get_running_loop().time()
