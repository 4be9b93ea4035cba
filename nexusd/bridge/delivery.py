"""One claimed file on its way: posted at most as often as it must be, and never in the dark."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import msgspec

from nexusd.bridge import guarded, outgoing, sift, witness
from nexusd.errors import Fate, Refusal, RequestError
from nexusd.spool.outbox import LOOK_AGAIN
from nexusd.spool.sending import Claimed, Outcome, digest
from nexusd.timestamps import stamp

if TYPE_CHECKING:
    from nexusd.bridge.session import Session
    from nexusd.wire.batch import Message
    from nexusd.wire.records import Sent

POSTS = 3  # at most, when nothing tells whether they arrive


class Delivery:
    """One file's way. `proceed` goes a step: seconds to wait, or None once it is in sent/ or failed/."""

    def __init__(self, session: Session, claimed: Claimed) -> None:
        self.claimed = claimed
        self.refusal: Refusal | None = None
        self._session = session
        self._message: outgoing.Outgoing | None = None
        self._sha256 = ""
        self._looked_early = False

    async def proceed(self) -> float | None:
        """Read, look, post, settle: whichever is next. RequestError for what may go later."""
        session, intent = self._session, self.claimed.intent
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
        return await self._post(message, session.state.highest)

    async def fail(self, refusal: Refusal) -> None:
        """To failed/, with the reason beside it and in the inbox."""
        self.refusal = refusal
        await self._finish(Outcome(sent=False, note=error_note(refusal, attempts=self.claimed.intent.attempts)))

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
        await guarded.check(session, self.claimed, message)
        self._sha256 = digest(data)
        return message

    async def _post(self, message: outgoing.Outgoing, highest: int | None) -> float | None:
        """One POST behind a durable intent."""
        session, intent = self._session, self.claimed.intent
        takes_json = message.payload is None or await session.link.takes_json()
        if not intent.doubtful or intent.epoch != session.state.epoch:
            intent.cursor, intent.epoch = highest, session.state.epoch
        before = msgspec.structs.replace(intent)
        intent.sha256 = self._sha256
        intent.attempts += 1
        intent.posted_at = time.time()
        intent.doubtful = True
        try:
            await asyncio.to_thread(session.sending.note, self.claimed)
        except OSError:
            self.claimed.intent = before  # not posted: a full disk is no reason for doubt
            raise
        form = message if takes_json else message.as_text()
        try:
            sent = await session.link.client.send(
                session.id, session.agent, session.key, text=form.text, payload=form.payload
            )
        except RequestError as fault:
            if fault.fate is Fate.MAYBE_SENT:
                intent.doubts += 1
                session.log.warning("outbox.ambiguous", file=self.claimed.name, error=str(fault))
                self._looked_early = False
                return 0.0
            intent.doubtful = intent.doubts > 0
            await asyncio.to_thread(session.sending.note, self.claimed)
            if fault.fate is Fate.REFUSED and fault.status not in (401, 403):
                words = session.secrets.removed(f"{fault.code}: {fault}")
                refusal = Refusal("refused", f"the server said {words}", "change it as it says", status=fault.status)
                await self.fail(refusal)
                return None
            raise
        await self._accepted(sent, highest, as_text=not takes_json)
        return None

    async def _accepted(self, sent: Sent, highest: int | None, *, as_text: bool) -> None:
        session = self._session
        if highest is not None and sent.cursor <= highest:
            session.state.highest = sent.cursor  # cursors only ever rise: the server counts anew
            session.server_restarted()
        else:
            session.state.highest = max(sent.cursor, session.state.highest or 0)
        session.leased(sent.lease)
        receipt = self._receipt(sent.id, sent.cursor, sent.raw.get("expiresAt"), "answer")
        receipt.update(redacted=sent.redacted, jsonAsText=as_text)
        await self._finish(Outcome(sent=True, note=receipt))

    async def _look(self, message: outgoing.Outgoing) -> float | None:
        """Seek the message whose answer was lost; seconds to wait, or None: decided, or to be posted again."""
        session, intent = self._session, self.claimed.intent
        since = time.time() - (intent.posted_at or 0.0)
        settled = since >= session.settings.settle or since < 0
        if not settled and self._looked_early:
            return session.settings.settle - since
        known = session.known()  # before the poll: what came in meanwhile need not be in it
        alone = same = False
        for after in (intent.cursor, None) if settled and intent.cursor is not None else (intent.cursor,):
            batch = await session.link.client.poll(session.id, session.agent, after=after)
            ours = witness.candidates(batch, agent=session.agent, keyed=session.key is not None, above=intent.cursor)
            if found := witness.find(ours, message):
                await self._witnessed(*found)
                return None
            if after is None and settled and sift.restarted(batch, known):
                session.server_restarted()
                return 0.0
            alone, same = not ours, after is None and sift.same_life(batch, known)
        self._looked_early = True
        if not settled:
            return max(0.0, session.settings.settle - since)
        return await self._without_witness(since, absent=alone and same)

    async def _witnessed(self, message: Message, redacted: bool) -> None:
        session = self._session
        session.log.info("outbox.found", file=self.claimed.name, cursor=message.cursor)
        session.state.echo = True
        session.state.highest = max(message.cursor or 0, session.state.highest or 0)
        receipt = self._receipt(message.id, message.cursor, _stamped(message.expires_at), "echo")
        as_text = self._message is not None and self._message.payload is not None and "json" not in message.fields
        receipt.update(redacted=redacted, jsonAsText=as_text)
        await self._finish(Outcome(sent=True, note=receipt))

    async def _without_witness(self, since: float, *, absent: bool) -> float | None:
        """It was not seen. That proves something only where the server shows our own messages, and still had it.

        `absent`: what we knew of the server's life is still there, and above the intent nothing of ours that might be
        this message changed by the server.
        """
        session, intent = self._session, self.claimed.intent
        proven = (
            absent
            and bool(session.state.echo)
            and intent.epoch == session.state.epoch
            and (session.state.ttl is None or since < session.state.ttl)
        )
        if proven:
            intent.doubtful, intent.doubts = False, 0
            return None
        intent.doubts = max(1, intent.doubts)  # a crash in the middle of a POST is a doubt too
        if session.settings.on_ambiguous == "fail" or intent.doubts >= POSTS:
            why = f"posted {intent.attempts} times; the answer was lost, and nothing tells whether it arrived"
            await self.fail(Refusal("ambiguous", why, "ask the other side; nexusd release NAME FILE sends it again"))
            return None
        intent.duplicate = True
        return None

    def _receipt(self, identity: str | None, cursor: int | None, expires_at: Any, confirmed: str) -> dict[str, Any]:
        intent = self.claimed.intent
        return {
            "id": _writable(identity),
            "cursor": str(cursor),
            "expiresAt": _writable(expires_at),
            "droppedAt": stamp(self.claimed.dropped_at),
            "sentAt": stamp(intent.posted_at),
            "sha256": self._sha256,
            "attempts": intent.attempts,
            "confirmed": confirmed,
            "possibleDuplicate": intent.duplicate,
            "redacted": False,
            "jsonAsText": False,
        }

    async def _finish(self, outcome: Outcome) -> None:
        """Decide durably, tell the agent of a failure, move the file."""
        session = self._session
        if not outcome.sent:
            note = outcome.note
            text = f"{note['message']}; {note['remedy']}"
            identity = f"bounced-{self.claimed.ulid}"
            await session.notice("bounced", identity, text, file=self.claimed.name, error=note["error"])
        guarded.settled(session, self.claimed)
        await asyncio.to_thread(session.sending.finish, self.claimed, outcome)
        session.counts["sent" if outcome.sent else "bounced"] += 1
        log = session.log.debug if outcome.sent else session.log.warning
        event = "outbox.sent" if outcome.sent else "outbox.failed"
        log(event, file=self.claimed.name, attempts=outcome.note["attempts"])


def error_note(refusal: Refusal, *, attempts: int) -> dict[str, Any]:
    """What stands in NAME.error.json."""
    return {
        "error": refusal.code,
        "message": str(refusal),
        "remedy": refusal.remedy,
        "status": refusal.status,
        "attempts": attempts,
        "at": stamp(),
    }


def _writable(value: Any) -> str | None:
    """A server's string, half surrogate pairs taken out: they can be read from JSON but not written as UTF-8."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else None


def _stamped(at: float | None) -> str | None:
    return None if at is None else stamp(at)
