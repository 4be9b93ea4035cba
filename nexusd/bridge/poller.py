"""In: server -> poll -> inbox -> cursor."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING

from nexusd.bridge import membership, pace, sift
from nexusd.bridge.entry import enter, keep_record
from nexusd.bridge.expiry import ask_again
from nexusd.bridge.link import now
from nexusd.bridge.states import Status
from nexusd.errors import Fate, RequestError
from nexusd.spool import line
from nexusd.wire.budget import Turn

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from nexusd.bridge.session import Session
    from nexusd.spool.state import State
    from nexusd.wire.batch import Batch

LOOK_BACK = 300.0  # seconds between polls that ask from the very first: a restarted server is noticed within them
SOONEST = 60.0  # seconds between two of them, where there is reason for one
HELD = 1.0  # seconds; a long poll that brought nothing sooner than that was not held back: the next must wait
UNLEARNED = 10.0  # seconds at most between polls while a slow server may still say that it holds polls back
SPREAD = 0.1  # intervals vary by this part, so that sessions do not march in step


class Poller:
    """One session's polls. `on_ready` is called when a first POST may follow."""

    def __init__(self, session: Session, rng: Random, on_ready: Callable[[], None]) -> None:
        self._session = session
        self._rng = rng
        self._on_ready = on_ready
        self._stirred_at: float | None = None  # the last message either way; None: none in this life
        self._asked_at = now()
        self._looked_back_at: float | None = None
        self._looked_before: float | None = None  # the time before the last
        self._suspicious = True  # there is reason to think that the server restarted, also while we were away
        self._restarts = session.link.restarts  # of the server, as far as we have looked
        self._failed = False  # the last poll did
        self._outage = False  # one did since the last look back that succeeded: anything may have happened
        self._look_failed = False  # the last look did, and no ordinary poll since
        self._looking = False  # the last poll was a look back
        self._bare = False  # the server shows a greeting at most: if it has restarted, its next message is below ours
        self._was_held = False  # the last poll asked to be held back
        self._long: asyncio.Task[Batch] | None = None  # a poll that the server holds back until something comes

    def stir(self) -> None:
        """A message went either way: another may follow soon."""
        self._stirred_at = now()

    def hang_up(self) -> None:
        """Wait no longer for a poll that the server holds back."""
        if self._long is not None:
            self._long.cancel()

    async def step(self) -> float | None:
        """One poll; the seconds until the next."""
        session = self._session
        if session.standing.status is Status.EXPIRED:
            return await ask_again(session)
        if session.standing.ended:
            return None
        if held := session.standing.held_for(Turn.POLL):
            return held
        keep_record(session)
        rereading = session.state.reread
        try:
            async with session.turn(Turn.POLL, self._worth):
                if not session.joined:
                    await enter(session)
                    if session.standing.ended:
                        return None
                batch, whole = await self._ask()
                if batch is not None and not whole and batch.messages:
                    await session.link.look_for_a_restart()
        except RequestError as fault:
            self._note_failure(fault)
            return await membership.failed(session, fault, Turn.POLL)
        if self._failed:
            self._failed, self._suspicious = False, True
        self._outage = self._outage and not whole
        if batch is None or (not whole and batch.messages and self._look_due()):
            return 0.0  # what a restarted server says first comes before what it says now: look back first
        return await self._taken_in(batch, whole=whole, rereading=rereading)

    def _note_failure(self, fault: RequestError) -> None:
        """A poll failed: an outage, behind which a look back is due."""
        self._look_failed = self._looking and not self._failed
        if self._looking and fault.fate is Fate.NOT_SENT and fault.status is None:
            self._look_failed, self._looked_back_at = False, self._looked_before  # nobody was asked
        self._failed = self._outage = True

    async def _taken_in(self, batch: Batch, *, whole: bool, rereading: bool) -> float:
        """What came is on the disk; the seconds until the next poll."""
        session, before = self._session, self._session.state.cursor
        session.lifetime.correct()
        if await self._receive(batch, whole=whole, rereading=rereading):
            self.stir()
        session.standing.answered(Turn.POLL)
        if not session.polled or rereading != session.state.reread:
            session.polled = True
            self._on_ready()
        moved = session.state.cursor != before  # a piece that brings nothing is not asked for again at once
        if (batch.cut and moved) or session.state.reread or await self._may_hold(moved=moved):
            return 0.0
        interval = self._interval * self._rng.uniform(1 - SPREAD, 1 + SPREAD)
        if self._outage:  # a server that restarted meanwhile may say what is hidden from us till then
            interval = min(interval, self._look_in())
        return min(interval, UNLEARNED) if session.link.unlearned else interval

    async def _may_hold(self, *, moved: bool) -> bool:
        """Whether the next poll may follow at once, because the server will hold it back until something comes.

        One that shows again what we have, and at once, is not held back; `moved`: the last one brought something new.
        """
        ignored = self._was_held and not moved and now() - self._asked_at < HELD
        await self._session.link.learned()
        return not ignored and self._session.link.long_poll() > 0

    def _look_due(self) -> bool:
        """Whether to ask from the very first: now and then, at the start of a life, and where there is reason to.

        The reasons: an outage, which the time before our start is too, and an uptime that fell.
        """
        return self._look_in() <= 0

    def _look_in(self) -> float:
        """Seconds until then."""
        if self._looked_back_at is None:
            return 0.0
        reason = self._suspicious or self._outage or self._restarts != self._session.link.restarts
        after = SOONEST if reason and not self._look_failed else LOOK_BACK
        return max(0.0, self._looked_back_at + after - now())

    def _worth(self) -> float:
        return pace.worth(now() - self._asked_at, self._interval)

    @property
    def _interval(self) -> float:
        settings = self._session.settings
        if self._stirred_at is None:
            return settings.poll_interval
        return pace.interval(now() - self._stirred_at, settings.active_poll_interval, settings.poll_interval)

    async def _ask(self) -> tuple[Batch | None, bool]:
        """Poll; from the very first now and then, and whenever the cursor may belong to another life of the server.

        The batch is None when a long poll was hung up.
        """
        session, state = self._session, self._session.state
        due = self._look_due() and (not self._failed or self._looked_back_at is None)
        look = state.reread or due
        self._looking = look
        whole = look or state.cursor is None or self._bare  # where nothing was said there is no cursor to ask from
        members = due or session.members is None
        after = None if look or state.cursor is None else 0 if self._bare else state.cursor
        self._asked_at = now()
        wait = 0 if look or self._failed else session.link.long_poll()
        if self._outage:
            wait = min(wait, math.ceil(self._look_in()))
        self._was_held = wait > 0
        if look:
            # Also if it fails: ordinary polls go on, and it is not repeated at once.
            self._looked_before, self._looked_back_at = self._looked_back_at, now()
            self._restarts = session.link.restarts
        if wait:
            batch = await self._held(after, wait)
        else:
            batch = await session.link.client.poll(session.id, session.agent, after=after, members=members)
        if batch is not None and batch.members is not None:
            session.members = [{k: m.get(k) for k in ("agentId", "lastSeenAt")} for m in batch.members]
        return batch, whole

    async def _held(self, after: int | None, wait: int) -> Batch | None:
        """A poll that the server may hold back for `wait` seconds."""
        session = self._session
        call = session.link.client.poll(session.id, session.agent, after=after, wait=wait)
        with session.link.holding():
            self._long = asyncio.ensure_future(call)
            try:
                await asyncio.wait({self._long})
                return None if self._long.cancelled() else self._long.result()
            finally:
                self._long.cancel()
                self._long = None

    async def _receive(self, batch: Batch, *, whole: bool, rereading: bool) -> bool:
        """Take in what is new; whether somebody else spoke."""
        session, state = self._session, self._session.state
        await session.journal.mend()
        if state.reread and not rereading:
            return False  # a restart was noticed while this poll was under way: what it asked for means nothing now
        if not batch.messages and not whole:
            state.last_poll_at, state.joined = time.time(), session.unsaved is None
            return False
        known = session.known()
        if whole:  # its messages tell whether it restarted; an empty or a new one may not yet
            self._bare = not batch.cut and all(m.cursor == 0 for m in batch.messages)
            self._suspicious = self._suspicious and state.cursor is not None and not sift.same_life(batch, known)
        again = whole and (state.reread or sift.restarted(batch, known))
        self._suspicious = self._suspicious and not again
        news = sift.sift(batch, known, reread=again)
        state.reread = again  # until it is on the disk: a full disk must not make us forget that we have to
        session.memory = sift.remembered(batch, known, whole=whole)  # before the cursor moves past it
        entries = self._gap(news) + news.entries
        at, verifying = time.time(), session.own.shown(news.own)

        def change(after: State) -> None:
            after.cursor, after.last, after.joined = news.cursor, news.last, session.unsaved is None
            after.echo = after.echo or bool(news.own) or None
            verifying(after)
            if news.restarted:
                after.epoch, after.reread, after.highest = after.epoch + 1, False, news.cursor
            elif news.cursor is not None:
                after.highest = max(news.cursor, after.highest or 0)
            after.last_poll_at = at

        if entries or news.restarted or news.cursor != state.cursor:
            await session.commit(entries, change)
        else:
            state.last_poll_at, state.joined = at, session.unsaved is None
        for own in news.own:
            session.log.debug("own.seen", cursor=own.cursor)
        if news.heard:
            session.counts["received"] += news.heard
            session.log.debug("inbox.received", messages=news.heard, seq=state.seq)
            session.stirred()
        return bool(news.heard)

    def _gap(self, news: sift.News) -> list[line.Entry]:
        """What the agent must know of messages that may have been lost."""
        state = self._session.state
        if news.restarted:
            text = "the server restarted and its messages are gone: what was sent since the last poll may be lost"
            return [line.restart(state.epoch + 1, text)]
        away = time.time() - (state.last_poll_at or time.time())
        if news.jumped and state.ttl is not None and away > state.ttl:
            text = (
                f"nexusd did not poll for {away:.0f} s, longer than messages live ({state.ttl:.0f} s), and the next "
                f"one is not the one after cursor {state.cursor}: some may have expired unseen"
            )
            return [line.notice("gap", f"gap-absence-{state.epoch}-{state.cursor}", text)]
        return []
