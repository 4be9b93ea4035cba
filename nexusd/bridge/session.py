"""One session while the daemon runs: what its loops share."""

from __future__ import annotations

import functools
import os
import time
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from nexusd.bridge.journal import Journal
from nexusd.bridge.link import now
from nexusd.bridge.sift import Known
from nexusd.bridge.standing import Standing
from nexusd.bridge.states import Status, after
from nexusd.bridge.view import View
from nexusd.spool import line, prune
from nexusd.spool import state as states
from nexusd.spool.bookmark import slowest
from nexusd.spool.layout import ERROR, SessionFolder
from nexusd.spool.outbox import Outbox
from nexusd.spool.sending import Outcome, Sending
from nexusd.timestamps import stamp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from collections.abc import Set as AbstractSet

    import structlog

    from nexusd.bridge.link import Link
    from nexusd.bridge.states import Event
    from nexusd.clientdir import ClientDir
    from nexusd.config.records import SessionConfig, Settings
    from nexusd.secrets import Secrets
    from nexusd.wire.budget import Turn
    from nexusd.wire.records import Lease


class Session:
    """One session. `agent` and `key` are what the local record says; `link` is its server."""

    def __init__(
        self,
        config: SessionConfig,
        root: str,
        link: Link,
        client_dir: ClientDir,
        secrets: Secrets,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self.id = config.id
        self.name = config.name
        self.settings: Settings = config.settings
        self.link = link
        self.client_dir = client_dir
        self.secrets = secrets
        self.log = log.bind(session=config.name)
        self.folder = SessionFolder(root, config.name)
        self.journal = Journal(self.folder, rotate_at=config.settings.inbox_max_bytes)
        self.inbox = self.journal.inbox
        self.outbox = Outbox(self.folder.outbox)
        self.sending = Sending(self.folder)
        self.digest = states.digest_of(link.server, config.id)
        self.agent = ""
        self.key: str | None = None
        self.joined = False
        self.polled = False  # in this life: a first POST waits for a fresh cursor
        self.memory: AbstractSet[int] | None = None  # traces of what the server shows up to our cursor
        self.lease_until: float | None = None  # by link.now()
        self.members: list[dict[str, Any]] | None = None
        self.unsent = 0
        self.failed = 0
        self.waiting: set[Turn] = set()  # lanes that wait for the budget, which may be long
        self.counts: Counter[str] = Counter()  # for the metrics; since the daemon's start
        self.on_change: Callable[[], None] = lambda: None  # what the supervisor tells of all sessions has changed
        self.on_commit: Callable[[], None] = lambda: None
        self.on_restart: Callable[[], None] = lambda: None  # the poller has to read anew
        self.on_active: Callable[[], None] = lambda: None  # a message either way: poll sooner, renew again
        self.view = View(self)
        self.touch = self.view.touch
        self.standing = Standing(secrets, self.log, on_change=self.touch)

    # ---- life

    def open(self) -> None:
        """Make the folders, read the state, mend the inbox, read the local record. OSError, UserError."""
        self.folder.make()
        self.folder.check()
        if self.journal.open(self.digest):
            self._give_back()
        self.state.digest = self.digest
        self.agent = self.client_dir.agent(self.id) or ""
        self.key = self.client_dir.key(self.id)
        self.joined = bool(self.agent)
        self.secrets.add(self.id, self.key)
        if self.state.ended == Status.LEFT and self.joined:
            self.state.ended = ""  # a hand has entered it again
        if self.state.ended:
            self.standing.status = Status(self.state.ended)
        if self.state.expires_at is not None:
            self.lease_until = now() + self.state.expires_at - time.time()
        self._count_failed()

    @property
    def state(self) -> states.State:
        """What is remembered of it."""
        return self.journal.state

    def leased(self, lease: Lease) -> None:
        """Take note of how long the session lives now."""
        if lease.ttl is not None:
            self.state.ttl = lease.ttl
        remaining = self.link.client.remaining(lease) if lease.expires_at is not None else self.state.ttl
        if remaining is not None:
            remaining = min(remaining, self.state.ttl or remaining)  # the server's Date is only good to a second
            self.lease_until = now() + remaining
            self.state.expires_at = time.time() + remaining
        self.touch()

    def stirred(self) -> None:
        """A message went either way."""
        self.state.last_message_at = time.time()
        if "lapsing" in self.state.noticed:
            self.state.noticed.remove("lapsing")
        self.on_active()

    def server_restarted(self) -> None:
        """The server lost its memory: read again what it has, before anything else is sent."""
        self.log.warning("server.restarted")
        self.state.reread = True
        self.on_restart()

    def known(self) -> Known:
        """What we know of the messages so far."""

        @functools.cache
        def recent() -> tuple[set[str], int | None]:
            names, reach = set(), None
            for found in self.inbox.recent():
                names.add(line.identity(found.fields))
                if found.seq == 1:
                    reach = 0  # nothing was taken away
                elif found.cursor is not None:
                    reach = min(found.cursor, found.cursor if reach is None else reach)
            return names, reach

        return Known(
            cursor=self.state.cursor,
            last=self.state.last,
            inbox=lambda: recent()[0],
            agent=self.agent,
            keyed=self.key is not None,
            greeted=self.state.cursor is not None or self.state.epoch > 0,
            keep_own=self.settings.inbox_own,
            memory=self.memory,
            reach=lambda: recent()[1],
        )

    @asynccontextmanager
    async def turn(self, kind: Turn, worth: Callable[[], float] = lambda: 0.0) -> AsyncIterator[None]:
        """A turn of the server's budget; inside, its first request is paid for. The time inside is counted."""
        self.waiting.add(kind)
        try:
            async with self.link.budget.turn(kind, worth):
                self.waiting.discard(kind)
                began = time.monotonic()
                yield
                self.counts[f"{kind.name.lower()}s"] += 1
                self.counts[f"{kind.name.lower()}_microseconds"] += int((time.monotonic() - began) * 1e6)
        finally:
            self.waiting.discard(kind)

    # ---- the one commit

    async def commit(self, entries: list[line.Entry], change: Callable[[states.State], None] = lambda _: None) -> None:
        """Write lines to the inbox, then apply `change` to the state and save it, in this order and durably.

        OSError or UserError when the disk refuses; what got there all the same is found before the next attempt.
        """
        await self.journal.commit(entries, change)
        if entries:
            self.on_commit()
        self.touch()

    async def notice(self, what: str, identity: str, text: str, **more: str | int | None) -> None:
        """Tell the agent; at least once, always with the same identity."""
        self.log.info("inbox.notice", notice=what, text=text, **more)
        await self.commit([line.notice(what, identity, self.secrets.removed(text), **more)])

    async def end(self, event: Event, text: str) -> None:
        """The session is over for us: say so once in the inbox, remember it, and ask nothing more."""
        ended = after(self.standing.status, event)
        if self.standing.ended:
            return
        if ended is not Status.STOPPED:  # that one waits for a person and is tried again at the next start

            def change(state: states.State) -> None:
                state.ended = ended.value

            said = line.notice(ended.value, f"{ended.value}-{self.digest[:12]}", self.secrets.removed(text))
            await self.commit([said], change)
        self.standing.happened(event, text)
        self.on_active()

    def _give_back(self) -> None:
        """Another session had this name before us: what was claimed for it is not ours to send."""
        for claimed in self.sending.pending():
            text = "it was claimed for another session of this name"
            note = {"error": "session_changed", "message": text, "remedy": "drop it again if it is still meant"}
            said = line.notice("bounced", f"bounced-{claimed.ulid}", text, file=claimed.name, error="session_changed")
            self.journal.commit_now([said], lambda _: None)
            self.sending.finish(
                claimed, Outcome(sent=False, note={**note, "status": None, "attempts": 0, "at": stamp()})
            )

    def prune(self) -> int:
        """Remove files that are done with and old, but nothing that a reader or the hook has not read; how many."""
        settings, at = self.settings, time.time()
        removed = prune.prune(self.folder, keep_sent=settings.keep_sent, keep_failed=settings.keep_failed, now=at)
        read = slowest(self.client_dir.path, self.folder.path)
        read_up_to = self.state.seq if read is None else read
        removed += prune.prune_inbox(self.folder, settings.keep_inbox, read_up_to=read_up_to, now=at)
        self._count_failed()
        return removed

    def _count_failed(self) -> None:
        self.failed = sum(1 for name in os.listdir(self.folder.failed) if not name.endswith(ERROR))

    # ---- the end

    def close(self) -> None:
        """Write down what was not worth a write of its own, and say that nobody is at work here."""
        try:
            states.save(self.folder, self.state)
        except OSError as fault:
            self.log.warning("state.not_saved", error=str(fault))
        self.view.close(None if self.standing.ended else Status.STOPPED.value)
