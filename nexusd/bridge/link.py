"""What all sessions of one server share: the client, the budget, what the server can do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from nexusd.errors import Fate, RequestError
from nexusd.wire.budget import Budget
from nexusd.wire.client import NexusClient
from nexusd.wire.transport import Transport

if TYPE_CHECKING:
    from nexusd.config.records import Config
    from nexusd.wire.records import Health

WINDOW = 60.0  # seconds to pause after a 429 that names none
CAPS_LIFETIME = 300.0  # seconds


def now() -> float:
    """Seconds that go on while the machine sleeps and never go back."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Link:
    """One server."""

    def __init__(self, server: str, config: Config) -> None:
        transport = Transport(server, proxy=config.proxy, ca_file=config.ca_file)
        self.budget = Budget(config.requests_per_minute)
        self.client = NexusClient(
            server,
            allow_insecure=config.allow_insecure,
            transport=transport,
            on_request=self.budget.debit,
            clock=now,
        )
        self._health: Health | None = None
        self._health_at = 0.0

    @property
    def server(self) -> str:
        """Its URL."""
        return self.client.server

    def wait_for(self, fault: RequestError) -> float:
        """A 429 or its like: pause all of this server's sessions; the seconds."""
        seconds = fault.retry_after if fault.retry_after is not None else WINDOW
        self.budget.pause(seconds)
        return seconds

    async def takes_json(self) -> bool:
        """Whether messages may have a `json` part; asked for again every five minutes. RequestError."""
        if self._health is None or now() - self._health_at > CAPS_LIFETIME:
            try:
                self._health = await self.client.health()
            except RequestError as fault:
                if fault.fate is not Fate.REFUSED:
                    raise
                return False  # a server without /health is an old one
            self._health_at = now()
        return self._health.takes_json
