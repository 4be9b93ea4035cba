"""The relay as a process: it binds, says where it listens, and ends on SIGTERM or SIGINT in no time."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import uvicorn

from nexusd.relay.app import build_app
from nexusd.relay.exchange import Exchange
from nexusd.relay.limit import RateLimit
from nexusd.relay.store import Store, StoreError
from nexusd.relay.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

KEEP_ALIVE = 75
"""Seconds that an idle connection stays open: longer than the usual 30 s between two polls."""

MAX_PORT = 65535


def serve(host: str, port: int, data_dir: str | None, rate_limit: int) -> int:
    """Run a relay until a signal ends it; gives the exit status.

    `port` 0 takes any free one; `data_dir` None keeps nothing; `rate_limit` is requests a minute and address, 0 for
    none. Prints one JSON line to stdout when it listens, `{"event": "listening", "url"}`, or one with `"error"` when
    it cannot (status 1). A proxy on this machine is believed about its clients' addresses (`X-Forwarded-For`).
    """
    with contextlib.ExitStack() as stack:
        try:
            listener = stack.enter_context(_listen(host, port))
            store = None if data_dir is None else stack.enter_context(contextlib.closing(Store(data_dir)))
        except StoreError as error:
            return _cannot(error.code, str(error))
        except (OSError, OverflowError, UnicodeError) as error:
            return _cannot(*_why(error, host, port))
        url = f"http://{_bracketed(host)}:{listener.getsockname()[1]}"
        waiting = Waiting()
        app = build_app(
            Exchange(time.time, secrets.token_bytes, store),
            limit=RateLimit(rate_limit, time.monotonic),
            waiting=waiting,
            bound=url,
        )
        # No access log: the path of every request holds a session id.
        config = uvicorn.Config(
            app,
            access_log=False,
            log_level="warning",
            server_header=False,
            ws="none",
            lifespan="on",
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=1,
        )
        _Server(config, waiting, url).run(sockets=[listener])
    return 0


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, waiting: Waiting, url: str) -> None:
        super().__init__(config)
        self._waiting = waiting
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        _say({"event": "listening", "url": self._url})
        print(f"relay: listening on {self._url}; Ctrl-C ends it", file=sys.stderr)  # noqa: T201

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # First, or the polls held open would be waited for.
        self._waiting.close()
        # Whoever is cut off now is cut off on purpose: no traceback about a half-sent body.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own would raise the signal again at the end, and the process would not end with 0.
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= MAX_PORT:
        # The resolver would take the rest of a division and listen somewhere else.
        raise OverflowError(f"a port is 0 to {MAX_PORT}")
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except BaseException:
        listener.close()
        raise
    return listener


def _why(error: Exception, host: str, port: int) -> tuple[str, str]:
    where = f"{_bracketed(host)}:{port}"
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        return "address_in_use", f"{where} is in use by another program: end it or choose another --port"
    if number in (errno.EACCES, errno.EPERM):
        return "address_not_permitted", f"{where} may not be bound by this user: choose a --port above 1023"
    reason = os.strerror(number) if isinstance(error, OSError) and number and number > 0 else str(error)
    return "address_not_usable", f"cannot listen on {where}: {reason}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _cannot(code: str, message: str) -> int:
    _say({"error": code, "message": message})
    print(f"relay: {message}", file=sys.stderr)  # noqa: T201
    return 1


def _say(line: dict[str, Any]) -> None:
    # stdout carries JSON only; whoever started the relay reads its address here.
    print(json.dumps(line), flush=True)  # noqa: T201


def _main() -> int:
    import argparse  # noqa: PLC0415 - only for `python -m nexusd.relay.serve`

    parser = argparse.ArgumentParser(prog="relay", description="A NexusMessaging server.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=3000)
    parser.add_argument("--data-dir")
    parser.add_argument("--rate-limit", type=int, default=100)
    asked = parser.parse_args()
    return serve(asked.host, asked.port, asked.data_dir, asked.rate_limit)


if __name__ == "__main__":
    sys.exit(_main())
