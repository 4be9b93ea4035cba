"""A server that does on each connection what a test says, byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Answer = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]] | None


def ok(body: bytes = b"{}", *headers: str) -> bytes:
    head = "".join(f"{line}\r\n" for line in headers)
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode() + body


class RawServer:
    """Each connection has a list of answers; behind its last one it is closed. None hangs, a callable writes itself.

    Connections beyond the lists get the last list again. `requests` holds what came, by connection.
    """

    def __init__(self, *connections: list[Answer]) -> None:
        self._connections = connections
        self._tasks: set[asyncio.Task[None]] = set()
        self._asked = asyncio.Condition()
        self.requests: list[list[bytes]] = []

    async def asked(self, count: int) -> None:
        """Wait until so many requests have come."""
        async with self._asked:
            await self._asked.wait_for(lambda: sum(map(len, self.requests)) >= count)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._begin, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(self.requests)
        self.requests.append([])
        answers = self._connections[min(number, len(self._connections) - 1)]
        task = asyncio.get_running_loop().create_task(self._talk(reader, writer, answers, self.requests[number]))
        self._tasks.add(task)

    async def _talk(self, reader, writer, answers: list[Answer], requests: list[bytes]) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            for answer in answers:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next((int(v) for k, _, v in _headers(head) if k == b"content-length"), 0)
                requests.append(head + await reader.readexactly(length))
                async with self._asked:
                    self._asked.notify_all()
                if answer is None:
                    await asyncio.Event().wait()
                elif isinstance(answer, bytes):
                    writer.write(answer)
                    await writer.drain()
                else:
                    assert inspect.iscoroutinefunction(answer)
                    await answer(writer)
        with contextlib.suppress(Exception):
            writer.close()
            await writer.wait_closed()


def _headers(head: bytes) -> list[tuple[bytes, bytes, bytes]]:
    return [line.lower().partition(b": ") for line in head.split(b"\r\n")[1:]]
