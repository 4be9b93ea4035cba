"""How long a session lives on its server, as far as we know."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from nexusd import by_hand
from nexusd.bridge.link import now

if TYPE_CHECKING:
    from nexusd.bridge.journal import Journal
    from nexusd.bridge.link import Link
    from nexusd.clientdir import ClientDir
    from nexusd.wire.records import Lease


class Lifetime:
    """One session's. `until` is its end by link.now(), which no clock's jump moves; None: not known."""

    def __init__(self, journal: Journal, link: Link) -> None:
        self.until: float | None = None
        self._journal = journal
        self._link = link
        self._heeded_at: float | None = None  # when the last renewal by hand was written down; Unix seconds
        self._told = False  # by a reply of this life, so that no clock of ours has a part in it

    @property
    def remaining(self) -> float | None:
        """Seconds that are left of it."""
        return None if self.until is None else self.until - now()

    def recall(self) -> None:
        """What an earlier life knew; by our own clock, for want of the server's."""
        expires_at = self._journal.state.expires_at
        if expires_at is not None:
            self._set(expires_at - time.time())

    def correct(self) -> None:
        """Once an answer has told the server's clock, what we recalled is reckoned by that, and not by ours."""
        if self._told:
            return
        expires_at, server_time = self._journal.state.expires_at, self._link.client.server_time
        if expires_at is not None and server_time is not None:
            self._set(expires_at - server_time)
        self._told = True

    def begin(self, lease: Lease, *, otherwise: float | None = None) -> None:
        """A lease begins now: a renewal's, or a join's.

        A reply that names a time to live gives at least that, whatever its `expiresAt` says: the server's clock may be
        off. `otherwise` (seconds): what holds where the reply names neither.
        """
        state = self._journal.state
        if lease.ttl is not None:
            state.ttl = lease.ttl
        remaining = lease.ttl if lease.ttl is not None else self._link.client.remaining(lease)
        if remaining is None or remaining <= 0:
            remaining = state.ttl if state.ttl is not None else otherwise
        if remaining is not None:
            self._told = True
            state.ttl = state.ttl or remaining
            self._set(remaining)

    def extend(self, lease: Lease) -> None:
        """A message of ours was accepted: the session lives for its time to live from now; never less than before."""
        state = self._journal.state
        if lease.ttl is not None:
            state.ttl = lease.ttl
        remaining = self._link.client.remaining(lease) if lease.expires_at is not None else state.ttl
        if remaining is not None and (self.until is None or now() + remaining > self.until):
            self._told = True
            self._set(remaining)

    def heed_hand(self, client_dir: ClientDir, session: str) -> bool:
        """Whether somebody has renewed the session by hand since we looked, for less than it had.

        One that gave more is not heeded: it need not be known, and may be older than our own last renewal.
        """
        found = by_hand.renewal(client_dir, session, since=self._heeded_at)
        if found is None:
            return False
        just_now = self._heeded_at is not None or self._told
        self._heeded_at = found.at
        age = time.time() - found.at
        if not 0 <= age < found.ttl:
            if not just_now:
                return False  # of another time: it has expired since, or we have renewed it
            age = 0.0  # the clock was set
        if self.until is None or self.until <= now() + found.ttl - age:
            return False  # where nothing is known it is renewed at once anyway
        self._journal.state.ttl = found.ttl
        self._set(found.ttl - age)
        return True

    def _set(self, remaining: float) -> None:
        state, server_time = self._journal.state, self._link.client.server_time
        remaining = min(remaining, state.ttl or remaining)  # the server's Date is only good to a second
        self.until = now() + remaining
        state.expires_at = (time.time() if server_time is None else server_time) + remaining
