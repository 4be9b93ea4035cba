"""The protocol client: one method for each endpoint."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self, TypeVar

from nexusd.wire import batch, calls, records
from nexusd.wire.address import server_url
from nexusd.wire.fate import refused, unreadable
from nexusd.wire.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from nexusd.wire.fate import Answer

T = TypeVar("T")

SMALL = 1 << 20  # bytes; no answer but a poll's is longer
LARGE = 32 << 20  # bytes of a poll's answer that are read; the rest comes with the next poll


class NexusClient:
    """A NexusMessaging server, asked asynchronously.

    Every method raises RequestError where the call did not succeed; its `fate` says whether it may be repeated. No
    method repeats anything but a GET.

    >>> async def greet(server):
    ...     async with NexusClient(server) as client:
    ...         made = await client.create(ttl=3600, creator="alice")
    ...         await client.send(made.session_id, "alice", made.session_key, text="hello")
    ...         batch = await client.poll(made.session_id, "alice")
    ...         return [(message.cursor, message.agent_id, message.text) for message in batch.messages]
    >>> import asyncio
    >>> asyncio.run(greet(SERVER))
    [(1, 'alice', 'hello')]
    """

    def __init__(
        self,
        server: str,
        *,
        allow_insecure: bool = False,
        transport: Transport | None = None,
        on_request: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """UserError where the URL is no server's, or plain http beyond loopback without `allow_insecure`.

        `on_request` is called before each request (for a rate budget); `clock` gives seconds and never goes back.
        """
        self.server = server_url(server, allow_insecure=allow_insecure)
        self._transport = transport or Transport(self.server)
        self._on_request = on_request
        self._clock = clock
        self._server_ahead: float | None = None

    async def __aenter__(self) -> Self:
        """Use as a context to have the connections closed."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

    @property
    def connections(self) -> int:
        """How many kept connections were made so far."""
        return self._transport.opened

    @property
    def server_time(self) -> float | None:
        """The server's clock now (Unix seconds) by the Date of its last answer; None before one said it."""
        return None if self._server_ahead is None else self._clock() + self._server_ahead

    def remaining(self, lease: records.Lease) -> float | None:
        """Seconds a lease still has by the server's own clock, or its whole ttl where it names no end, or None."""
        if lease.expires_at is None:
            return lease.ttl
        now = self.server_time
        return lease.expires_at - (time.time() if now is None else now)

    async def create(
        self,
        *,
        ttl: int | None = None,
        max_agents: int | None = None,
        greeting: str | None = None,
        creator: str | None = None,
    ) -> records.Session:
        """Create a session (`ttl` in seconds); with a `creator` this agent is in it at once and gets a key."""
        call = calls.create(ttl=ttl, max_agents=max_agents, greeting=greeting, creator=creator)
        return await self._record(call, records.Session.of)

    async def session(self, session: str, *, fresh: bool = False) -> records.Session:
        """What the server says of a session. `fresh`: on a connection of its own, maybe to another of its nodes."""
        return await self._record(calls.session(session), lambda raw: records.Session.of(raw, session), fresh=fresh)

    async def join(self, session: str, agent: str) -> records.Joined:
        """Enter a session."""
        return await self._record(calls.join(session, agent), records.Joined.of)

    async def leave(self, session: str, agent: str, key: str | None) -> records.Raw:
        """Leave a session."""
        return await self._record(calls.leave(session, agent, key), lambda raw: raw)

    async def send(
        self, session: str, agent: str, key: str | None, *, text: str | None = None, payload: Any = None
    ) -> records.Sent:
        """Send a message. After Fate.MAYBE_SENT, look for it in a poll before sending it again."""
        return await self._record(calls.send(session, agent, key, text=text, payload=payload), records.Sent.of)

    async def poll(
        self, session: str, agent: str, *, after: int | None = None, members: bool = False, wait: int = 0
    ) -> batch.Batch:
        """Messages after a cursor, or from the very first. `wait` (seconds) only where the server offers long polls."""
        cursor = None if after is None else str(after)
        call = calls.poll(session, agent, after=cursor, members=members, wait=wait)
        return batch.read(call, await self._ask(call, LARGE, wait))

    async def renew(self, session: str, agent: str, *, ttl: int | None = None) -> records.Session:
        """Reset the session's time to live (`ttl` in seconds)."""
        call = calls.renew(session, agent, ttl=ttl)
        return await self._record(call, lambda raw: records.Session.of(raw, session))

    async def pair(self, session: str) -> records.PairingCode:
        """Ask for a pairing code."""
        return await self._record(calls.pair(session), records.PairingCode.of)

    async def claim(self, code: str, agent: str) -> records.Joined:
        """Use up a pairing code: joins its session."""
        return await self._record(calls.claim(code, agent), records.Joined.of)

    async def pair_status(self, code: str) -> records.Raw:
        """Whether a pairing code is pending, claimed or expired."""
        return await self._record(calls.pair_status(code), lambda raw: raw)

    async def health(self) -> records.Health:
        """The server's health and capabilities."""
        return await self._record(calls.health(), records.Health.of)

    async def stats(self) -> records.Raw:
        """The server's public counts."""
        return await self._record(calls.stats(), lambda raw: raw)

    async def _record(self, call: calls.Call, of: Callable[[records.Raw], T], *, fresh: bool = False) -> T:
        answer = await self._ask(call, SMALL, fresh=fresh)
        raw = records.json_object(call, answer)
        try:
            return of(raw)
        except KeyError as missing:
            raise unreadable(call, answer, f"without {missing}") from None
        except RecursionError:
            raise unreadable(call, answer, "nested too deeply") from None

    async def _ask(self, call: calls.Call, limit: int, wait: float = 0.0, *, fresh: bool = False) -> Answer:
        self._on_request()
        answer = await self._transport.carry(call, limit=limit, wait=wait, fresh=fresh)
        if (now := answer.server_time) is not None:
            self._server_ahead = now - self._clock()
        if not 200 <= answer.status < 300:
            raise refused(call, answer)
        return answer
