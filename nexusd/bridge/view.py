"""session.json: what agents may read of a session's state. No secret is in it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec

from nexusd.bridge.link import now
from nexusd.spool import atomic
from nexusd.timestamps import stamp

if TYPE_CHECKING:
    from nexusd.bridge.session import Session

AGE = 50.0  # seconds; the file is at most 60 s old
DELAY = 0.2  # seconds in which changes are gathered into one write


class View:
    """Writes one session's file soon after a change, and again before it is 60 s old."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._timer: asyncio.TimerHandle | None = None
        self._told: tuple[str, int, int] | None = None

    def touch(self) -> None:
        """Something of it changed: write it soon."""
        loop = asyncio.get_running_loop()
        if self._timer is None or self._timer.when() > loop.time() + DELAY:
            self.cancel()
            self._timer = loop.call_later(DELAY, self._publish)

    def cancel(self) -> None:
        """Write nothing more by itself."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self, status: str | None) -> None:
        """Write it for the last time, with this `state` where one is given."""
        self._write(status)
        self.cancel()

    def _publish(self) -> None:
        self._write(None)
        self.cancel()
        self._timer = asyncio.get_running_loop().call_later(AGE, self._publish)

    def _write(self, status: str | None) -> None:
        """It may fail: it is only a view, and is made anew."""
        session = self._session
        if self._told != (told := (session.standing.status.value, session.unsent, session.failed)):
            self._told = told
            session.on_change()
        state, lease_until = session.state, session.lease_until
        view = {
            "session": session.name,
            "state": status or session.standing.status.value,
            "agentId": session.agent or None,
            "server": session.link.server,
            "expiresAt": stamp(time.time() + lease_until - now()) if lease_until is not None else None,
            "ttl": state.ttl,
            "members": session.members,
            "unsent": session.unsent,
            "failed": session.failed,
            "lastPollAt": stamp(state.last_poll_at) if state.last_poll_at else None,
            "lastMessageAt": stamp(state.last_message_at) if state.last_message_at else None,
            "lastError": session.standing.last_error,
        }
        try:
            atomic.replace(session.folder.view, msgspec.json.encode(view) + b"\n", durable=False)
        except OSError as fault:
            session.log.debug("view.failed", error=str(fault))
