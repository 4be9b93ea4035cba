"""One session while the daemon runs: what its loops share."""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from nexusd import serving
from nexusd.bridge import ending, entry, handover
from nexusd.bridge.journal import Journal
from nexusd.bridge.lifetime import Lifetime
from nexusd.bridge.link import now
from nexusd.bridge.listener import Listener
from nexusd.bridge.own import Own
from nexusd.bridge.sift import Known
from nexusd.bridge.standing import Standing
from nexusd.bridge.states import Status
from nexusd.bridge.view import View
from nexusd.spool import line
from nexusd.spool import state as states
from nexusd.spool.layout import ERROR, SessionFolder
from nexusd.spool.outbox import Outbox
from nexusd.spool.sending import Sending

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from collections.abc import Set as AbstractSet

    import structlog

    from nexusd.bridge.link import Link
    from nexusd.clientdir import ClientDir
    from nexusd.config.records import SessionConfig, Settings
    from nexusd.secrets import Secrets
    from nexusd.wire.budget import Turn

KEY_AGAIN = 300.0  # seconds until a session key that the server did not take is shown again
WORTH_SAYING = 5.0  # seconds of a pause of the whole server
SETTLED = 10**9  # nanoseconds after which a folder's time is no other change's too


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
        self.meant_agent = config.agent  # who we are to be in it, where its own table says so
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
        self.unsaved: dict[str, str | None] | None = None  # of the local record: what could not be written yet
        self.keyed_at: float | None = None  # when the key was exchanged in this life, by link.now()
        self.out_since: float | None = None  # when we found that we are no member, by link.now()
        self.coming_back = asyncio.Lock()  # held by the lane that sees to our membership
        self.polled = False  # in this life: a first POST waits for a fresh cursor
        self.opened_at = now()  # this life's beginning
        self._quiet_from = self.opened_at  # `state.quiet` holds what was before
        self.memory: AbstractSet[int] | None = None  # traces of what the server shows up to our cursor
        self.own = Own(self)
        self.lifetime = Lifetime(self.journal, link)
        self.asked_again_at = self.opened_at  # when an expired session is asked for, by link.now()
        self.asked_in_this_life = False
        self.ending = False  # its end is being written down
        self.members: list[dict[str, Any]] | None = None
        self.unsent = 0
        self.failed = 0
        self._failed_changed_at = 0  # nanoseconds, of the folder; when its files were counted
        self.waiting: set[Turn] = set()  # lanes that wait for the budget, which may be long
        self.counts: Counter[str] = Counter()  # for the metrics; since the daemon's start
        self.listener = Listener()
        self._key_refused_at: float | None = None
        self.view = View(self)
        self.touch = self.view.touch
        self.standing = Standing(secrets, self.log, on_change=self.touch)

    # ---- life

    def open(self, known_seq: Callable[[], int] = lambda: 0) -> None:
        """Make the folders, read the state, mend the inbox, read the local record. OSError, UserError.

        `known_seq`: how many lines were written before, asked where the folder says nothing.
        """
        recorded = entry.as_meant(self, self.client_dir.agent(self.id))
        self.folder.make()
        self.folder.check()
        changed = self.journal.open(self.digest, known_seq)
        if changed:
            handover.take_over(self)
        self.state.name, self.state.digest, self.state.server = self.name, self.digest, self.link.server
        self.state.pointed_at = serving.pointed_at(self.client_dir, self.id)
        if changed:
            states.save(self.folder, self.state)
        self.agent = recorded or ""
        self.key = self.client_dir.key(self.id)
        self.joined = bool(self.agent)
        self.secrets.add(self.id, self.key)
        if self.state.ended == "left" and self.joined:
            self.state.ended = ""  # the user has entered it again since
            ending.forget(self.state)
        if self.state.ended:
            self.standing.status = Status(self.state.ended)
        self.lifetime.recall()
        self.lifetime.heed_hand(self.client_dir, self.id)
        self.own.recall()
        self.count_failed()

    def is_now(self, agent: str, key: str | None) -> None:
        """We are this agent, and have this key, from now on."""
        self.agent, self.key, self.joined = agent, key, True
        self._key_refused_at = self.out_since = None
        self.keyed_at = now()
        self.secrets.add(key)
        ending.forget(self.state)

    @property
    def sending_key(self) -> str | None:
        """The session key to send with; None where there is none, or the server did not take it a while ago."""
        refused = self._key_refused_at
        return None if refused is not None and now() - refused < KEY_AGAIN else self.key

    def refuse_key(self) -> None:
        """The server does not take our key: go on without it, and show it again later."""
        self._key_refused_at = now()

    @property
    def over(self) -> bool:
        """Whether nothing will ever be sent here again, and files that wait go to `failed/`."""
        if self.standing.status is not Status.EXPIRED:
            return self.standing.status is Status.LEFT
        return self.asked_in_this_life and self.state.asked_again >= ending.ASKED

    @property
    def shown(self) -> tuple[Status, str | None]:
        """Its state and what is wrong with it, also where it only waits because its server limits all sessions."""
        status, pause = self.standing.status, self.link.budget.paused_for
        if status is Status.ACTIVE and pause > WORTH_SAYING:
            words = "takes no requests from any session here for now (429); it is asked again in"
            return Status.BACKOFF, f"{self.link.server} {words} {pause:.0f} s"
        return status, self.standing.last_error

    @property
    def state(self) -> states.State:
        """What is remembered of it."""
        return self.journal.state

    def stirred(self) -> None:
        """A message went either way."""
        self.state.last_message_at = time.time()
        self.state.quiet, self._quiet_from = 0.0, now()
        if "lapsing" in self.state.noticed:
            self.state.noticed.remove("lapsing")
        self.listener.activity()

    def quiet_for(self) -> float:
        """Seconds without a message either way, by no clock that can be set; of time in which a daemon ran."""
        self.state.quiet += now() - self._quiet_from
        self._quiet_from = now()
        return self.state.quiet

    def server_restarted(self) -> None:
        """The server lost its memory: read again what it has, before anything else is sent."""
        self.log.warning("server.restarted")
        self.state.reread = True
        self.listener.server_restarted()

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
            keyed=self.sending_key is not None,
            sent=self.own.ids,
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
            self.listener.committed()
        self.touch()

    async def notice(self, what: str, identity: str, text: str, **more: str | int | None) -> None:
        """Tell the agent; at least once, always with the same identity."""
        self.log.info("inbox.notice", notice=what, text=text, **more)
        await self.commit([line.notice(what, identity, self.secrets.removed(text), **more)])

    async def note_once(self, mark: str, what: str, text: str) -> None:
        """A notice that is not repeated while its cause lasts: `mark` is remembered."""
        if mark in self.state.noticed:
            return

        def change(state: states.State) -> None:
            state.noticed.append(mark)

        said = line.notice(what, f"{what}-{mark}-{int(time.time())}", self.secrets.removed(text))
        await self.commit([said], change)

    def count_failed(self) -> None:
        """Count the files in `failed/`, if there were changes: people take them away, or back. OSError."""
        changed_at = os.stat(self.folder.failed).st_mtime_ns
        if changed_at != self._failed_changed_at:
            self.failed = sum(1 for name in os.listdir(self.folder.failed) if not name.endswith(ERROR))
            if abs(time.time_ns() - changed_at) > SETTLED:  # else another change may bear the same time
                self._failed_changed_at = changed_at

    # ---- the end

    def close(self) -> None:
        """Write down what was not worth a write of its own, and say that nobody is at work here."""
        self.quiet_for()
        try:
            states.save(self.folder, self.state)
        except OSError as fault:
            self.log.warning("state.not_saved", error=str(fault))
        self.view.close(None if self.standing.ended else Status.STOPPED.value)
