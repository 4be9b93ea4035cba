"""One session while the daemon runs: what its loops share, and the one way in which anything becomes received."""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections import Counter
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from nexusd.bridge.link import now
from nexusd.bridge.sift import Known
from nexusd.bridge.states import ENDED, Event, Status, after
from nexusd.spool import atomic, line, prune
from nexusd.spool import state as states
from nexusd.spool.bookmark import slowest
from nexusd.spool.inbox import Inbox
from nexusd.spool.layout import ERROR, SessionFolder
from nexusd.spool.outbox import Outbox
from nexusd.spool.sending import Outcome, Sending
from nexusd.wire.backoff import Backoff
from nexusd.wire.budget import Turn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from collections.abc import Set as AbstractSet

    import structlog

    from nexusd.bridge.link import Link
    from nexusd.clientdir import ClientDir
    from nexusd.config.records import SessionConfig, Settings
    from nexusd.secrets import Secrets
    from nexusd.wire.records import Lease

VIEW_AGE = 50.0  # seconds; session.json is at most 60 s old
VIEW_DELAY = 0.2  # seconds in which changes are gathered into one session.json


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
        self.inbox = Inbox(self.folder, rotate_at=config.settings.inbox_max_bytes)
        self.outbox = Outbox(self.folder.outbox)
        self.sending = Sending(self.folder)
        self.backoffs = {lane: Backoff() for lane in Turn}
        self.troubles: dict[Turn, str] = {}  # what a lane's last request failed with
        self._held_until: dict[Turn, float] = {}
        self.digest = states.digest_of(link.server, config.id)
        self.state = states.State(digest=self.digest)
        self.status = Status.JOINING
        self.agent = ""
        self.key: str | None = None
        self.joined = False
        self.polled = False  # in this life: a first POST waits for a fresh cursor
        self.memory: AbstractSet[int] | None = None  # traces of what the server shows up to our cursor
        self.gone_since: float | None = None
        self.lease_until: float | None = None  # by link.now()
        self.last_error: str | None = None
        self.members: list[dict[str, Any]] | None = None
        self.unsent = 0
        self.failed = 0
        self.waiting: set[Turn] = set()  # lanes that wait for the budget, which may be long
        self.counts: Counter[str] = Counter()  # for the metrics; since the daemon's start
        self.on_change: Callable[[], None] = lambda: None  # what the supervisor tells of all sessions has changed
        self.on_commit: Callable[[], None] = lambda: None
        self.on_restart: Callable[[], None] = lambda: None  # the poller has to read anew
        self.on_recovery: Callable[[], None] = lambda: None  # a lane that had failed succeeded: others may try again
        self.on_active: Callable[[], None] = lambda: None  # a message either way: poll sooner, renew again
        self._lock = asyncio.Lock()
        self._faulty = False
        self._view: asyncio.TimerHandle | None = None
        self._told: tuple[Status, int, int] | None = None

    # ---- life

    def open(self) -> None:
        """Make the folders, read the state, mend the inbox, read the local record. OSError, UserError."""
        self.folder.make()
        loaded = states.load(self.folder)
        changed = loaded is not None and loaded.digest not in ("", self.digest)
        self.state = (
            states.State(seq=loaded.seq, digest=loaded.digest) if loaded and changed else loaded or states.State()
        )
        self._recover()
        if changed:
            self.state.cursor = None
            self._give_back()
        self.state.digest = self.digest
        self.agent = self.client_dir.agent(self.id) or ""
        self.key = self.client_dir.key(self.id)
        self.joined = bool(self.agent)
        self.secrets.add(self.id, self.key)
        if self.state.ended == Status.LEFT and self.joined:
            self.state.ended = ""  # a hand has entered it again
        if self.state.ended:
            self.status = Status(self.state.ended)
        if self.state.expires_at is not None:
            self.lease_until = now() + self.state.expires_at - time.time()
        self._count_failed()

    @property
    def ended(self) -> bool:
        """Whether no more requests are made."""
        return self.status in ENDED

    def happened(self, event: Event, error: str | None = None) -> None:
        """Move to the next state; said in the log only when it changes something."""
        self._move((event,), error)

    def answered(self, lane: Turn) -> None:
        """A lane's request succeeded. What another one still fails with stays the session's trouble."""
        failures = self.backoffs[lane].failures
        self.backoffs[lane].succeeded()
        self.gone_since = None
        self.troubles.pop(lane, None)
        if self.troubles:
            self._move((Event.ANSWERED, Event.FAILED), next(iter(self.troubles.values())))
        else:
            self._move((Event.ANSWERED,), None, after_failures=failures)
        if failures:
            self._held_until.clear()
            self.on_recovery()

    def failing(self, lane: Turn, error: str, event: Event = Event.FAILED, seconds: float | None = None) -> float:
        """A lane's request failed in a way that may pass; it holds off for `seconds`, by default its backoff."""
        self.troubles[lane] = error
        self._move((event,), error)
        delay = self.backoffs[lane].failed()
        delay = delay if seconds is None else seconds
        self.hold(lane, delay)
        return delay

    def hold(self, lane: Turn, seconds: float) -> None:
        """Let a lane hold off for so long, whatever wakes it."""
        self._held_until[lane] = now() + seconds

    def held_for(self, lane: Turn) -> float:
        """Seconds for which a lane still holds off."""
        return max(0.0, self._held_until.get(lane, 0.0) - now())

    def _move(self, events: tuple[Event, ...], error: str | None, *, after_failures: int = 0) -> None:
        before = self.status
        for event in events:
            self.status = after(self.status, event)
        error = self.secrets.removed(error) if error else None
        if before is self.status and error == self.last_error:
            return
        if error or before is not self.status:
            said = {"error": error} if error else {"after_failures": after_failures} if after_failures else {}
            log = self.log.warning if error else self.log.info
            log(f"session.{self.status.value}", **said)
        self.last_error = error
        self.touch()

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
        async with self._lock:
            await asyncio.to_thread(self._commit, entries, change)
        if entries:
            self.on_commit()
        self.touch()

    async def mend(self) -> None:
        """After a failed commit see what got to the disk all the same; before anything is judged as new. OSError."""
        if self._faulty:
            async with self._lock:
                await asyncio.to_thread(self._recover)

    async def notice(self, what: str, identity: str, text: str, **more: str | int | None) -> None:
        """Tell the agent; at least once, always with the same identity."""
        self.log.info("inbox.notice", notice=what, text=text, **more)
        await self.commit([line.notice(what, identity, self.secrets.removed(text), **more)])

    async def end(self, event: Event, text: str) -> None:
        """The session is over for us: say so once in the inbox, remember it, and ask nothing more."""
        ended = after(self.status, event)
        if self.ended:
            return
        if ended is not Status.STOPPED:  # that one waits for a person and is tried again at the next start

            def change(state: states.State) -> None:
                state.ended = ended.value

            said = line.notice(ended.value, f"{ended.value}-{self.digest[:12]}", self.secrets.removed(text))
            await self.commit([said], change)
        self.happened(event, text)
        self.on_active()

    def _commit(self, entries: list[line.Entry], change: Callable[[states.State], None]) -> None:
        if self._faulty:
            self._recover()
        received_at = stamp()
        seq = self.state.seq
        lines = [
            line.render(entry, seq=seq + n, session=self.name, received_at=received_at)
            for n, entry in enumerate(entries, 1)
        ]
        try:
            if lines:
                self.inbox.append(lines, received_at)
                self.state.seq = seq + len(lines)
            change(self.state)
            states.save(self.folder, self.state)
        except Exception:
            self._faulty = True
            raise

    def _give_back(self) -> None:
        """Another session had this name before us: what was claimed for it is not ours to send."""
        for claimed in self.sending.pending():
            text = "it was claimed for another session of this name"
            note = {"error": "session_changed", "message": text, "remedy": "drop it again if it is still meant"}
            said = line.notice("bounced", f"bounced-{claimed.ulid}", text, file=claimed.name, error="session_changed")
            self._commit([said], lambda _: None)
            self.sending.finish(
                claimed, Outcome(sent=False, note={**note, "status": None, "attempts": 0, "at": stamp()})
            )

    def _recover(self) -> None:
        """The inbox outranks the state: it was written first."""
        tail = self.inbox.recover(self.state.seq, stamp())
        if tail.seq > self.state.seq:
            self.state.seq = tail.seq
            if tail.cursor is not None:
                self.state.cursor, self.state.last = tail.cursor, tail.last
        self._faulty = False

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

    # ---- what agents may read

    def touch(self) -> None:
        """Something of session.json changed: write it soon."""
        loop = asyncio.get_running_loop()
        if self._view is None or self._view.when() > loop.time() + VIEW_DELAY:
            if self._view is not None:
                self._view.cancel()
            self._view = loop.call_later(VIEW_DELAY, self.publish)

    def publish(self, status: str | None = None) -> None:
        """Write session.json now, and again before it is 60 s old. A view: it may fail, and is made anew."""
        view = {
            "session": self.name,
            "state": status or self.status.value,
            "agentId": self.agent or None,
            "server": self.link.server,
            "expiresAt": stamp(time.time() + self.lease_until - now()) if self.lease_until is not None else None,
            "ttl": self.state.ttl,
            "members": self.members,
            "unsent": self.unsent,
            "failed": self.failed,
            "lastPollAt": stamp(self.state.last_poll_at) if self.state.last_poll_at else None,
            "lastMessageAt": stamp(self.state.last_message_at) if self.state.last_message_at else None,
            "lastError": self.last_error,
        }
        if self._told != (told := (self.status, self.unsent, self.failed)):
            self._told = told
            self.on_change()
        try:
            atomic.replace(self.folder.view, msgspec.json.encode(view) + b"\n", durable=False)
        except OSError as fault:
            self.log.debug("view.failed", error=str(fault))
        if self._view is not None:
            self._view.cancel()
        self._view = None if status else asyncio.get_running_loop().call_later(VIEW_AGE, self.publish)

    def close(self) -> None:
        """Write down what was not worth a write of its own, and say that nobody is at work here."""
        try:
            states.save(self.folder, self.state)
        except OSError as fault:
            self.log.warning("state.not_saved", error=str(fault))
        self.publish(None if self.ended else Status.STOPPED.value)
        if self._view is not None:
            self._view.cancel()


def stamp(at: float | None = None) -> str:
    """A time (Unix seconds, default now) as the protocol writes it."""
    moment = datetime.now(UTC) if at is None else datetime.fromtimestamp(at, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
