"""A server that costs next to nothing, so that what is measured is ours: every session exists, and nothing happens."""

from __future__ import annotations

import asyncio
import itertools
import sys

requests = itertools.count()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer requests on one connection. At /asked it says how many there were."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next((int(h.split(b":")[1]) for h in head.split(b"\r\n") if h.lower().startswith(b"content-l")), 0)
            if length:
                await reader.readexactly(length)
            number = next(requests)
            if b"/asked" in head:
                body = b"%d" % number
            elif b"/renew" in head:
                body = b'{"sessionId":"x","state":"active","ttl":86400}'
            elif b"/health" in head:
                body = b'{"status":"ok"}'
            else:
                body = b'{"messages":[],"nextCursor":"0"}'
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main() -> None:
    """Serve on a free port, and say which."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
