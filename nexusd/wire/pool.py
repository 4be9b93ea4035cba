"""Connections to one server on httpx: the only module that knows it."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import httpx

from nexusd import __version__
from nexusd.wire.fate import Answer, unanswered
from nexusd.wire.wording import BROKEN, MALFORMED

if TYPE_CHECKING:
    import ssl

    from nexusd.wire.calls import Call

CONNECT = 10.0  # seconds to connect
KEEPALIVE = 90.0  # seconds; polls at rest are 30 s apart
HEADERS = {"Accept-Encoding": "identity", "User-Agent": f"nexusd/{__version__}"}

_NOT_WRITTEN = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
)
# What the libraries raise for a request that they will not write, before its first byte.
_MALFORMED = (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL, UnicodeError)


class Pool:
    """Keeps up to `keep` connections to one server.

    httpx's transport is used without its client: that adds redirects, cookies, the environment's proxies and a log of
    whole URLs, none of which may happen here, and a fifth to the cost of a poll. `handler` stands in for the network
    in tests. `opened` counts the connections made so far.
    """

    def __init__(
        self,
        server: str,
        *,
        keep: int,
        context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        handler: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._server = server
        self.opened = 0
        self._stream: Any = None  # of the last answer's connection
        self._streams: weakref.WeakSet[Any] = weakref.WeakSet()  # of connections that are open; tells a new one
        self._carrier = handler or httpx.AsyncHTTPTransport(
            verify=context or False,
            trust_env=False,
            proxy=httpx.Proxy(proxy) if proxy else None,
            limits=httpx.Limits(max_keepalive_connections=keep, keepalive_expiry=KEEPALIVE),
        )

    async def exchange(self, call: Call, *, limit: int) -> Answer:
        """One request, and at most `limit` bytes of its answer; the caller sets the deadline.

        RequestError where no answer came.
        """
        try:
            request = httpx.Request(
                call.method,
                self._server + call.path,
                headers=HEADERS | call.headers,
                content=call.body,
                extensions={"timeout": {"connect": CONNECT}},
            )
            return await self._exchange(request, limit)
        except _MALFORMED:
            raise unanswered(call, "server_unreachable", MALFORMED, written=False) from None
        except _NOT_WRITTEN as fault:
            raise unanswered(call, "server_unreachable", fault, written=False) from None
        except httpx.TimeoutException as fault:
            raise unanswered(call, "timeout", fault, written=True) from None
        except httpx.NetworkError as fault:
            raise unanswered(call, "answer_lost", fault, written=True) from None
        except httpx.HTTPError:
            raise unanswered(call, "answer_lost", BROKEN, written=True) from None

    async def close(self) -> None:
        """Close all connections."""
        await self._carrier.aclose()

    async def _exchange(self, request: httpx.Request, limit: int) -> Answer:
        response = await self._carrier.handle_async_request(request)
        try:
            stream = response.extensions.get("network_stream")
            if stream is not self._stream and stream is not None:  # most come on the one that the last came on
                self._stream = stream
                if stream not in self._streams:
                    self._streams.add(stream)
                    self.opened += 1
            return await Answer.read(response.status_code, response.headers.raw, response.aiter_raw(), limit)
        finally:
            await response.aclose()
