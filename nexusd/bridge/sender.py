"""Out: outbox -> claim -> intent -> POST -> sent/ or failed/."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from typing import TYPE_CHECKING

from nexusd.bridge import give_up, membership
from nexusd.bridge.delivery import Delivery
from nexusd.bridge.in_thread import finished
from nexusd.bridge.journal import FolderChanged
from nexusd.bridge.link import now
from nexusd.bridge.receipt import error_note
from nexusd.bridge.states import Status
from nexusd.bridge.stuck import AGAIN, Stuck
from nexusd.errors import NexusError, Refusal, RequestError
from nexusd.spool import atomic, sending
from nexusd.spool.outbox import LOOK_AGAIN, Look
from nexusd.wire.budget import Turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexusd.bridge.session import Session
    from nexusd.spool.sending import Claimed

WAITING = 60.0  # seconds between two looks at whether a file waits for too long, while polls fail
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
        self._stuck = Stuck()
        self._looked_at = 0.0
        self._failing_since: float | None = None  # by link.now()
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
            self._delivery = Delivery(session, self._pending.pop(0), inherited=True)
        held = session.standing.held_for(Turn.SEND)
        failing = held or self._failing_since is not None
        if self._has_nothing or (failing and now() - self._looked_at >= RECOUNT):
            await self._look_again()
        self._count()
        if self._has_nothing:
            self._failing_since = None
            self._stuck.say(session)
            session.standing.cleared(Turn.SEND)  # whatever it was about is gone
            return self._look.again_in
        if session.over:
            return await self._bounce()
        if session.standing.ended or not (session.joined and session.polled) or session.state.reread:
            # A witness needs a cursor of this life; the poll that brings one wakes us.
            return await self._wait_for_polls()
        return min(held, RECOUNT) if held else await self._send()

    async def _send(self) -> float | None:
        session = self._session
        try:
            async with session.turn(Turn.SEND):
                if self._delivery is None:
                    self._delivery = await self._claim()
                if self._delivery is None:
                    return self._nothing_claimed
                delay = await self._delivery.proceed()
        except RequestError as fault:
            return await self._temporary(fault)
        except FileNotFoundError:
            session.log.warning("outbox.vanished", file=self._delivery.claimed.name if self._delivery else None)
            session.journal.check()
            await asyncio.to_thread(session.folder.mend)  # it may be a folder that was removed: then the file is there
            self._delivery = self._pending = None
            return LOOK_AGAIN
        except (OSError, NexusError):
            raise  # of this machine: the lane is blocked, and says so
        except Exception as fault:
            return await self._unexpected(fault)
        if delay is None:
            self._done(self._delivery)
            return 0.0
        return await self._give_up_if_due(delay)

    async def _wait_for_polls(self) -> float | None:
        """Nothing can be sent before a poll has succeeded; but nothing waits for longer than `give_up_after` either."""
        session = self._session
        if session.standing.ended:
            return None
        self._failing_since = self._failing_since or now()
        if self._delivery is None and now() - self._failing_since > session.settings.give_up_after:
            self._delivery = await self._claim()
        return await self._give_up_if_due(WAITING)

    async def _look_again(self) -> None:
        """Scan the outbox; what can never be sent goes to failed/ at once."""
        session = self._session
        self._looked_at = now()
        session.journal.check()
        await asyncio.to_thread(session.folder.mend)  # somebody may have removed it
        await asyncio.to_thread(session.folder.check)  # or mounted something over it
        self._look, self._stuck = await asyncio.to_thread(session.outbox.look, session.settings.quiet), Stuck()
        for name, refusal in self._look.refused:
            try:
                with atomic.held_folder(session.folder.outbox) as held:
                    await self._refuse(os.path.join(held, name), name, refusal)
            except FileNotFoundError:
                continue  # taken back in this moment
            except FolderChanged:
                raise
            except Exception as fault:  # what cannot be moved stays there, and the others go on
                session.log.warning("outbox.stuck", file=name, error=str(fault))

    async def _refuse(self, path: str, name: str, refusal: Refusal) -> None:
        session = self._session
        found = os.lstat(path)
        identity = f"bounced-{hashlib.sha256(f'{name!r} {found.st_ino} {found.st_mtime_ns}'.encode()).hexdigest()[:16]}"
        if identity not in self._bounced:
            text = f"{refusal}; {refusal.remedy}"
            await session.notice("bounced", identity, text, file=name, error=refusal.code)
            self._bounced.add(identity)
        note = error_note(refusal)
        await finished(sending.settle, path, session.folder.failed, name, note, sent=False)
        self._bounced.discard(identity)
        session.touch()
        session.log.warning("outbox.refused", file=name, error=refusal.code)

    async def _claim(self) -> Delivery | None:
        """The next file whose writer is done, claimed."""
        session = self._session
        try:
            while self._look.ready:
                drop = self._look.ready.popleft()
                done = await asyncio.to_thread(session.outbox.is_done, drop)
                if done:
                    session.journal.check()
                    try:
                        claimed = await finished(session.sending.claim, drop.name)
                    except OSError as fault:
                        if not self._stuck.takes(drop.name, fault, session.folder.outbox):
                            raise
                        continue
                    session.outbox.forget(drop.name)
                    if claimed is not None:
                        return Delivery(session, claimed, waited=time.monotonic() - drop.since)
                elif done is False:
                    self._look.put_off(drop)
        except OSError:
            self._look, self._pending = Look(), None  # how far it came is found by looking; its turn is kept
            raise
        self._stuck.say(session)
        return None

    @property
    def _nothing_claimed(self) -> float:
        """Seconds until the next look, where nothing could be claimed that was there."""
        return min(self._look.again_in or AGAIN, AGAIN) if self._stuck.names else self._look.again_in or 0.0

    def _done(self, delivery: Delivery | None) -> None:
        """A file has come to its end."""
        session = self._session
        self._delivery = None
        if delivery is not None and delivery.refusal is not None:
            session.touch()
        else:
            self._failing_since = None
            session.standing.answered(Turn.SEND)
            session.stirred()
            self._on_sent()
        self._count()

    async def _temporary(self, fault: RequestError) -> float:
        """It may go later: hold this file and those behind it back, for at most `give_up_after`."""
        session, delivery = self._session, self._delivery
        if delivery is not None and delivery.in_doubt:
            # It may have arrived: the next step looks for it, and itself knows when to post again.
            session.counts[f"failed_{fault.fate.value}"] += 1
            delay = session.standing.failing(Turn.SEND, f"{fault.code}: {fault}", seconds=0.0)
        else:
            delay = await membership.failed(session, fault, Turn.SEND)
        self._failing_since = self._failing_since or now()
        if delivery is None or session.standing.ended:
            return delay
        if (refusal := delivery.foreign.enough(fault)) is not None:
            await delivery.fail(refusal)
            self._done(delivery)
            return 0.0
        return await self._give_up_if_due(delay)

    async def _give_up_if_due(self, delay: float) -> float:
        """A file that could not be sent for `give_up_after`, whatever the reason, goes to failed/; else `delay`."""
        session, delivery = self._session, self._delivery
        if delivery is None or self._failing_since is None:
            return delay
        refusal = give_up.overdue(session, delivery, self._failing_since)
        if refusal is None:
            return delay
        await delivery.fail(refusal)
        self._done(delivery)
        return 0.0

    async def _unexpected(self, fault: Exception) -> float:
        """A fault of ours with one file: after some tries it goes to failed/, so that it never blocks the queue."""
        session, delivery = self._session, self._delivery
        session.log.error("outbox.fault", exc_info=fault)
        if delivery is None:
            raise fault
        file = delivery.claimed.name
        delivery.faults += 1
        if delivery.faults < give_up.TRIES:
            return session.standing.failing(
                Turn.SEND, f"a fault in nexusd with the file {file}: {type(fault).__name__}"
            )
        try:
            await delivery.fail(give_up.internal(fault))
        except (OSError, NexusError):
            raise
        except Exception as second:
            # Not even that: it stays where it is, and the next start looks at it again.
            session.log.exception("outbox.stuck", file=file, exc_info=second)
        self._done(delivery)
        return 0.0

    async def _bounce(self) -> float | None:
        """The session is over: what is claimed or dropped goes to failed/."""
        session = self._session
        if self._delivery is None:
            self._delivery = await self._claim()
        if self._delivery is None:
            return self._nothing_claimed
        status = session.standing.status
        await self._delivery.fail(Refusal(status.value, ENDINGS[status], "send it in another session"))
        self._done(self._delivery)
        return 0.0

    def _count(self) -> None:
        session = self._session
        unsent = len(self._pending or ()) + (self._delivery is not None) + self._look.waiting + len(self._look.ready)
        unsent += len(self._stuck.names)
        if session.unsent != unsent:
            session.unsent = unsent
            session.touch()
