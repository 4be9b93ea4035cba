"""Who waits for a word in which session, for polls that are held open."""

from __future__ import annotations

import asyncio
import contextlib


class Waiting:
    """Rings whoever waits for a session. Once closed nobody waits any more: the relay is going down."""

    def __init__(self) -> None:
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}
        self.closed = False

    def __len__(self) -> int:
        """How many wait, in all sessions."""
        return sum(len(waiters) for waiters in self._waiters.values())

    async def wait(self, session_id: str, seconds: float) -> None:
        """Return when the session rings, when `seconds` have passed, or when the relay goes down."""
        if self.closed:
            return
        bell: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(session_id, set())
        waiters.add(bell)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await bell
        finally:
            waiters.discard(bell)
            if not waiters and self._waiters.get(session_id) is waiters:
                del self._waiters[session_id]

    def ring(self, session_id: str) -> None:
        """Something happened in the session: whoever waits for it looks again."""
        for bell in self._waiters.get(session_id, ()):
            if not bell.done():
                bell.set_result(None)

    def close(self) -> None:
        """Send everybody home."""
        self.closed = True
        for session_id in self._waiters:
            self.ring(session_id)
