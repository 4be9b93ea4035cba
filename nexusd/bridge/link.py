"""What all sessions of one server share: the client, the budget, what the server can do."""

from __future__ import annotations

import asyncio
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
LONG_POLL = 50  # seconds; at rest that is fewer requests than a poll each 30 s
LONG_POLLS = 64  # at once to one server; each holds a connection, and httpx slows down with their square


def now() -> float:
    """Seconds that go on while the machine sleeps and never go back."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Link:
    """One server."""

    def __init__(self, server: str, config: Config) -> None:
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
        self._health: Health | None = None
        self._health_at = -CAPS_LIFETIME
        self._asking = asyncio.Lock()
        self._held = 0

    @property
    def server(self) -> str:
        """Its URL."""
        return self.client.server

    def wait_for(self, fault: RequestError) -> float:
        """A 429 or its like: pause all of this server's sessions; the seconds."""
        seconds = WINDOW if fault.retry_after is None else max(SHORTEST, fault.retry_after)
        self.budget.pause(seconds)
        return seconds

    async def takes_json(self) -> bool:
        """Whether messages may have a `json` part. RequestError."""
        health = await self._known_health()
        return health is not None and health.takes_json

    async def long_poll(self) -> int:
        """Seconds that a poll may ask to be held back; 0 where none is offered, or enough are held. RequestError."""
        if self._held >= LONG_POLLS:
            return 0
        health = await self._known_health()
        return LONG_POLL if health is not None and health.long_poll else 0

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Counts a poll that the server holds back."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1

    async def _known_health(self) -> Health | None:
        """What the server says of itself, asked again every five minutes; None for an old one that has no /health."""
        if now() - self._health_at > CAPS_LIFETIME:
            async with self._asking:  # once for all its sessions
                if now() - self._health_at > CAPS_LIFETIME:
                    try:
                        self._health = await self.client.health()
                    except RequestError as fault:
                        if fault.status is None or fault.fate is Fate.WAIT:
                            raise
                        self._health = None
                    self._health_at = now()
        return self._health
