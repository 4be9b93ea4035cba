"""One server's connections: the only module that knows httpx."""

from __future__ import annotations

import asyncio
import contextlib
import http.cookiejar
import logging
import ssl
from typing import TYPE_CHECKING

import certifi
import httpx

from nexusd import __version__
from nexusd.errors import RequestError
from nexusd.wire.fate import Answer, unanswered

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexusd.wire.calls import Call

DEADLINE = 30.0  # seconds for a whole request; httpx's own time-outs are for each read
CONNECT = 10.0  # seconds to connect
IN_FLIGHT = 8  # requests at once: httpcore slows down with the square of its connections
KEEPALIVE = 90.0  # seconds; polls at rest are 30 s apart

# httpx logs whole URLs at INFO, httpcore headers at DEBUG: both hold secrets.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)

_NOT_WRITTEN = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
    httpx.InvalidURL,
)


class _Clients:
    """Two httpx clients that live and are thrown away together.

    A message POST goes on a fresh connection: on a kept one, a server that closes it in that moment leaves in the dark
    whether the message got through.
    """

    def __init__(self, make: Callable[[int], httpx.AsyncClient]) -> None:
        self.keeping, self.fresh = make(IN_FLIGHT), make(0)
        self.users = 0
        self.retired = False

    async def close(self) -> None:
        with contextlib.suppress(Exception):
            await self.keeping.aclose()
            await self.fresh.aclose()


class Transport:
    """Carries calls to one server and brings back whole answers.

    No redirects, no cookies, no proxy but the one given, nothing compressed, never more than `limit` bytes. `handler`
    stands in for the network in tests.
    """

    def __init__(
        self,
        server: str,
        *,
        proxy: str | None = None,
        ca_file: str | None = None,
        deadline: float = DEADLINE,
        handler: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.server = server
        self._deadline = deadline
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        secure = server.startswith("https:")
        # One TLS context for all connections: each costs most of a megabyte.
        context = ssl.create_default_context(cafile=ca_file or certifi.where()) if secure else False
        cookies = http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(allowed_domains=()))
        headers = {"Accept-Encoding": "identity", "User-Agent": f"nexusd/{__version__}"}

        def make(kept: int) -> httpx.AsyncClient:
            return httpx.AsyncClient(
                verify=context,
                trust_env=False,
                proxy=proxy,
                cookies=cookies,
                headers=headers,
                limits=httpx.Limits(max_keepalive_connections=kept, keepalive_expiry=KEEPALIVE),
                transport=handler,
            )

        self._make = make
        self._clients = _Clients(make)

    async def carry(self, call: Call, *, limit: int, wait: float = 0.0) -> Answer:
        """Send a call and read its answer, at most `limit` bytes of it.

        `wait`: seconds the server was asked to hold the answer back. A GET is repeated once at once: a kept connection
        may have been closed under it. Raises RequestError where no answer came.
        """
        async with self._slots if not wait else contextlib.nullcontext():
            try:
                return await self._once(call, limit, wait)
            except RequestError as fault:
                if not call.idempotent or fault.code != "answer_lost":
                    raise
            return await self._once(call, limit, wait)

    async def close(self) -> None:
        """Close all connections."""
        await self._clients.close()

    async def _once(self, call: Call, limit: int, wait: float) -> Answer:
        clients = self._clients
        clients.users += 1
        try:
            async with asyncio.timeout(self._deadline + wait):
                return await self._exchange(clients, call, limit, wait)
        except TimeoutError:
            self._retire(clients)
            reason = f"no whole answer within {self._deadline + wait:.0f} s"
            raise unanswered(call, "timeout", reason, written=True) from None
        except asyncio.CancelledError:
            self._retire(clients)
            raise
        except _NOT_WRITTEN as fault:
            if isinstance(fault, httpx.PoolTimeout):
                self._retire(clients)
            raise unanswered(call, "server_unreachable", _words(fault), written=False) from None
        except httpx.TimeoutException as fault:
            raise unanswered(call, "timeout", _words(fault), written=True) from None
        except httpx.HTTPError as fault:
            raise unanswered(call, "answer_lost", _words(fault), written=True) from None
        finally:
            clients.users -= 1
            if clients.retired and not clients.users:
                await clients.close()

    async def _exchange(self, clients: _Clients, call: Call, limit: int, wait: float) -> Answer:
        client = clients.keeping if call.idempotent else clients.fresh
        patience = httpx.Timeout(self._deadline + wait, connect=CONNECT)
        request = client.build_request(
            call.method, self.server + call.path, headers=call.headers, content=call.body, timeout=patience
        )
        response = await client.send(request, stream=True)
        try:
            headers = {name.lower(): value for name, value in response.headers.items()}
            if headers.get("content-encoding", "identity").lower() not in ("", "identity"):
                return Answer(response.status_code, headers, b"")  # a bomb in 1 kB is one all the same
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > limit:
                    return Answer(response.status_code, headers, bytes(body[:limit]), cut=True)
            return Answer(response.status_code, headers, bytes(body))
        finally:
            await response.aclose()

    def _retire(self, clients: _Clients) -> None:
        """After a cancellation httpcore may have lost a pool slot for good: go on with new connections."""
        clients.retired = True
        if clients is self._clients:
            self._clients = _Clients(self._make)


def _words(fault: Exception) -> str:
    return str(fault) or type(fault).__name__
