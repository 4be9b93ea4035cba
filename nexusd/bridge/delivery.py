"""Deliver one claimed file; after a lost answer, look for the message before posting it again."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec

from nexusd.bridge import guarded, outgoing, sift, witness
from nexusd.bridge.give_up import ForeignRefusals
from nexusd.bridge.in_thread import finished
from nexusd.bridge.link import now
from nexusd.bridge.receipt import error_note, receipt
from nexusd.errors import Fate, Refusal, RequestError
from nexusd.spool import released
from nexusd.spool.outbox import LOOK_AGAIN
from nexusd.spool.sending import Claimed, Outcome, digest
from nexusd.wire.backoff import Backoff

if TYPE_CHECKING:
    from nexusd.bridge.session import Session
    from nexusd.wire.batch import Message
    from nexusd.wire.records import Sent

POSTS = 3  # at most, whose answer was lost, late or unreadable, when nothing tells whether they arrived
LONGEST = 4  # times `settle`: the longest wait between two posts that may have arrived; 2 minutes by default


class Delivery:
    """One file's way. `proceed` goes a step: seconds to wait, or None once it is in sent/ or failed/.

    `inherited`: it was claimed in an earlier life, which may have posted it up to the moment in which it ended.
    `waited`: seconds for which it lay in the outbox.
    """

    def __init__(self, session: Session, claimed: Claimed, *, inherited: bool = False, waited: float = 0.0) -> None:
        self.claimed = claimed
        self.inherited = inherited
        self.refusal: Refusal | None = None
        self.faults = 0  # of ours, that we do not understand
        self.foreign = ForeignRefusals(session)
        self.since = now() - waited  # since when it waits to be sent
        self._session = session
        self._message: outgoing.Outgoing | None = None
        self._sha256 = ""
        self._ended_at = session.opened_at  # of the last attempt; after a death, when this life began
        self._looks = 0  # for the last attempt, so far
        self._unsure = 0  # posts of this life that may have arrived
        self._backoff = Backoff()
        self._refused = False  # the last attempt was answered, and not with a success
        self._pause = 0.0  # seconds after the last attempt before which it is not posted again
        self.in_doubt = False  # the last step was a POST that may have arrived: look for it at once

    async def proceed(self) -> float | None:
        """Read, look, post, finish: whichever is next. RequestError for what may go later."""
        session, intent = self._session, self.claimed.intent
        self.in_doubt = False
        if intent.outcome is not None:
            await self._finish(intent.outcome)
            return None
        try:
            message = self._message = self._message or await self._read()
        except Refusal as refusal:
            await self.fail(refusal)
            return None
        if message is None:
            return LOOK_AGAIN
        if intent.doubtful:
            wait = await self._look(message)
            if wait is not None or intent.outcome is not None:
                return wait
        wait = self._ended_at + self._pause - now()
        if wait > 0:
            return wait
        if self._refused and await self._is_there(message):
            return None
        return await self._post(message, session.state.highest)

    async def fail(self, refusal: Refusal) -> None:
        """To failed/, with the reason beside it and in the inbox."""
        self.refusal = refusal
        await self._finish(Outcome(sent=False, note=error_note(refusal, self.claimed.intent)))

    async def _read(self) -> outgoing.Outgoing | None:
        """The file's bytes, once, as a message; None while somebody still writes. Refusal."""
        session = self._session
        limit = session.settings.max_message_bytes
        try:
            data = await asyncio.to_thread(session.sending.read, self.claimed, limit)
        except PermissionError:
            raise Refusal(
                "unreadable", "its mode does not let nexusd read it", "chmod u+r, and drop it again"
            ) from None
        if data is None:
            return None
        message = outgoing.read(self.claimed.name, data, limit)
        if session.secrets.inside(message.holds()):
            raise Refusal("own_secret", "it holds a session id, key or pairing code of ours", "take that out")
        word = released.said(session.folder, self.claimed.name, self.claimed.dropped_at)
        if word is not None and word.doubtful:
            self.claimed.intent.duplicate = True
        await guarded.check(session, self.claimed, message, word)
        self._sha256 = digest(data)
        return message

    async def _post(self, message: outgoing.Outgoing, highest: int | None) -> float | None:
        """One POST behind a durable intent."""
        session, intent = self._session, self.claimed.intent
        takes_json = message.payload is None or await session.link.takes_json()
        if not intent.doubtful or intent.epoch != session.state.epoch:
            intent.cursor, intent.epoch = highest, session.state.epoch
            # The greeting, at 0, is shown in every life of a server.
            intent.anchor = session.state.last if session.state.cursor else ""
        before = msgspec.structs.replace(intent)
        intent.sha256 = self._sha256
        intent.attempts += 1
        intent.posted_at = time.time()
        intent.doubtful = True
        try:
            await finished(self._note)
        except Exception:
            self.claimed.intent = before  # not posted: a full disk is no reason for doubt
            raise
        form = message if takes_json else message.as_text()
        try:
            sent = await session.link.client.send(
                session.id, session.agent, session.sending_key, text=form.text, payload=form.payload
            )
        except RequestError as fault:
            await self._failed(fault, before.doubtful)
            return None
        await self._accepted(sent, highest, as_text=not takes_json)
        return None

    async def _failed(self, fault: RequestError, doubtful: bool) -> None:
        """A POST that did not succeed. RequestError for what may go later."""
        session, intent = self._session, self.claimed.intent
        if fault.fate is Fate.MAYBE_SENT:
            if fault.status is None or fault.status < 500:
                intent.doubts += 1
            self._ended_at, self._looks = now(), 0
            # The first look is at once; each further post waits for twice as long, whatever a look proves.
            self._unsure += 1
            steps = min(LONGEST, 2 ** (self._unsure - 1))
            delay = self._backoff.failed() if self._unsure > 1 else 0.0
            self._pause = max(session.settings.settle * steps, delay)
            session.log.warning("outbox.ambiguous", file=self.claimed.name, error=str(fault))
            self.in_doubt = True
            raise fault
        intent.doubtful = doubtful
        self._refused = fault.status is not None
        await finished(self._note)
        if fault.fate is Fate.REFUSED and fault.status in (400, 413, 422):
            words = session.secrets.removed(f"{fault.code}: {fault}")
            refusal = Refusal("refused", f"the server said {words}", "change it as it says", status=fault.status)
            await self.fail(refusal)
            return
        raise fault

    def _note(self) -> None:
        self._session.journal.check()
        self._session.sending.note(self.claimed)

    async def _accepted(self, sent: Sent, highest: int | None, *, as_text: bool) -> None:
        session = self._session
        await session.own.accepted(sent.id)
        if self.claimed.intent.epoch != session.state.epoch:
            pass  # a poll noticed a restart while this was under way: nobody knows in which life the cursor counts
        elif highest is not None and sent.cursor <= highest:
            session.state.highest = sent.cursor  # cursors only ever rise: the server counts anew
            session.server_restarted()
        else:
            session.state.highest = max(sent.cursor, session.state.highest or 0)
        session.lifetime.extend(sent.lease)
        note = receipt(self.claimed, self._sha256, sent.id, sent.cursor, sent.raw.get("expiresAt"), "answer")
        note.update(redacted=sent.redacted, jsonAsText=as_text)
        await self._finish(Outcome(sent=True, note=note))

    async def _look(self, message: outgoing.Outgoing) -> float | None:
        """Look for the message whose answer was lost; seconds to wait, or None: decided, or to be posted again.

        The first look is at once, for the answer may have been lost on its way back. The next is a settle time after
        the attempt ended: until then the request may still be on its way. The last is when it may be posted again.
        """
        session, intent, settle = self._session, self.claimed.intent, self._session.settings.settle
        since = now() - self._ended_at
        if self._looks and since < (settle if self._looks == 1 else self._pause):
            return (settle if self._looks == 1 else self._pause) - since
        settled = since >= settle
        known, epoch = session.known(), session.state.epoch  # before the poll: what came meanwhile need not be in it
        absent = False
        for after in (intent.cursor, None) if settled and intent.cursor is not None else (intent.cursor,):
            batch = await session.link.client.poll(session.id, session.agent, after=after)
            ours = witness.candidates(batch, known, above=intent.cursor)
            if found := witness.find(ours, message):
                await self._witnessed(*found)
                return None
            if after is None and settled and epoch == session.state.epoch and sift.restarted(batch, known):
                session.server_restarted()
                return 0.0
            absent = after is None and witness.proves_absence(batch, known, above=intent.cursor, anchor=intent.anchor)
        self._looks = max(self._looks + 1, 2 if settled else 1)
        if not settled:
            return max(0.0, settle - since)
        if since < self._pause:
            return self._pause - since
        return await self._without_witness(absent=absent)

    async def _is_there(self, message: outgoing.Outgoing) -> bool:
        """One look before a refused file is posted again: what refuses answers may have let the request pass."""
        session, intent = self._session, self.claimed.intent
        batch = await session.link.client.poll(session.id, session.agent, after=intent.cursor)
        found = witness.find(witness.candidates(batch, session.known(), above=intent.cursor), message)
        if found is not None:
            await self._witnessed(*found)
        return found is not None

    async def _witnessed(self, message: Message, redacted: bool) -> None:
        session = self._session
        session.log.info("outbox.found", file=self.claimed.name, cursor=message.cursor)
        if message.id is not None:
            await session.own.accepted(message.id)
        session.state.highest = max(message.cursor or 0, session.state.highest or 0)
        note = receipt(self.claimed, self._sha256, message.id, message.cursor, message.expires_at, "echo")
        as_text = self._message is not None and self._message.payload is not None and "json" not in message.fields
        note.update(redacted=redacted, jsonAsText=as_text)
        await self._finish(Outcome(sent=True, note=note))

    async def _without_witness(self, *, absent: bool) -> float | None:
        """It was not seen. `absent`: by a look that shows that it would have been, were it there.

        That proves that it did not arrive, as long as it cannot have expired since.
        """
        session, intent = self._session, self.claimed.intent
        age = now() - self._ended_at
        if self.inherited and intent.posted_at is not None:
            age = max(age, time.time() - intent.posted_at)
        if absent and intent.epoch == session.state.epoch and (session.state.ttl is None or age < session.state.ttl):
            intent.doubtful, intent.doubts = False, 0
            return None
        lost = max(1, intent.doubts) if not self._unsure else intent.doubts  # a crash in the middle is one too
        if session.settings.on_ambiguous == "fail" or lost >= POSTS:
            why = f"posted {intent.attempts} times; the answer was lost, and nothing tells whether it arrived"
            await self.fail(Refusal("ambiguous", why, "ask the other side; nexusd release NAME FILE sends it again"))
            return None
        intent.doubts = lost
        intent.duplicate = True
        return None

    async def _finish(self, outcome: Outcome) -> None:
        """Decide durably, tell the agent of a failure, move the file."""
        session = self._session
        session.journal.check()
        if not outcome.sent:
            note = outcome.note
            text = f"{note['message']}; {note['remedy']}"
            identity = f"bounced-{self.claimed.ulid}"
            await session.notice("bounced", identity, text, file=self.claimed.name, error=note["error"])
        released.forget(session.folder, self.claimed.name)
        await finished(session.sending.finish, self.claimed, outcome)
        session.counts["sent" if outcome.sent else "bounced"] += 1
        log = session.log.debug if outcome.sent else session.log.warning
        event = "outbox.sent" if outcome.sent else "outbox.failed"
        log(event, file=self.claimed.name, attempts=outcome.note["attempts"])
