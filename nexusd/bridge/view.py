"""session.json: what agents may read of a session's state. No secret is in it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import msgspec

from nexusd.bridge.states import Status
from nexusd.errors import UserError
from nexusd.local_fault import sentence
from nexusd.spool import atomic
from nexusd.timestamps import stamp_if_known

if TYPE_CHECKING:
    from nexusd.bridge.session import Session
    from nexusd.spool.layout import SessionFolder

AGE = 50.0  # seconds; the file is at most 60 s old
AGAIN = 5.0  # seconds until it is tried again, where it could not be written
VIEW = "view"  # beside the lanes: session.json is not as it should be
DELAY = 0.2  # seconds in which changes are gathered into one write


class View:
    """Writes one session's file soon after a change, and again before it is 60 s old."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._timer: asyncio.TimerHandle | None = None
        self._told: tuple[str, int, int] | None = None
        self._failed = False  # the last write did, and that was said

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
        self.cancel()
        self._timer = asyncio.get_running_loop().call_later(AGE, self._publish)  # first: whatever becomes of this one
        if not self._write(None):
            self.cancel()
            self._timer = asyncio.get_running_loop().call_later(AGAIN, self._publish)

    def _write(self, status: str | None) -> bool:
        """Whether it could be written. It is only a view, but agents go by it: that it is an old one is said."""
        session = self._session
        with contextlib.suppress(OSError):  # what is wrong with the folder is said by who needs it
            session.count_failed()
        shown, error = session.shown
        if self._told != (told := (shown.value, session.unsent, session.failed)):
            self._told = told
            session.listener.shown_changed()
        state, remaining = session.state, session.lifetime.remaining
        view = {
            "session": session.name,
            "state": status or shown.value,
            "agentId": session.agent or None,
            "server": session.link.server,
            "expiresAt": stamp_if_known(time.time() + remaining) if remaining is not None else None,
            "ttl": state.ttl,
            "members": session.members,
            "unsent": session.unsent,
            "failed": session.failed,
            "lastSeq": state.seq,
            "lastPollAt": stamp_if_known(state.last_poll_at),
            "lastMessageAt": stamp_if_known(state.last_message_at),
            "lastError": error,
        }
        try:
            session.journal.check()
            write(session.folder, view)
        except (OSError, UserError) as fault:
            log = session.log.debug if self._failed else session.log.warning
            log("view.failed", error=str(fault))
            self._failed = True
            if isinstance(fault, OSError):
                session.standing.blocked(VIEW, sentence(fault, session.folder.path))
            return False
        self._failed = False
        session.standing.cleared(VIEW)
        return True


def write(folder: SessionFolder, view: dict[str, Any]) -> None:
    """Put it on the disk. OSError."""
    atomic.replace_or_overwrite(folder.view, msgspec.json.encode(view) + b"\n")


def blocked(folder: SessionFolder, error: str) -> None:
    """What agents read of a session that cannot be opened; best effort, and only where it was open before."""
    try:
        view = msgspec.json.decode(atomic.read_small(folder.view) or b"", type=dict[str, Any])
        if (view.get("state"), view.get("lastError")) != (Status.BLOCKED.value, error):
            write(folder, {**view, "state": Status.BLOCKED.value, "lastError": error})
    except (OSError, ValueError, RecursionError):
        return
