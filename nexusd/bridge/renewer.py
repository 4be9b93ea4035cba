"""Alive: a session is renewed when half its time is left, for as long as it is wanted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from nexusd.bridge import membership
from nexusd.bridge.link import now
from nexusd.errors import RequestError
from nexusd.wire.budget import Turn

if TYPE_CHECKING:
    from nexusd.bridge.session import Session

ASSUMED = 60.0  # seconds of life where no reply told: the shortest the protocol knows
LATEST = 5.0  # seconds between attempts at the very end


def due_in(remaining: float | None, ttl: float | None) -> float:
    """Seconds until the renewal is due: at half the time to live; at once where either is unknown: the answer tells."""
    return 0.0 if remaining is None or ttl is None else max(0.0, remaining - ttl / 2)


def retry_in(remaining: float | None, backoff: float) -> float:
    """Seconds until the next attempt after a failure: sooner the less time is left."""
    return min(backoff, max(LATEST, (remaining or 0.0) / 4))


class Renewer:
    """One session's renewals. They do not depend on polls: a server that answers no poll may still renew."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def step(self) -> float | None:
        """Renew if it is due; the seconds until it is."""
        session = self._session
        if session.standing.ended or not session.joined:
            return None
        wait = due_in(self._remaining, session.state.ttl)
        if wait > 0:
            return wait
        if not self._wanted():
            await self._lapse()
            return None
        if held := session.standing.held_for(Turn.RENEW):
            return held
        try:
            async with session.turn(Turn.RENEW):
                ttl = session.settings.ttl
                renewed = await session.link.client.renew(session.id, session.agent, ttl=int(ttl) if ttl else None)
        except RequestError as fault:
            delay = await membership.failed(session, fault, Turn.RENEW)
            if session.standing.ended:
                return None
            delay = retry_in(self._remaining, delay) if delay else LATEST
            session.standing.hold(Turn.RENEW, delay)
            return delay
        session.leased(renewed.lease)
        if session.state.ttl is None:
            session.state.ttl = self._remaining or ASSUMED
        if session.lease_until is None or (renewed.lease.expires_at is None and renewed.lease.ttl is None):
            session.lease_until = now() + session.state.ttl
        session.standing.answered(Turn.RENEW)
        session.log.info("session.renewed", seconds=round(self._remaining or 0))
        return max(1.0, due_in(self._remaining, session.state.ttl))

    @property
    def _remaining(self) -> float | None:
        until = self._session.lease_until
        return None if until is None else until - now()

    def _wanted(self) -> bool:
        state, span = self._session.state, self._session.settings.renew_for
        if span == "always":
            return True
        if state.last_message_at is None:
            state.last_message_at = time.time()  # nothing yet: count from now on
        return time.time() - state.last_message_at < span

    async def _lapse(self) -> None:
        """Say once that the session is left to expire; a message either way makes it wanted again."""
        session = self._session
        if "lapsing" in session.state.noticed:
            return
        session.state.noticed.append("lapsing")
        text = "no message either way for longer than renew_for: the session is not renewed any more and will expire"
        await session.notice("lapsing", f"lapsing-{int(session.state.last_message_at or 0)}", text)
