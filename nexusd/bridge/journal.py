"""The one way in which anything becomes received: lines to the inbox, then the state, in this order and durably."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nexusd.spool import line
from nexusd.spool import state as states
from nexusd.spool.inbox import Inbox
from nexusd.timestamps import stamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexusd.spool.layout import SessionFolder


class Journal:
    """One session's inbox and state. `state` is what is in force; OSError or UserError where the disk refuses."""

    def __init__(self, folder: SessionFolder, *, rotate_at: int) -> None:
        self.inbox = Inbox(folder, rotate_at=rotate_at)
        self.state = states.State()
        self._folder = folder
        self._lock = asyncio.Lock()
        self._faulty = False

    def open(self, digest: str) -> bool:
        """Read the state and mend the inbox; whether another session had this name before.

        Then only the count of lines goes on, and `state.digest` still names the other one.
        """
        loaded = states.load(self._folder)
        changed = loaded is not None and loaded.digest not in ("", digest)
        if loaded is not None:
            self.state = states.State(seq=loaded.seq, digest=loaded.digest) if changed else loaded
        self._recover()
        if changed:
            self.state.cursor = None
        return changed

    async def commit(self, entries: list[line.Entry], change: Callable[[states.State], None]) -> None:
        """Write lines, then apply `change` to the state; what a failure let through is found before the next time."""
        async with self._lock:
            await asyncio.to_thread(self.commit_now, entries, change)

    async def mend(self) -> None:
        """After a failed commit see what got to the disk all the same; before anything is judged as new."""
        if self._faulty:
            async with self._lock:
                await asyncio.to_thread(self._recover)

    def commit_now(self, entries: list[line.Entry], change: Callable[[states.State], None]) -> None:
        """The commit itself; only for when no loop runs yet."""
        if self._faulty:
            self._recover()
        received_at = stamp()
        seq = self.state.seq
        lines = [
            line.render(entry, seq=seq + n, session=self._folder.name, received_at=received_at)
            for n, entry in enumerate(entries, 1)
        ]
        try:
            if lines:
                self.inbox.append(lines, received_at)
                self.state.seq = seq + len(lines)
            change(self.state)
            states.save(self._folder, self.state)
        except Exception:
            self._faulty = True
            raise

    def _recover(self) -> None:
        """The inbox outranks the state: it was written first."""
        state = self.state
        tail = self.inbox.recover(state.seq, stamp())
        if tail.seq > state.seq:
            state.seq = tail.seq
            if tail.epoch is not None:  # what was posted before has no witness in this life
                state.epoch, state.reread = max(tail.epoch, state.epoch), False
                state.cursor, state.last, state.highest = tail.cursor, tail.last, tail.cursor
            elif tail.cursor is not None:
                state.cursor, state.last = tail.cursor, tail.last
            states.save(self._folder, state)  # the inbox may be moved away before the next commit
        self._faulty = False
