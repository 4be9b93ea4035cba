"""What all sessions of one server share: the client, the budget, what the server can do."""

from __future__ import annotations

import asyncio
import contextvars
import time
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from nexusd.errors import Fate, RequestError
from nexusd.wire.budget import Budget
from nexusd.wire.client import NexusClient
from nexusd.wire.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nexusd.config.records import Config
    from nexusd.wire.records import Health

WINDOW = 60.0  # seconds to pause after a 429 that names none
SHORTEST = 1.0  # second; "Retry-After: 0" from a server that means it would be a loop without a pause
CAPS_LIFETIME = 300.0  # seconds
HINTED = 60.0  # seconds between questions to /health that a new connection gives reason for
PATIENCE = 5.0  # seconds that somebody waits for /health, who has nothing else to go by
REBORN = 10.0  # seconds by which a server's birth, worked out from its uptime, must move to be another one
LONG_POLL = 50  # seconds; at rest that is fewer requests than a poll each 30 s
LONG_POLLS = 64  # at once to one server; each holds a connection, and httpx slows down with their square


def now() -> float:
    """Seconds that go on while the machine sleeps and never go back."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Link:
    """One server. `restarts` counts how often its uptime fell, as far as we have seen."""

    def __init__(self, server: str, config: Config) -> None:
        """OSError where `ca_file` cannot be read; UserError for a URL that may not be asked."""
        fast = config.transport != "httpx" and find_spec("aiohttp") is not None
        transport = Transport(server, proxy=config.proxy, ca_file=config.ca_file, fast=fast)
        self.budget = Budget(config.requests_per_minute)
        self.client = NexusClient(
            server,
            allow_insecure=config.allow_insecure,
            transport=transport,
            on_request=self.budget.debit,
            clock=now,
        )
        self.restarts = 0
        self._health: Health | None = None
        self._health_at = -CAPS_LIFETIME
        self._asking: asyncio.Task[None] | None = None
        self._born: float | None = None  # when the server was started, by link.now()
        self._connections = 0  # when /health last answered
        self._held = 0
        self._limited: dict[str, float] = {}  # sessions that got a 429, and until when it counts

    @property
    def server(self) -> str:
        """Its URL."""
        return self.client.server

    def limited(self, session: str, fault: RequestError, *, everybody: bool) -> float:
        """A 429 or its like for one session; the seconds for which it holds.

        All of this server's sessions pause where it concerns them all: `everybody` (a poll or a renewal got it, so it
        is not about one session's messages), or where a second session gets one while the first's still holds.
        """
        seconds = WINDOW if fault.retry_after is None else max(SHORTEST, fault.retry_after)
        self._limited = {name: until for name, until in self._limited.items() if until > now()}
        alone = not (self._limited.keys() - {session})
        self._limited[session] = now() + seconds
        if fault.status == 429 and (everybody or not alone):
            self.budget.pause(seconds)
        return seconds

    async def takes_json(self) -> bool:
        """Whether messages may have a `json` part; where the server does not say in time, they may not."""
        await self.learned()
        return self._health is not None and self._health.takes_json

    async def learned(self) -> None:
        """Where nothing is known of the server yet: wait for its first answer, but not for long."""
        self._ask_if_due()
        if self._health is None:
            await self._answered()

    @property
    def unlearned(self) -> bool:
        """Whether nothing is known of the server yet, and its first answer may still come."""
        return self._health is None and self._asking is not None

    def long_poll(self) -> int:
        """Seconds that a poll may ask to be held back; 0 where none is known to be offered, or enough are held."""
        self._ask_if_due()
        if self._held >= LONG_POLLS or self._health is None or not self._health.long_poll:
            return 0
        return LONG_POLL

    async def look_for_a_restart(self) -> None:
        """A new connection is a hint that the server was restarted: ask it, and wait a while."""
        self._ask_if_due()
        await self._answered()

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Counts a poll that the server holds back."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1

    async def close(self) -> None:
        """Ask nothing more."""
        if self._asking is not None:
            self._asking.cancel()
        await self.client.close()

    # ---- what the server says of itself: a hint, and nothing waits for it that can go on without

    def _ask_if_due(self) -> None:
        """Ask /health every five minutes, whatever it answered; after a new connection as soon as a minute has passed.

        What a connection is a hint of holds until it was asked for, whatever is done on it meanwhile.
        """
        hinted = self.client.connections != self._connections
        if now() - self._health_at > (HINTED if hinted else CAPS_LIFETIME):
            self._ask()

    def _ask(self) -> None:
        if self._asking is None:
            self._health_at = now()
            # In a context of its own: the request is no part of the turn in which it was thought of.
            loop = asyncio.get_running_loop()
            self._asking = loop.create_task(self._learn(), context=contextvars.Context())

    async def _answered(self) -> None:
        left = self._health_at + PATIENCE - now()
        if self._asking is not None and left > 0:
            await asyncio.wait({self._asking}, timeout=left)

    async def _learn(self) -> None:
        try:
            health = await self.client.health()
        except RequestError as fault:  # what was known stays
            if fault.fate is Fate.NOT_SENT and fault.status is None:  # it was not even reached: it may be back soon
                self._health_at = now() - CAPS_LIFETIME + HINTED
            else:
                self._connections = self.client.connections
            return
        finally:
            self._asking = None
        self._health, self._connections = health, self.client.connections  # its own too
        if health.uptime is not None:
            born = now() - health.uptime
            if self._born is not None and born > self._born + REBORN:
                self.restarts += 1
            self._born = born
