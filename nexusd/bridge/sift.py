"""What of a poll's batch is new: decided without I/O.

A cursor counts within one life of the server. After its restart messages are gone and cursors may begin at 1 again;
then neither cursors nor ids tell old from new, only whole messages do, and the inbox is where the old ones are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nexusd.spool import line

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

    from nexusd.wire.batch import Batch, Message


@dataclass(frozen=True, slots=True)
class Known:
    """What we know before a poll.

    `inbox` gives the identities of what the inbox holds as far back as it is read, `reach` the lowest cursor among them
    (0: it was read to its very beginning); they are asked only if need be. `memory` are the traces of all that was
    shown up to our cursor, or None before the first poll of this life.
    """

    cursor: int | None
    last: str
    inbox: Callable[[], AbstractSet[str]]
    agent: str
    keyed: bool
    greeted: bool
    keep_own: bool = False
    memory: AbstractSet[int] | None = None
    reach: Callable[[], int | None] = lambda: None
    sent: AbstractSet[str] = frozenset()  # ids of messages that are certainly ours

    def is_own(self, message: Message) -> bool:
        """True if we sent it: our agent id, and verified if we send with a key, or an id that a receipt of ours has."""
        ours = message.verified or not self.keyed or message.id in self.sent
        return bool(self.agent) and message.agent_id == self.agent and ours


@dataclass(slots=True)
class News:
    """What a poll brought. `cursor` and `last` are what the state becomes once the entries are in the inbox."""

    cursor: int | None
    last: str
    entries: list[line.Entry] = field(default_factory=list)
    restarted: bool = False
    jumped: bool = False  # the first new message is not the next one
    own: list[Message] = field(default_factory=list)
    heard: int = 0  # entries that are somebody else's


def identity(message: Message) -> str:
    """As the inbox would know it."""
    if message.raw is None:
        return line.identity(message.fields)
    return line.identity(line.undecodable(message.raw, message.cursor).fields)


def trace(message: Message) -> int:
    """What tells a message from any other, in this process: less to keep and sooner made than an identity."""
    told = (message.fields.get(name) for name in ("text", "json", "sentAt"))
    return hash((message.cursor, message.id, message.agent_id, message.raw, *told))


def remembered(batch: Batch, known: Known, *, whole: bool) -> AbstractSet[int] | None:
    """The memory behind this poll; `whole`: it was one without `after`, and what it does not show is gone."""
    if whole and not batch.cut:
        return {trace(m) for m in batch.messages}
    if known.memory is None or not batch.messages:
        return known.memory  # what was shown before we began is not known yet
    start = -1 if whole or known.cursor is None else known.cursor
    # Some servers ignore `after`: what is not above our cursor was not taken in from this poll.
    return known.memory | {trace(m) for m in batch.messages if m.cursor is None or m.cursor > start}


def restarted(batch: Batch, known: Known) -> bool:
    """Whether a poll without `after` proves that the server lost its memory.

    It does if it shows an unseen message with a cursor above 0 and not above ours. Less than before proves nothing:
    messages expire. That the one at our cursor is the same proves nothing either once we have polled: the new life may
    have overtaken our cursor before we looked.
    """
    if known.cursor is None:
        return False
    old = [m for m in batch.messages if m.cursor is not None and 0 < m.cursor <= known.cursor]
    if known.memory is not None:
        return any(trace(m) not in known.memory for m in old)
    others = [m for m in old if not known.is_own(m)]  # our own are not in the inbox
    if others and same_life(batch, known):  # unless it overtook us; what lies before the inbox's reach tells nothing
        reach = known.reach()
        others = [m for m in others if reach is not None and (m.cursor or 0) >= reach]
    if not others:
        return False
    inbox = known.inbox()
    return any(identity(m) not in inbox for m in others)


def same_life(batch: Batch, known: Known) -> bool:
    """Whether a poll without `after` proves that the server has not restarted: what stood at our cursor still does."""
    return any(m.cursor == known.cursor is not None and identity(m) == known.last for m in batch.messages)


def sift(batch: Batch, known: Known, *, reread: bool = False) -> News:
    """The new messages, in cursor order. `reread`: everything the server has was asked for because it had restarted."""
    news = News(None if reread else known.cursor, known.last, restarted=reread)
    start = None if reread else known.cursor
    inbox = known.inbox() if reread or any(m.cursor is None for m in batch.messages) else frozenset()
    newest: Message | None = None
    for message in batch.messages:
        if message.cursor is not None:
            if start is not None and message.cursor <= start:
                continue
            jumped = start is not None and message.cursor > start + 1 and not news.entries and not news.own
            news.jumped = news.jumped or jumped
            start = message.cursor
        if message.cursor is not None:
            news.cursor, newest = message.cursor, message
        seen = bool(inbox) and identity(message) in inbox
        if known.is_own(message):
            news.own.append(message)
            if not known.keep_own or seen:
                continue
        elif (message.cursor == 0 and known.greeted) or seen:
            continue
        else:
            news.heard += 1
        news.entries.append(_entry(message))
    if newest is not None:
        news.last = identity(newest)
    ahead = batch.next_cursor
    if batch.messages and batch.messages[-1].cursor is None and ahead is not None and not batch.cut:
        # The last message is one whose cursor could not be read; only the server's word leads past it.
        news.cursor = max(news.cursor or 0, ahead)
    return news


def _entry(message: Message) -> line.Entry:
    if message.raw is not None:
        return line.undecodable(message.raw, message.cursor)
    return line.message(message.fields, message.cursor, message.agent_id)
