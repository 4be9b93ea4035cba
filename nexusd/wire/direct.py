"""A blocking driver for calls, on the standard library alone: for commands that ask once and end."""

from __future__ import annotations

import contextlib
import socket
import threading
from http.client import HTTPConnection, HTTPException, IncompleteRead, InvalidURL, RemoteDisconnected
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nexusd import __version__
from nexusd.wire.fate import Answer, refused, unanswered, unreadable
from nexusd.wire.wording import MALFORMED

if TYPE_CHECKING:
    from http.client import HTTPResponse

    from nexusd.errors import RequestError
    from nexusd.wire.calls import Call

DEADLINE = 30.0  # seconds for a whole request: looking up the name, connecting, TLS, and the last byte of the answer
SMALL = 1 << 20  # bytes; no answer but a poll's is longer
LARGE = 64 << 20  # bytes of a poll's answer
_BLOCK = 65_536


class Direct:
    """One server, asked by any number of threads.

    GETs may use a kept connection, and are repeated once where that turns out to be closed. Anything else goes on a
    fresh one: on a kept one it would stay in the dark whether it got through. No redirects, no proxy, nothing
    compressed; TLS is verified with the system's certificates.
    """

    def __init__(self, server: str, *, deadline: float = DEADLINE) -> None:
        parts = urlsplit(server)
        self.server = server
        self._secure = parts.scheme == "https"
        # Always with a port: without one http.client takes the end of an IPv6 address for it.
        self._host, self._port = parts.hostname or "", parts.port or (443 if self._secure else 80)
        self._prefix = parts.path
        self._deadline = deadline
        self._idle: list[HTTPConnection] = []

    def ask(self, call: Call, *, limit: int = SMALL, deadline: float | None = None) -> Answer:
        """The successful answer to a call, at most `limit` bytes of it; RequestError for anything else.

        `deadline` in seconds overrides the server's own.
        """
        answer = self.carry(call, limit=limit, deadline=deadline)
        if not 200 <= answer.status < 300:
            raise refused(call, answer)
        if answer.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
            raise unreadable(call, answer, "compressed, which was not asked for")
        return answer

    def carry(self, call: Call, *, limit: int = SMALL, deadline: float | None = None) -> Answer:
        """Send a call and read its whole answer, whatever its status. RequestError where there is none."""
        kept = self._kept() if call.idempotent else None
        if kept is not None:
            try:
                return self._exchange(call, kept, limit, deadline)
            except _Closed:
                pass
        return self._exchange(call, self._connection(), limit, deadline)

    def close(self) -> None:
        """Close the kept connections."""
        while self._idle:
            self._idle.pop().close()

    def _kept(self) -> HTTPConnection | None:
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        return None

    def _connection(self) -> HTTPConnection:
        if not self._secure:
            return HTTPConnection(self._host, self._port)
        from http.client import HTTPSConnection  # noqa: PLC0415 - TLS only where it is spoken
        from ssl import create_default_context  # noqa: PLC0415

        return HTTPSConnection(self._host, self._port, context=create_default_context())

    def _exchange(self, call: Call, connection: HTTPConnection, limit: int, deadline: float | None) -> Answer:
        """One request in a thread of its own: only so does the deadline hold for the look-up of a name as well."""
        seconds = self._deadline if deadline is None else deadline
        work = _Exchange(call, connection, self._prefix, limit)
        work.start()
        try:
            work.join(seconds)
        finally:
            if late := work.is_alive():
                work.give_up()
        if work.answer is not None:
            if work.reusable:
                self._idle.append(connection)
            return work.answer
        if late or work.fault is None:  # once given up it may still fail, for that very reason
            raise unanswered(call, "timeout", f"no whole answer within {seconds:g} s", written=work.written)
        if work.reused and isinstance(work.fault, ConnectionError | HTTPException) and work.untouched:
            raise _Closed from None
        if work.malformed:
            # Not `from`: what it says quotes the header or the path, and both are secrets.
            raise unanswered(call, "server_unreachable", MALFORMED, written=False) from None
        code = "answer_lost" if work.written else "server_unreachable"
        raise unanswered(call, code, _words(work.fault), written=work.written) from work.fault


class _Closed(Exception):
    """A kept connection had been closed by the server."""


class _Exchange(threading.Thread):
    """A request on its way. `written`: whether a byte of it may have reached the server."""

    def __init__(self, call: Call, connection: HTTPConnection, prefix: str, limit: int) -> None:
        super().__init__(daemon=True)
        self._call, self._connection, self._path, self._limit = call, connection, prefix + call.path, limit
        self.reused = connection.sock is not None
        self.written = self.reused
        self.untouched = True  # no byte of an answer was read
        self.reusable = False
        self.malformed = False  # http.client refused to write it
        self.answer: Answer | None = None
        self.fault: Exception | None = None

    def run(self) -> None:
        try:
            self.answer = self._whole_answer()
        except Exception as fault:
            self.fault = fault
        if not self.reusable:
            self._connection.close()

    def give_up(self) -> None:
        """Wake the thread where it waits for the network, and let it end by itself."""
        with contextlib.suppress(OSError, AttributeError):
            self._connection.sock.shutdown(socket.SHUT_RDWR)

    def _whole_answer(self) -> Answer:
        call, connection = self._call, self._connection
        if not self.reused:
            connection.connect()
        headers = {"User-Agent": f"nexus/{__version__}", **call.headers}  # http.client itself asks for identity
        self.written = True
        try:
            connection.request(call.method, self._path, call.body, headers)
        except (ValueError, InvalidURL):
            # Headers and path are checked before the first byte goes out: nothing was sent.
            self.malformed = True
            raise
        response = connection.getresponse()
        self.untouched = False
        received = {name.lower(): value for name, value in response.getheaders()}
        body = _body(response, self._limit)
        cut = len(body) > self._limit
        self.reusable = call.idempotent and not cut and not response.will_close
        return Answer(response.status, received, body[: self._limit], cut)


def _body(response: HTTPResponse, limit: int) -> bytes:
    """The body, or a little more than `limit` of it. IncompleteRead where it ends too early."""
    body = bytearray()
    while len(body) <= limit and (block := response.read(_BLOCK)):
        body += block
    if len(body) <= limit and response.length:
        raise IncompleteRead(bytes(body), response.length)
    return bytes(body)


def reason(fault: RequestError) -> str:
    """In a word why a call failed: dns, refused, tls, timeout, network or http."""
    if fault.status is not None:
        return "http"
    cause = fault.__cause__
    if fault.code == "timeout" or isinstance(cause, TimeoutError):
        return "timeout"
    if isinstance(cause, socket.gaierror | UnicodeError):
        return "dns"
    if isinstance(cause, ConnectionRefusedError):
        return "refused"
    return "tls" if type(cause).__module__ == "ssl" else "network"


def _words(fault: Exception) -> str:
    if isinstance(fault, socket.gaierror | UnicodeError):
        return "the server's name is not known (DNS)"
    if isinstance(fault, ConnectionRefusedError):
        return "nothing listens there: the connection was refused"
    if type(fault).__module__ == "ssl":
        return f"the TLS handshake failed: {getattr(fault, 'verify_message', '') or getattr(fault, 'reason', '')}"
    if isinstance(fault, IncompleteRead):
        return "the connection broke in the middle of the answer"
    if isinstance(fault, RemoteDisconnected):
        return "the connection was closed before an answer came"
    if isinstance(fault, HTTPException):
        return "what answered does not speak HTTP"
    # Never str(fault): an exception that is not the system's may quote what we gave it.
    return getattr(fault, "strerror", None) or f"the connection failed ({type(fault).__name__})"
