"""Connections to one server on aiohttp (extra `fast`), for polls alone: a poll costs less than half of httpx's."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import aiohttp
import yarl

from nexusd.wire.fate import Answer, unanswered
from nexusd.wire.pool import CONNECT, HEADERS, KEEPALIVE
from nexusd.wire.wording import BROKEN, MALFORMED

if TYPE_CHECKING:
    import ssl

    from nexusd.wire.calls import Call


class FastPool:
    """Keeps connections to one server, and carries what may be repeated.

    aiohttp repeats a GET by itself, and does not tell in every case whether a request was written: no message goes
    through here. `opened` counts the connections tried so far.
    """

    def __init__(self, server: str, *, context: ssl.SSLContext | None = None, proxy: str | None = None) -> None:
        self._server = server
        self._context = context
        self._proxy = proxy
        self.opened = 0
        self._session: aiohttp.ClientSession | None = None

    async def exchange(self, call: Call, *, limit: int) -> Answer:
        """One GET, and at most `limit` bytes of its answer; the caller sets the deadline.

        RequestError where no answer came.
        """
        session = self._session = self._session or self._open()
        try:
            async with session.request(
                call.method,
                yarl.URL(self._server + call.path, encoded=True),
                headers=call.headers,
                proxy=self._proxy,
                allow_redirects=False,
            ) as response:
                return await Answer.read(response.status, response.raw_headers, response.content.iter_any(), limit)
        except (aiohttp.InvalidURL, UnicodeError):
            raise unanswered(call, "server_unreachable", MALFORMED, written=False) from None
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as fault:
            raise unanswered(call, "server_unreachable", fault, written=False) from None
        except TimeoutError as fault:
            raise unanswered(call, "timeout", fault, written=True) from None
        except OSError as fault:
            raise unanswered(call, "answer_lost", fault.strerror or BROKEN, written=True) from None
        except aiohttp.ClientError:  # its words quote the whole URL, or the answer's bytes
            raise unanswered(call, "answer_lost", BROKEN, written=True) from None
        except ValueError:  # of a header or of the URL: GETs alone come here, so nothing can double
            raise unanswered(call, "server_unreachable", MALFORMED, written=False) from None

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    def _socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, *_ = address
        self.opened += 1  # aiohttp's tracing would tell it too, at a tenth of a poll's cost
        return socket.socket(family, kind, protocol)

    def _open(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, ssl=self._context or True, keepalive_timeout=KEEPALIVE, socket_factory=self._socket
            ),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=HEADERS,
            auto_decompress=False,
            trust_env=False,
        )
