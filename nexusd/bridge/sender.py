"""Out: outbox -> claim -> intent -> POST -> sent/ or failed/."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from typing import TYPE_CHECKING

from nexusd.bridge import membership
from nexusd.bridge.delivery import Delivery, error_note
from nexusd.bridge.link import now
from nexusd.bridge.states import Status
from nexusd.errors import Refusal, RequestError
from nexusd.spool import atomic, sending
from nexusd.spool.outbox import LOOK_AGAIN, Look
from nexusd.wire.budget import Turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexusd.bridge.session import Session
    from nexusd.spool.sending import Claimed

RECOUNT = 1.0  # seconds between looks at what gathers while sending holds off
ENDINGS = {
    Status.EXPIRED: "the session does not exist any more",
    Status.LEFT: "the session was left",
}


class Sender:
    """One session's sends: one file at a time, so that order is kept and a witness can belong to one file only.

    `on_sent` is called after each message: an answer may follow.
    """

    def __init__(self, session: Session, on_sent: Callable[[], None]) -> None:
        self._session = session
        self._on_sent = on_sent
        self._pending: list[Claimed] | None = None  # what an earlier life claimed; None: not looked yet
        self._delivery: Delivery | None = None
        self._look = Look()
        self._looked_at = 0.0
        self._failing_since: float | None = None  # by link.now()
        self._inherited = False  # the file under way was claimed in an earlier life
        self._bounced: set[str] = set()  # refused and said so, but not moved away yet

    @property
    def idle(self) -> bool:
        """Whether nothing is known to be waiting, or to be ready in a moment."""
        return self._has_nothing and not self._look.resting

    @property
    def _has_nothing(self) -> bool:
        return self._delivery is None and not self._pending and not self._look.ready

    async def step(self) -> float | None:
        """Send one file; the seconds until the next step, or None until something is dropped."""
        session = self._session
        if self._pending is None:
            self._pending = await asyncio.to_thread(session.sending.pending)
        if self._delivery is None and self._pending:
            self._delivery, self._inherited = Delivery(session, self._pending.pop(0)), True
        held = session.standing.held_for(Turn.SEND)
        failing = held or self._failing_since is not None
        if self._has_nothing or (failing and now() - self._looked_at >= RECOUNT):
            await self._look_again()
        self._count()
        if self._has_nothing:
            return self._look.again_in
        if session.standing.status in ENDINGS:
            return await self._bounce()
        if session.standing.ended or not (session.joined and session.polled) or session.state.reread:
            return None  # a witness needs a cursor of this life; the poll that brings one wakes us
        return min(held, RECOUNT) if held else await self._send()

    async def _send(self) -> float | None:
        session = self._session
        try:
            async with session.turn(Turn.SEND):
                if self._delivery is None:
                    self._delivery, self._inherited = await self._claim(), False
                if self._delivery is None:
                    return self._look.again_in or 0.0
                delay = await self._delivery.proceed()
        except RequestError as fault:
            return await self._temporary(fault)
        except FileNotFoundError:
            session.log.warning("outbox.vanished", file=self._delivery.claimed.name if self._delivery else None)
            await asyncio.to_thread(session.folder.make)  # it may be a folder that was removed: then the file is there
            self._delivery = self._pending = None
            return LOOK_AGAIN
        if delay is None:
            self._done(self._delivery)
            return 0.0
        return delay

    async def _look_again(self) -> None:
        """Scan the outbox; what can never be sent goes to failed/ at once."""
        session = self._session
        self._looked_at = now()
        await asyncio.to_thread(session.folder.make)  # somebody may have removed it
        self._look = await asyncio.to_thread(session.outbox.look, session.settings.quiet)
        for name, refusal in self._look.refused:
            try:
                with atomic.held_folder(session.folder.outbox) as held:
                    await self._refuse(os.path.join(held, name), name, refusal)
            except FileNotFoundError:
                continue  # taken back in this moment
            except OSError as fault:  # what cannot be moved stays there, and the others go on
                session.log.warning("outbox.stuck", file=name, error=str(fault))

    async def _refuse(self, path: str, name: str, refusal: Refusal) -> None:
        session = self._session
        found = os.lstat(path)
        identity = f"bounced-{hashlib.sha256(f'{name!r} {found.st_ino} {found.st_mtime_ns}'.encode()).hexdigest()[:16]}"
        if identity not in self._bounced:
            text = f"{refusal}; {refusal.remedy}"
            await session.notice("bounced", identity, text, file=name, error=refusal.code)
            self._bounced.add(identity)
        note = error_note(refusal, attempts=0)
        await asyncio.to_thread(sending.settle, path, session.folder.failed, name, note, sent=False)
        self._bounced.discard(identity)
        session.failed += 1
        session.log.warning("outbox.refused", file=name, error=refusal.code)

    async def _claim(self) -> Delivery | None:
        """The next file whose writer is done, claimed."""
        session = self._session
        try:
            while self._look.ready:
                drop = self._look.ready.popleft()
                done = await asyncio.to_thread(session.outbox.is_done, drop)
                if done:
                    claimed = await asyncio.to_thread(session.sending.claim, drop.name)
                    if claimed is not None:
                        return Delivery(session, claimed)
                elif done is False:
                    self._look.put_off(drop)
        except OSError:
            self._look, self._pending = Look(), None  # how far it came is found by looking; its turn is kept
            raise
        return None

    def _done(self, delivery: Delivery | None) -> None:
        """A file has come to its end."""
        session = self._session
        self._delivery = None
        if delivery is not None and delivery.refusal is not None:
            session.failed += 1
        else:
            self._failing_since = None
            session.standing.answered(Turn.SEND)
            session.stirred()
            self._on_sent()
        self._count()

    async def _temporary(self, fault: RequestError) -> float:
        """It may go later: hold this file and those behind it back, for at most `give_up_after`."""
        session, delivery = self._session, self._delivery
        delay = await membership.failed(session, fault, Turn.SEND)
        self._failing_since = self._failing_since or now()
        if delivery is None or session.standing.ended:
            return delay
        waited = now() - self._failing_since
        if self._inherited:  # only the wall clock goes on over lives
            waited = max(waited, time.time() - delivery.claimed.claimed_at)
        if waited > session.settings.give_up_after:
            doubt = "; one of its posts may have arrived" if delivery.claimed.intent.doubtful else ""
            why = f"it could not be sent for {waited:.0f} s; last: {fault}{doubt}"
            await delivery.fail(Refusal("gave_up", why, "when the server is back: nexusd release NAME FILE"))
            self._done(delivery)
        return delay

    async def _bounce(self) -> float | None:
        """The session is over: what is claimed or dropped goes to failed/."""
        session = self._session
        if self._delivery is None:
            self._delivery = await self._claim()
        if self._delivery is None:
            return self._look.again_in or 0.0
        status = session.standing.status
        await self._delivery.fail(Refusal(status.value, ENDINGS[status], "send it in another session"))
        self._done(self._delivery)
        return 0.0

    def _count(self) -> None:
        session = self._session
        unsent = len(self._pending or ()) + (self._delivery is not None) + self._look.waiting + len(self._look.ready)
        if session.unsent != unsent:
            session.unsent = unsent
            session.touch()
