"""When to look: file events as hints, and a clock for what events miss.

An event says only that something may be there. watchfiles drops events when its queue runs over, goes silent when a
folder is made anew, and dies of one file name that is not UTF-8; so it is restarted, and every folder is looked into on
a clock whatever it says.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

import watchfiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import structlog

QUICK, REST = 5, 25  # milliseconds that watchfiles sleeps between looks at its events: while something goes on, and not
BUSY = 60.0  # seconds after an event in which something goes on
HEALTHY = 60.0  # seconds between looks while the watch works
AGAIN = 0.5  # seconds until a folder that was removed is looked for
FIRST = 0.1  # seconds until a broken watch is tried again for the first time
UNHEALTHY = 5.0  # seconds between looks, and until the watch is tried again, while it does not


class Watcher:
    """Watches folders and calls `on_change` with those in which something happened, or with None: look everywhere.

    It answers whether more of that kind should be noticed quickly.
    """

    def __init__(
        self, on_change: Callable[[set[str] | None], bool], log: structlog.typing.FilteringBoundLogger
    ) -> None:
        self._on_change = on_change
        self._log = log
        self._folders: frozenset[str] = frozenset()
        self._changed = asyncio.Event()
        self._healthy = True
        self._patience = FIRST
        self._busy_until = 0.0
        self._armed = False
        self._watched: dict[str, tuple[int, int]] = {}
        self.live = asyncio.Event()  # set once the first watch is in force

    def watch(self, folders: Iterable[str]) -> None:
        """From now on these folders, and no others."""
        wanted = frozenset(folders)
        if wanted != self._folders:
            self._folders = wanted
            self._changed.set()

    def again(self) -> None:
        """One of the folders may be another by now, under the same path."""
        if any(_identity(path) != self._watched.get(path) for path in self._folders):
            self._changed.set()

    def look_for_missing(self) -> None:
        """A folder that was not there may be by now; nothing else tells where its parent is not watched."""
        if any(_identity(path) for path in self._folders - self._watched.keys()):
            self._changed.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        clock = asyncio.create_task(self._clock())
        try:
            while True:
                self._changed.clear()
                try:
                    await self._watch()
                except Exception as fault:
                    if self._healthy:
                        self._log.warning(
                            "watch.failed", error=_words(fault), instead=f"a look every {UNHEALTHY:.0f} s"
                        )
                    self._healthy = False
                    self.live.set()
                    self._on_change(None)
                    await asyncio.sleep(self._patience)
                    self._patience = min(UNHEALTHY, self._patience * 2)
        finally:
            clock.cancel()

    async def _watch(self) -> None:
        """One watch, until the folders change or something breaks."""
        before = self._watched
        self._watched = {path: found for path in self._folders if (found := _identity(path))}
        if before.keys() & self._folders - self._watched.keys():  # gone just now: an outbox is made again at once
            self._armed = False  # whoever needs it makes it when told to look everywhere
            asyncio.get_running_loop().call_later(AGAIN, self._changed.set)
        if not self._watched:
            self.live.set()
            await self._changed.wait()
            return
        busy = self._busy_until > time.monotonic()
        step = QUICK if busy else REST
        events = watchfiles.awatch(
            *self._watched, watch_filter=None, debounce=step, step=step, stop_event=self._changed, recursive=False
        )
        while True:
            following = asyncio.ensure_future(anext(events, None))
            if not self._armed:
                await asyncio.sleep(0)  # it sets its watches up before it first waits
                self._armed = True
                self.live.set()
                self._on_change(None)  # what was dropped before they were in force
            try:
                changes = await following
            finally:
                self._armed = False
            if changes is None:
                return
            self._healthy = self._armed = True
            self._patience = FIRST
            folders = {os.path.dirname(path) for _, path in changes}
            if self._on_change(folders):
                self._busy_until = time.monotonic() + BUSY
            closer = not busy and self._busy_until > time.monotonic()
            if closer or any(path in self._watched for _, path in changes):
                self._armed = False  # what happens before the next watch is in force is found by looking everywhere
                return  # watch more closely; or anew: a watched folder itself was moved, and the watch on it is blind

    async def _clock(self) -> None:
        while True:
            await asyncio.sleep(HEALTHY if self._healthy else UNHEALTHY)
            try:
                self._on_change(None)
            except Exception as fault:  # whatever it is, the clock goes on
                self._log.error("watch.fault", exc_info=fault)
            calm = self._busy_until <= time.monotonic()
            if calm or any(_identity(path) != found for path, found in self._watched.items()):
                self._changed.set()  # watch anew


def _words(fault: BaseException) -> str:
    """What is inside the groups that anyio wraps errors in."""
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    return str(fault) or type(fault).__name__


def _identity(path: str) -> tuple[int, int] | None:
    """Which folder it is; None where there is none, or none that may be watched."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if os.access(path, os.R_OK) else None
