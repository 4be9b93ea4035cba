"""A server that misbehaves on command and keeps the truth: every message that it accepted, in order.

It stands on the relay's own decisions (`nexusd.relay.exchange`) and speaks HTTP/1.1 over raw sockets, so it can do to a
connection what no framework would. It runs in a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import os
import random
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from nexusd.relay import fields
from nexusd.relay.exchange import Exchange
from nexusd.relay.refusal import Refusal
from nexusd.relay.session import Message

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    Answering = Callable[["Reply", asyncio.StreamWriter], Awaitable[bool]]

BODY_LIMIT = 16 << 20


class Request(NamedTuple):
    """One request. `kind` is send, poll, join, renew, create, describe, leave, pair, claim, health or stats."""

    kind: str
    number: int  # of its kind, from 0
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


class Reply(NamedTuple):
    """What would have been answered."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Fault:
    """What is done to one request. `acts`: it is carried out first. `answer` says whether the connection goes on."""

    name: str
    acts: bool
    answer: Answering


@dataclass
class Accepted:
    """One message that was taken in: the truth."""

    session: str
    agent: str
    text: str | None
    payload: bytes | None
    cursor: int
    id: str
    life: int


def whole(reply: Reply) -> bytes:
    """A reply as HTTP."""
    lines = [f"HTTP/1.1 {reply.status} X", "Content-Type: application/json", f"Content-Length: {len(reply.body)}"]
    lines += [f"{name}: {value}" for name, value in reply.headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + reply.body


async def _close(_: Reply, writer: asyncio.StreamWriter) -> bool:
    return False


async def _reset(_: Reply, writer: asyncio.StreamWriter) -> bool:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


async def _half(reply: Reply, writer: asyncio.StreamWriter) -> bool:
    data = whole(reply)
    writer.write(data[: len(data) - max(1, len(reply.body) // 2)])
    return False


async def _half_head(reply: Reply, writer: asyncio.StreamWriter) -> bool:
    writer.write(whole(reply)[:20])
    return False


async def _drip(reply: Reply, writer: asyncio.StreamWriter) -> bool:
    for byte in whole(reply):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.05)
    return True


async def _garbage(_: Reply, writer: asyncio.StreamWriter) -> bool:
    writer.write(b"\x16\x03\x01\x00\xff not http at all\r\n\r\n\x00" + os.urandom(64))
    return False


async def _html(reply: Reply, writer: asyncio.StreamWriter) -> bool:
    writer.write(whole(Reply(200, b"<html><body>Please log in to the network</body></html>")))
    return True


async def _empty(reply: Reply, writer: asyncio.StreamWriter) -> bool:
    writer.write(whole(Reply(reply.status, b"")))
    return True


async def _list(reply: Reply, writer: asyncio.StreamWriter) -> bool:
    writer.write(whole(Reply(reply.status, b"[" + reply.body + b"]")))
    return True


async def _bare_object(reply: Reply, writer: asyncio.StreamWriter) -> bool:
    writer.write(whole(Reply(reply.status, b"{}")))
    return True


async def _too_short(reply: Reply, writer: asyncio.StreamWriter) -> bool:
    writer.write(whole(reply).replace(b"Content-Length: ", b"Content-Length: 9"))
    return False


async def _gzip(reply: Reply, writer: asyncio.StreamWriter) -> bool:
    bomb = gzip.compress(b" " * (64 << 20) + reply.body)
    writer.write(whole(Reply(reply.status, bomb, (("Content-Encoding", "gzip"),))))
    return True


async def _endless(_: Reply, writer: asyncio.StreamWriter) -> bool:
    writer.write(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n")
    piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    with contextlib.suppress(ConnectionError):
        for _ in range(2_000):
            writer.write(piece)
            await writer.drain()
    return False


async def _flood(reply: Reply, writer: asyncio.StreamWriter) -> bool:
    writer.write(b"HTTP/1.1 103 Early\r\n\r\n" * 500 + whole(reply))
    return True


async def _redirect(_: Reply, writer: asyncio.StreamWriter) -> bool:
    writer.write(whole(Reply(302, b"", (("Location", "http://127.0.0.1:9/elsewhere"),))))
    return True


def status(code: int, body: bytes = b"", *, acts: bool = False, **headers: str) -> Fault:
    """An answer with this status, whatever was asked."""

    async def answer(_: Reply, writer: asyncio.StreamWriter) -> bool:
        given = tuple((name.replace("_", "-"), value) for name, value in headers.items())
        writer.write(whole(Reply(code, body, given)))
        return True

    return Fault(f"status_{code}{'_after' if acts else ''}", acts, answer)


def refusal(code: int, error: str, **headers: str) -> Fault:
    """An answer with the protocol's own error object."""
    return status(code, msgspec.json.encode({"error": error, "message": "because"}), **headers)


DROP, DROP_AFTER = Fault("drop", False, _close), Fault("drop_after", True, _close)
RESET, RESET_AFTER = Fault("reset", False, _reset), Fault("reset_after", True, _reset)
HALF, HALF_HEAD = Fault("half", True, _half), Fault("half_head", True, _half_head)
DRIP = Fault("drip", True, _drip)
GARBAGE, GARBAGE_AFTER = Fault("garbage", False, _garbage), Fault("garbage_after", True, _garbage)
HTML, HTML_AFTER = Fault("html", False, _html), Fault("html_after", True, _html)
EMPTY, LIST, BARE = Fault("empty", True, _empty), Fault("list", True, _list), Fault("bare", True, _bare_object)
TOO_SHORT, GZIP, ENDLESS = (
    Fault("too_short", True, _too_short),
    Fault("gzip", True, _gzip),
    Fault("endless", True, _endless),
)
FLOOD, REDIRECT = Fault("flood", True, _flood), Fault("redirect", False, _redirect)

AMBIGUOUS = (
    *(
        DROP,
        DROP_AFTER,
        RESET,
        RESET_AFTER,
        HALF,
        HALF_HEAD,
        GARBAGE,
        GARBAGE_AFTER,
        HTML,
        HTML_AFTER,
        EMPTY,
        LIST,
        BARE,
    ),
    *(TOO_SHORT, GZIP),
    *(status(code, acts=acts) for code in (408, 500, 502, 503, 504) for acts in (False, True)),
)
"""After each of these a sender cannot know whether its message got through."""


@dataclass
class Misbehaving:
    """The server. Everything here may be changed while it runs.

    `faults` is asked for each request: None is good behaviour. `next_cursor`: string, number, null, absent, zero,
    lower. `mangle` gets the list of encoded messages of a poll and gives another.
    """

    faults: Callable[[Request], Fault | None] = lambda _: None
    echo: bool = True
    uptime: bool = True
    takes_json: bool = True
    next_cursor: str = "string"
    mangle: Callable[[list[bytes]], list[bytes]] = list
    truth: list[Accepted] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    done: list[tuple[str, int, str]] = field(default_factory=list)  # kind, number, fault
    life: int = 0
    url: str = ""
    port: int = 0
    counters_for_ids: bool = False

    def __post_init__(self) -> None:
        self._numbers: dict[str, itertools.count] = {}
        self._raw: dict[tuple[str, int], bytes] = {}
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop: asyncio.Event | None = None
        self.exchange = Exchange(time.time, os.urandom, session_weight=1 << 40)
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()), daemon=True)
        self._thread.start()
        assert self._started.wait(10)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- what a test does to it; each runs in the server's own thread, between two requests

    def run(self, do: Callable[[], Any]) -> Any:
        async def inside() -> Any:
            return do()

        return asyncio.run_coroutine_threadsafe(inside(), self._loop).result(10)

    def sessions(self) -> list[str]:
        return list(self.exchange._living._sessions)

    def create(self, **wanted: Any) -> str:
        return self.run(lambda: self.exchange.create(fields.Creation(**wanted)))["sessionId"]

    def join(self, session: str, agent: str) -> str:
        return self.run(lambda: self.exchange.join(session, agent))["sessionKey"]

    def say(self, session: str, agent: str, key: str | None, text: str) -> dict[str, Any]:
        return self.run(lambda: self._send(session, agent, key, text, None))

    def inject(self, session: str, agent: str, raw: bytes) -> int:
        """A message that is shown as these very bytes, %CURSOR% filled in; its cursor."""

        def do() -> int:
            cursor = int(self._send(session, agent, None, "placeholder", None, keep=False)["cursor"])
            self._raw[session, cursor] = raw.replace(b"%CURSOR%", str(cursor).encode())
            return cursor

        return self.run(do)

    def restart(self) -> None:
        """As the real one: sessions and members stay, messages are gone, cursors and uptime begin anew."""

        def do() -> None:
            self.life += 1
            self._raw.clear()
            self.exchange._born = time.time()
            for session in self.exchange._living._sessions.values():
                session.messages.clear()
                session.last_cursor = session.weight = 0

        self.run(do)

    def expire(self, session: str) -> None:
        self.run(lambda: self.exchange._living._sessions.pop(session))

    def evict(self, session: str, agent: str) -> None:
        self.run(lambda: self.exchange._living.find(session).members.pop(agent))

    def said(self, agent: str) -> list[str]:
        """The truth: the texts an agent got accepted, in order."""
        return [m.text for m in self.truth if m.agent == agent]

    # ---- serving

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, limit=1 << 20)
        self.port = server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._started.set()
        await self._stop.wait()
        server.close()
        ending = asyncio.all_tasks() - {asyncio.current_task()}
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await self._read(reader)) is not None:
                fault = self.faults(request)
                reply = self._decide(request) if fault is None or fault.acts else Reply(200, b"{}")
                if fault is None:
                    writer.write(whole(reply))
                else:
                    self.done.append((request.kind, request.number, fault.name))
                    if not await fault.answer(reply, writer):
                        break
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # cancelled at the end: the streams of Python 3.11 would make a traceback of it
        finally:
            with contextlib.suppress(ConnectionError):
                writer.close()
                await writer.wait_closed()

    async def _read(self, reader: asyncio.StreamReader) -> Request | None:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)}
        length = int(headers.get("content-length", "0"))
        assert length <= BODY_LIMIT
        body = await reader.readexactly(length) if length else b""
        parts = urlsplit(target)
        kind = _kind(method, parts.path)
        number = next(self._numbers.setdefault(kind, itertools.count()))
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        request = Request(kind, number, method, parts.path, query, headers, body)
        self.requests.append(request)
        return request

    def _decide(self, request: Request) -> Reply:
        try:
            body = self._answer(request)
        except Refusal as no:
            more = (("Retry-After", str(no.retry_after)),) if no.retry_after else ()
            return Reply(no.status, msgspec.json.encode(no.as_reply()), more)
        created = request.kind in ("create", "send", "pair")
        return Reply(201 if created else 200, body if isinstance(body, bytes) else msgspec.json.encode(body))

    def _answer(self, request: Request) -> Any:
        words = [unquote(word) for word in request.path.split("/")]
        agent, key = request.headers.get("x-agent-id"), request.headers.get("x-session-key")
        exchange, kind = self.exchange, request.kind
        if kind == "health":
            found: dict[str, Any] = {"status": "ok", "version": "0"}
            if self.takes_json:
                found["capabilities"] = {"messageFormat": ["text", "json"]}
            return found | ({"uptime": exchange.uptime()} if self.uptime else {})
        if kind == "create":
            return exchange.create(fields.creation(request.body))
        if kind == "pair":
            code = exchange.pair(msgspec.json.decode(request.body)["sessionId"])
            return code | {"url": f"{self.url}/p/{code['code']}"}
        if kind == "claim":
            return exchange.claim(words[3], agent)
        session = words[3]
        if kind == "describe":
            return exchange.describe(session)
        if kind == "join":
            return exchange.join(session, agent)
        if kind == "renew":
            return exchange.renew(session, agent, msgspec.json.decode(request.body).get("ttl"))
        if kind == "leave":
            return exchange.leave(session, words[5], agent, key)
        if kind == "send":
            given = msgspec.json.decode(request.body, type=dict[str, msgspec.Raw])
            text = msgspec.json.decode(given["text"]) if "text" in given else None
            payload = bytes(given["json"]) if "json" in given and self.takes_json else None
            if text is None and payload is None:
                raise Refusal(400, "invalid_body", "there is neither text nor json")
            return self._send(session, agent, key, text, payload)
        assert kind == "poll", request
        return self._poll(session, agent, request.query)

    def _send(
        self, session: str, agent: str, key: str | None, text: str | None, payload: bytes | None, *, keep: bool = True
    ) -> dict[str, Any]:
        reply = self.exchange.send(session, agent, key, text, payload)
        if self.counters_for_ids:
            messages = self.exchange._living.find(session).messages
            last = messages[-1]
            reply["id"] = f"msg_{last.cursor}"
            messages[-1] = Message(
                reply["id"], last.agent_id, last.cursor, last.verified, last.sent_at, last.expires_at, last.text
            )
        if keep:
            taken = Accepted(session, agent, text, payload, int(reply["cursor"]), reply["id"], self.life)
            self.truth.append(taken)
        return reply

    def _poll(self, session: str, agent: str, query: dict[str, str]) -> bytes:
        reply = self.exchange.poll(session, agent, query.get("after"), members=query.get("members") == "true")
        shown = [m for m in reply["messages"] if self.echo or m["agentId"] != agent]
        encoded = [self._raw.get((session, int(m["cursor"])), None) or msgspec.json.encode(m) for m in shown]
        members = [b'"messages":[' + b",".join(self.mangle(encoded)) + b"]"]
        last = reply["messages"][-1]["cursor"] if reply["messages"] else query.get("after", "0")
        forms = {
            "string": f'"{last}"',
            "number": last,
            "null": "null",
            "zero": '"0"',
            "lower": f'"{max(0, int(last) - 3)}"',
            "wild": '["?"]',
        }
        if self.next_cursor in forms:
            members.append(f'"nextCursor":{forms[self.next_cursor]}'.encode())
        if "members" in reply:
            members.append(b'"members":' + msgspec.json.encode(reply["members"]))
        return b"{" + b",".join(members) + b"}"


def _kind(method: str, path: str) -> str:
    words = path.strip("/").split("/")
    if words in (["health"], ["v1", "stats"]):
        return words[-1]
    if words[1] == "pair":
        return "pair" if method == "PUT" else "claim"
    if len(words) == 2:
        return "create"
    if len(words) == 3:
        return "describe"
    if words[3] == "messages":
        return "send" if method == "POST" else "poll"
    return {"join": "join", "renew": "renew", "agents": "leave"}[words[3]]


def only(kind: str, *faults: Fault | None) -> Callable[[Request], Fault | None]:
    """These faults, one for each request of this kind from now on; good behaviour after the last."""
    left = list(faults)
    return lambda request: left.pop(0) if request.kind == kind and left else None


def drawn(seed: int, odds: float, kinds: Iterable[str], faults: tuple[Fault, ...]) -> Callable[[Request], Fault | None]:
    """Faults drawn from a seed: `odds` of the requests of these kinds get one."""
    chance, kinds = random.Random(seed), frozenset(kinds)
    return lambda request: chance.choice(faults) if request.kind in kinds and chance.random() < odds else None
