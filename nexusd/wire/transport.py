"""How calls are carried to one server: how many at once, how long, on which connection, and what is tried twice."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING

import certifi

from nexusd.errors import RequestError
from nexusd.wire.fate import unanswered
from nexusd.wire.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from nexusd.wire.calls import Call
    from nexusd.wire.fast import FastPool
    from nexusd.wire.fate import Answer

DEADLINE = 30.0  # seconds for a whole request; the libraries' own time-outs are for each read
IN_FLIGHT = 8  # requests at once: httpcore slows down with the square of its connections


class _Pools:
    """Two pools that live and are thrown away together.

    A message POST goes on a fresh connection: on a kept one, a server that closes it in that moment leaves in the dark
    whether the message got through.
    """

    def __init__(self, keeping: Pool | FastPool, fresh: Pool) -> None:
        self.keeping, self.fresh = keeping, fresh
        self.users = 0
        self.retired = False

    async def close(self) -> None:
        with contextlib.suppress(Exception):
            await self.keeping.close()
            await self.fresh.close()


class Transport:
    """Carries calls to one server and brings back whole answers.

    No redirects, no cookies, no proxy but the one given, nothing compressed, never more than `limit` bytes. `fast`:
    polls go through aiohttp. `handler` stands in for the network in tests.
    """

    def __init__(
        self,
        server: str,
        *,
        proxy: str | None = None,
        ca_file: str | None = None,
        deadline: float = DEADLINE,
        fast: bool = False,
        handler: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.server = server
        self._deadline = deadline
        self._repeats = not fast  # aiohttp does so itself
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        secure = server.startswith("https:")
        # One TLS context for all connections: each costs most of a megabyte.
        context = ssl.create_default_context(cafile=ca_file or certifi.where()) if secure else None

        def pool(keep: int) -> Pool:
            return Pool(server, keep=keep, context=context, proxy=proxy, handler=handler)

        def make() -> _Pools:
            if not fast:
                return _Pools(pool(IN_FLIGHT), pool(0))
            from nexusd.wire.fast import FastPool  # noqa: PLC0415 - an extra

            return _Pools(FastPool(server, context=context, proxy=proxy), pool(0))

        self._make: Callable[[], _Pools] = make
        self._pools = make()
        self._opened_before = 0  # connections of pools that were thrown away

    @property
    def opened(self) -> int:
        """How many kept connections were made so far: one more than before may mean that the server restarted."""
        return self._opened_before + self._pools.keeping.opened

    async def carry(self, call: Call, *, limit: int, wait: float = 0.0, fresh: bool = False) -> Answer:
        """Send a call and read its answer, at most `limit` bytes of it.

        `wait`: seconds the server was asked to hold the answer back. `fresh`: on a connection of its own, which a
        balancer may lead to another of its servers. A GET is repeated once at once: a kept connection may have been
        closed under it. Raises RequestError where no answer came.
        """
        async with self._slots if not wait else contextlib.nullcontext():
            try:
                return await self._once(call, limit, wait, fresh=fresh)
            except RequestError as fault:
                if not (self._repeats and call.idempotent and fault.code == "answer_lost"):
                    raise
            return await self._once(call, limit, wait, fresh=fresh)

    async def close(self) -> None:
        """Close all connections."""
        await self._pools.close()

    async def _once(self, call: Call, limit: int, wait: float, *, fresh: bool) -> Answer:
        pools, patience = self._pools, self._deadline + wait
        pool = pools.keeping if call.idempotent and not fresh else pools.fresh
        pools.users += 1
        try:
            async with asyncio.timeout(patience):
                return await pool.exchange(call, limit=limit)
        except TimeoutError:
            self._retire(pools)
            raise unanswered(call, "timeout", f"no whole answer within {patience:.0f} s", written=True) from None
        except asyncio.CancelledError:
            self._retire(pools)
            raise
        finally:
            pools.users -= 1
            if pools.retired and not pools.users:
                await pools.close()

    def _retire(self, pools: _Pools) -> None:
        """After a cancellation httpcore may have lost a pool slot for good: go on with new connections."""
        pools.retired = True
        if pools is self._pools:
            self._opened_before += pools.keeping.opened
            self._pools = self._make()
