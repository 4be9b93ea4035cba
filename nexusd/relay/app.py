"""The HTTP door: which request reaches which decision of the exchange, and how the answer is dressed."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from nexusd import __version__
from nexusd.relay import fields, pages, skill
from nexusd.relay.door import Door, answer, read_body, refuse
from nexusd.relay.limit import RateLimit
from nexusd.relay.origin import origin
from nexusd.relay.refusal import Refusal
from nexusd.relay.waiting import Waiting
from nexusd.timestamps import stamp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from nexusd.relay.exchange import Exchange

BODY_LIMIT = 1024 * 1024
"""Bytes."""
SWEEP_EVERY = 30.0
"""Seconds between two sweeps of a relay that nobody asks anything."""


def build_app(
    exchange: Exchange,
    *,
    limit: RateLimit | None = None,
    waiting: Waiting | None = None,
    bound: str = "http://127.0.0.1:3000",
    body_limit: int = BODY_LIMIT,
) -> Starlette:
    """Put a whole relay round `exchange`, as an ASGI app.

    `limit` counts requests (default: no limit); `waiting` is who to close when polls held open must end; `bound` is
    the address to name where a request's Host header is not to be trusted; `body_limit` is in bytes.
    """
    routes = _Routes(exchange, Waiting() if waiting is None else waiting, bound, body_limit)
    limit = RateLimit(0, time.monotonic) if limit is None else limit
    app = Starlette(
        routes=routes.table(),
        lifespan=routes.lifespan,
        exception_handlers={Refusal: _refused, HTTPException: _not_routed},
        # Inside starlette's own catcher of faults, which would answer in plain text and log the fault's words.
        middleware=[Middleware(Door, limit=limit)],
    )
    app.router.redirect_slashes = False
    return app


class _Routes:
    def __init__(self, exchange: Exchange, waiting: Waiting, bound: str, body_limit: int) -> None:
        self._exchange = exchange
        self._waiting = waiting
        self._bound = bound
        self._body_limit = body_limit

    def table(self) -> list[Route]:
        session = "/v1/sessions/{session_id}"
        return [
            Route("/v1/sessions", self.create, methods=["PUT"]),
            Route(session, self.describe, methods=["GET"]),
            Route(f"{session}/join", self.join, methods=["POST"]),
            Route(f"{session}/messages", self.send, methods=["POST"]),
            Route(f"{session}/messages", self.poll, methods=["GET"]),
            Route(f"{session}/renew", self.renew, methods=["POST"]),
            Route(f"{session}/agents/{{agent_id}}", self.leave, methods=["DELETE"]),
            Route("/v1/pair", self.pair, methods=["PUT"]),
            Route("/v1/pair/{code}/claim", self.claim, methods=["POST"]),
            Route("/v1/pair/{code}/status", self.pair_status, methods=["GET"]),
            Route("/v1/pair/{code}/skill", self.skill, methods=["GET"]),
            Route("/p/{code}", self.link, methods=["GET"]),
            Route("/health", self.health, methods=["GET"]),
            Route("/v1/stats", self.stats, methods=["GET"]),
        ]

    @asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        async def sweep() -> None:
            while True:
                await anyio.sleep(SWEEP_EVERY)
                # A ledger that fails today is asked again in a while; the relay goes on meanwhile.
                with suppress(Exception):
                    self._exchange.sweep()

        async with anyio.create_task_group() as group:
            group.start_soon(sweep)
            yield
            self._waiting.close()
            group.cancel_scope.cancel()

    async def create(self, request: Request) -> Response:
        return answer(self._exchange.create(fields.creation(await self._body(request))), 201)

    async def describe(self, request: Request) -> Response:
        return answer(self._exchange.describe(_session(request)))

    async def join(self, request: Request) -> Response:
        return answer(self._exchange.join(_session(request), _agent(request)))

    async def send(self, request: Request) -> Response:
        session_id = _session(request)
        text, payload = fields.sending(await self._body(request))
        reply = self._exchange.send(session_id, _agent(request), _key(request), text, payload)
        self._waiting.ring(session_id)
        return answer(reply, 201)

    async def poll(self, request: Request) -> Response:
        session_id, asked = _session(request), request.query_params
        deadline = anyio.current_time() + fields.seconds(asked.get("wait"))
        while True:
            reply = self._exchange.poll(
                session_id, _agent(request), asked.get("after"), members=asked.get("members") == "true"
            )
            left = deadline - anyio.current_time()
            if reply["messages"] or left <= 0 or self._waiting.closed:
                return answer(reply)
            await self._waiting.wait(session_id, left)

    async def renew(self, request: Request) -> Response:
        ttl = fields.renewal(await self._body(request))
        return answer(self._exchange.renew(_session(request), _agent(request), ttl))

    async def leave(self, request: Request) -> Response:
        session_id = _session(request)
        reply = self._exchange.leave(session_id, request.path_params["agent_id"], _agent(request), _key(request))
        # A poll of the leaver's that is held open must not stay open: it is no member any more.
        self._waiting.ring(session_id)
        return answer(reply)

    async def pair(self, request: Request) -> Response:
        offer = self._exchange.pair(fields.paired_session(await self._body(request)))
        url = f"{self._origin(request)}/p/{offer['code']}"
        return answer({"code": offer["code"], "url": url, "expiresAt": offer["expiresAt"]}, 201)

    async def claim(self, request: Request) -> Response:
        return answer(self._exchange.claim(_code(request), _agent(request)))

    async def pair_status(self, request: Request) -> Response:
        return answer({"state": self._exchange.codes.state(_code(request))})

    async def skill(self, request: Request) -> Response:
        status, code, expires_at, state = self._invitation(request)
        text = skill.skill(self._origin(request), code, expires_at) if status == 200 else skill.over(state)
        return Response(text, status, _PAGE_HEADERS, media_type="text/markdown")

    async def link(self, request: Request) -> Response:
        if "text/html" not in request.headers.get("accept", ""):
            to_skill = f"/v1/pair/{quote(_code(request), safe='')}/skill"
            return RedirectResponse(to_skill, 301, _PAGE_HEADERS)
        status, code, expires_at, state = self._invitation(request)
        page = pages.invitation(self._origin(request), code, expires_at) if status == 200 else pages.over(state)
        return Response(page, status, {**_PAGE_HEADERS, "Content-Security-Policy": pages.POLICY}, "text/html")

    async def health(self, _request: Request) -> Response:
        return answer(
            {
                "status": "ok",
                "version": __version__,
                "uptime": self._exchange.uptime(),
                "capabilities": {"messageFormat": ["text", "json"], "longPoll": True},
            }
        )

    async def stats(self, _request: Request) -> Response:
        return answer(self._exchange.stats())

    async def _body(self, request: Request) -> bytes:
        return await read_body(request, self._body_limit)

    def _origin(self, request: Request) -> str:
        # Not request.url: a Host header that is no host makes it raise.
        return origin(request.scope["scheme"], request.headers.get("host"), self._bound)

    def _invitation(self, request: Request) -> tuple[int, str, str, str]:
        """Give the HTTP status, the code, its end and its state, for the pages of a pairing link."""
        codes = self._exchange.codes
        try:
            offer = codes.find(_code(request))
        except Refusal:
            return 404, "", "", "unknown"
        state = codes.state(offer.code)
        return 200 if state == "pending" else 410, offer.code, stamp(offer.expires_at), state


# The address of the page is the code itself: it must reach no cache and no other site.
_PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept",
    "X-Content-Type-Options": "nosniff",
}


def _session(request: Request) -> str:
    return str(request.path_params["session_id"])


def _code(request: Request) -> str:
    return str(request.path_params["code"])


def _agent(request: Request) -> str | None:
    return request.headers.get("x-agent-id")


def _key(request: Request) -> str | None:
    return request.headers.get("x-session-key")


async def _refused(_request: Request, refusal: Exception) -> Response:
    if not isinstance(refusal, Refusal):
        raise refusal
    return refuse(refusal)


async def _not_routed(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    return answer({"error": code, "message": error.detail}, error.status_code, error.headers)
