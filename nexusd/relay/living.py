"""Which sessions and agents are still there: everything in the relay that ends by itself ends here."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

from nexusd.relay.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexusd.relay.ledger import Ledger
    from nexusd.relay.session import Session

INACTIVE_AFTER = 86_400.0
"""Seconds without a poll, send or renewal after which an agent other than the creator is removed."""


class Living:
    """The living sessions by id, beginning with those that `ledger` knows. `inactive_after` is in seconds."""

    def __init__(self, clock: Callable[[], float], ledger: Ledger, inactive_after: float = INACTIVE_AFTER) -> None:
        self._clock = clock
        self._ledger = ledger
        self._inactive_after = inactive_after
        self._sessions: dict[str, Session] = {}
        self._due: list[tuple[float, str]] = []
        now = clock()
        for session in ledger.sessions():
            for member in session.members.values():
                # Polls are not written down, so nobody is called inactive for the time before the restart.
                member.last_seen = now
            self._keep(session)
        self.sweep()

    def open(self, session: Session) -> None:
        """Begin a session: on the ledger first, then for everybody."""
        self.sweep()
        self._ledger.opened(session)
        self._keep(session)

    def find(self, session_id: str) -> Session:
        """Find a session, rid of what is over in it; 404 `session_not_found`."""
        self.sweep()
        session = self._sessions.get(session_id)
        if session is None:
            raise Refusal(404, "session_not_found", "there is no such session; it may have expired")
        session.forget_expired(self._clock())
        self._remove_silent(session)
        return session

    def extend(self, session: Session, ttl: int) -> None:
        """Let a session live for `ttl` seconds from now, and by that ttl from now on."""
        expires_at = self._clock() + ttl
        self._ledger.renewed(session.id, ttl, expires_at)
        session.ttl = ttl
        session.expires_at = expires_at
        # One heap entry a session: a later expiry is found when the entry comes up, only an earlier one needs its own.
        if expires_at < session.due:
            self._schedule(session)

    def count(self) -> tuple[int, int]:
        """How many sessions there are, and how many agents in them."""
        return len(self._sessions), sum(len(session.members) for session in self._sessions.values())

    def sweep(self) -> None:
        """Forget the sessions whose time is over. Costs nothing while none is due."""
        now = self._clock()
        ended = []
        while self._due and self._due[0][0] <= now:
            due, session_id = heappop(self._due)
            session = self._sessions.get(session_id)
            if session is None or session.due != due:
                continue
            if session.expires_at <= now:
                del self._sessions[session_id]
                ended.append(session_id)
            else:
                self._schedule(session)
        if ended:
            # Last, and no harm if it fails: a ledger's expired sessions are dropped at the next start.
            self._ledger.ended(ended)

    def _keep(self, session: Session) -> None:
        self._sessions[session.id] = session
        self._schedule(session)

    def _schedule(self, session: Session) -> None:
        session.due = session.expires_at
        heappush(self._due, (session.due, session.id))

    def _remove_silent(self, session: Session) -> None:
        now = self._clock()
        silent = [
            name
            for name, member in session.members.items()
            if name != session.creator and now - member.last_seen >= self._inactive_after
        ]
        if silent:
            self._ledger.left(session.id, silent)
            for name in silent:
                del session.members[name]
