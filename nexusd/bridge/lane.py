"""A recurring job of one session."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


LAST_RESORT = 60.0  # seconds until a lane is tried again that could not even say what failed


class Lane:
    """Runs `step` when it is due or woken; never twice at once, never letting a fault out.

    `step` gives the seconds until it is due again, or None to wait for a `wake`. `on_fault` gets what `step` raised and
    gives the same. While nothing is due there is no task, only the event loop's timer.
    """

    def __init__(self, step: Callable[[], Awaitable[float | None]], on_fault: Callable[[Exception], float]) -> None:
        self._step = step
        self._on_fault = on_fault
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._again = False
        self._closed = False
        self._began = 0.0

    def wake(self, delay: float = 0.0) -> None:
        """Run soon: now, once more after the run under way, or in `delay` seconds if that is earlier than planned."""
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        if self._task is not None:
            self._again = self._again or not delay
        elif self._timer is None or self._timer.when() > loop.time() + delay:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_later(delay, self._start)

    @property
    def busy_for(self) -> float:
        """Seconds that the run under way has taken so far; 0 between runs."""
        return asyncio.get_running_loop().time() - self._began if self._task is not None else 0.0

    def stop(self) -> None:
        """Begin no more runs."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def close(self, patience: float = 0.0) -> None:
        """Stop; give a run under way `patience` seconds to finish, then cancel it."""
        self.stop()
        if self._task is not None and patience > 0:
            await asyncio.wait({self._task}, timeout=patience)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        self._again = False
        self._began = loop.time()
        self._task = loop.create_task(self._run())

    async def _run(self) -> None:
        try:
            delay = await self._step()
        except Exception as fault:
            try:
                delay = self._on_fault(fault)
            except Exception:
                delay = LAST_RESORT  # whatever happens, a lane goes on
        finally:
            self._task = None
        if self._again:
            delay = 0.0
        if delay is not None:
            self.wake(delay)
