"""The one way in which anything becomes received: lines to the inbox, then the state, in this order and durably."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nexusd.bridge.in_thread import finished
from nexusd.errors import UserError
from nexusd.spool import line
from nexusd.spool import state as states
from nexusd.spool.inbox import Inbox
from nexusd.timestamps import stamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexusd.spool.layout import SessionFolder


class FolderChanged(UserError):
    """The session's folder is not the one that was opened: removed, restored, or its volume was taken away."""

    def __init__(self, path: str) -> None:
        super().__init__("folder_changed", f"{path} is not the folder any more that was opened; it is opened anew")


class Journal:
    """One session's inbox and state. `state` is what is in force; OSError or UserError where the disk refuses."""

    def __init__(self, folder: SessionFolder, *, rotate_at: int) -> None:
        self.inbox = Inbox(folder, rotate_at=rotate_at)
        self.state = states.State()
        self._folder = folder
        self._lock = asyncio.Lock()
        self._faulty = False
        self._identity: tuple[int, int] | None = None

    def open(self, digest: str, known_seq: Callable[[], int] = lambda: 0) -> bool:
        """Read the state and mend the inbox; whether another session had this name before.

        Then the state is still that of the other one. `known_seq` is asked how many lines were written where neither
        state nor inbox is there: if any, the folder was removed, and that is said in the first line of the new one.
        """
        self._identity = self._folder.identity()
        loaded = states.load(self._folder)
        changed = loaded is not None and loaded.digest not in ("", digest)
        if loaded is not None:
            self.state = loaded
        self._recover()
        if loaded is None and not self.state.seq and (seq := known_seq()):
            self.state.seq = seq
            text = f"the folder of this session was removed: its lines up to {seq} are not here any more"
            self.commit_now([line.notice("gap", f"gap-removed-{seq}", text)], lambda _: None)
        return changed

    def turn_to(self, digest: str) -> None:
        """From now on this other session has the name; nothing is written yet."""
        self.state = self.state.turned_to(digest)

    def check(self) -> None:
        """Before a write: FolderChanged where another folder, or none, is in the place of the one that was opened."""
        if self._folder.identity() != self._identity:
            raise FolderChanged(self._folder.path)

    async def commit(self, entries: list[line.Entry], change: Callable[[states.State], None]) -> None:
        """Write lines, then apply `change` to the state; what a failure let through is found before the next time."""
        async with self._lock:
            await finished(self.commit_now, entries, change)

    async def mend(self) -> None:
        """After a failed commit see what got to the disk all the same; before anything is judged as new."""
        if self._faulty:
            async with self._lock:
                await finished(self._recover)

    def commit_now(self, entries: list[line.Entry], change: Callable[[states.State], None]) -> None:
        """The commit itself; only for when no loop runs yet."""
        self.check()
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
        self.check()
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
