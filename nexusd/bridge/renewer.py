"""Alive: a session is renewed when half its time is left, for as long as it is wanted."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from nexusd.bridge import membership
from nexusd.bridge.link import now
from nexusd.errors import Fate, RequestError
from nexusd.wire.budget import Turn

if TYPE_CHECKING:
    from nexusd.bridge.session import Session
    from nexusd.wire.records import Lease

ASSUMED = 60.0  # seconds of life where no reply told: the shortest the protocol knows
LATEST = 5.0  # seconds between attempts at the very end


def due_in(remaining: float | None, ttl: float | None) -> float:
    """Seconds until the renewal is due: at half the time to live; at once where either is unknown: the answer tells."""
    return 0.0 if remaining is None or ttl is None else max(0.0, remaining - ttl / 2)


def not_before(renewed_at: float | None, ttl: float | None, at: float) -> float:
    """Seconds for which a renewal is too soon after the last one: a quarter of the time to live.

    Whatever the times in a reply say, it is not asked for in a loop.
    """
    return 0.0 if renewed_at is None or ttl is None else max(0.0, renewed_at + ttl / 4 - at)


def offered(wanted: float, words: str) -> int | None:
    """The longest time to live (whole seconds) that a refusal names and that we would take; None where it names none.

    "must be between 60 and 86400" offers 86400 to who wanted a week.
    """
    numbers = [int(digits) for digits in re.findall(r"(?<![0-9.])[0-9]{2,9}(?![0-9.])", words)]
    return max((number for number in numbers if 60 <= number < wanted), default=None)


def retry_in(remaining: float | None, backoff: float) -> float:
    """Seconds until the next attempt after a failure: sooner the less time is left."""
    return min(backoff, max(LATEST, (remaining or 0.0) / 4))


class Renewer:
    """One session's renewals. They do not depend on polls: a server that answers no poll may still renew."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._renewed_at: float | None = None  # by link.now()
        self._refused: float | None = None  # the `ttl` that the server refused
        self._offered: int | None = None  # what it named instead

    async def step(self) -> float | None:
        """Renew if it is due; the seconds until it is."""
        session = self._session
        if session.standing.ended or not session.joined:
            return None
        wait = max(due_in(self._remaining, session.state.ttl), not_before(self._renewed_at, session.state.ttl, now()))
        if wait > 0:
            session.standing.cleared(Turn.RENEW)  # a message may have extended it: what failed need not be done now
            return wait
        if not self._wanted():
            await self._lapse()
            return None
        if held := session.standing.held_for(Turn.RENEW):
            return held
        try:
            async with session.turn(Turn.RENEW, self._urgency):
                lease = await self._renewed()
        except RequestError as fault:
            if fault.status in (400, 422) and self._ttl() is not None:
                self._asked_too_much(fault)
                return 0.0
            delay = await membership.failed(session, fault, Turn.RENEW)
            if session.standing.ended:
                return None
            delay = retry_in(self._remaining, delay) if delay else LATEST
            session.standing.hold(Turn.RENEW, delay)
            return delay
        self._renewed_at = now()
        session.lifetime.begin(lease, otherwise=ASSUMED)
        session.touch()
        session.standing.answered(Turn.RENEW)
        session.log.info("session.renewed", seconds=round(self._remaining or 0))
        ttl = session.state.ttl
        return max(1.0, due_in(self._remaining, ttl), not_before(self._renewed_at, ttl, now()))

    async def _renewed(self) -> Lease:
        """Ask for it; an answer that does not come is waited for so long that there is time for two more attempts."""
        session = self._session
        patience = max(LATEST, self._remaining / 3) if self._remaining is not None else None
        try:
            async with asyncio.timeout(patience):
                return (await session.link.client.renew(session.id, session.agent, ttl=self._ttl())).lease
        except TimeoutError:
            raise RequestError(Fate.MAYBE_SENT, "timeout", f"no whole answer within {patience:.0f} s") from None

    def _ttl(self) -> int | None:
        """The time to live to ask for; None: the session's own."""
        wanted = self._session.settings.ttl
        if wanted is None or wanted == self._refused:
            return self._offered if wanted is not None else None
        return int(wanted)

    def _asked_too_much(self, fault: RequestError) -> None:
        """The server refuses this time to live: said once, and renewed with what it names, or the session's own."""
        session, wanted = self._session, self._session.settings.ttl
        if wanted is None:
            return
        first = self._refused != wanted
        words = f"{fault} {fault.body or ''}"
        self._refused, self._offered = wanted, offered(wanted, words) if first else None
        instead = f"{self._offered} s" if self._offered else "the session's own"
        session.log.warning("session.ttl_refused", ttl=wanted, instead=instead, error=f"{fault.code}: {fault}")

    def _urgency(self) -> float:
        """Above 1 where a quarter of the time to live is left, or less: then it goes before anything else."""
        ttl, remaining = self._session.state.ttl, self._remaining
        if ttl is None or remaining is None:
            return 0.0
        return ttl / 4 / max(remaining, 0.001)

    @property
    def _remaining(self) -> float | None:
        return self._session.lifetime.remaining

    def _wanted(self) -> bool:
        span = self._session.settings.renew_for
        return span == "always" or self._session.quiet_for() < span

    async def _lapse(self) -> None:
        """Say once that the session is left to expire; a message either way makes it wanted again."""
        session = self._session
        if "lapsing" in session.state.noticed:
            return
        session.state.noticed.append("lapsing")
        text = "no message either way for longer than renew_for: the session is not renewed any more and will expire"
        await session.notice("lapsing", f"lapsing-{int(session.state.last_message_at or 0)}", text)
