"""The outermost layer of the HTTP door: it counts requests, bounds bodies, and lets no fault out unanswered."""

from __future__ import annotations

import secrets
import sys
import traceback
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from nexusd.relay.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from nexusd.relay.limit import RateLimit


def answer(reply: dict[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Build a JSON answer. It may hold ids and keys, so nothing between us and the client may keep it."""
    return Response(
        msgspec.json.encode(reply),
        status,
        {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})},
        media_type="application/json",
    )


def refuse(refusal: Refusal) -> Response:
    """Turn a refusal into its answer."""
    headers = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
    return answer(refusal.as_reply(), refusal.status, headers)


async def read_body(request: Request, limit: int) -> bytes:
    """Read a body of at most `limit` bytes; 413 `body_too_large` as soon as it is clear that it is longer."""
    too_large = Refusal(413, "body_too_large", f"a body may have {limit} bytes")
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > limit:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large
    return bytes(body)


class Door:
    """Stands before `app`: 429 for an address that asks too often, 500 with an `X-Request-Id` for a fault of ours.

    A fault is reported on stderr by its kind and place alone: its words might hold a session id.
    """

    def __init__(self, app: ASGIApp, limit: RateLimit) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            self._limit.take((scope.get("client") or ("",))[0])
            await self._app(scope, receive, watched)
        except Refusal as refusal:
            await refuse(refusal)(scope, receive, send)
        except ClientDisconnect:
            return  # gone in the middle of its own body: there is nobody to answer
        except Exception as error:  # whatever it is, it stays this one request's
            request_id = secrets.token_hex(8)
            place = traceback.extract_tb(error.__traceback__)[-1]
            kind = type(error).__name__
            print(  # noqa: T201 - the relay has no log; this goes to stderr
                f"relay: request {request_id} failed: {kind} at {place.filename}:{place.lineno}", file=sys.stderr
            )
            if begun:
                raise ConnectionAbortedError(request_id) from None
            failed = {"error": "internal_error", "message": f"the relay failed; its log names request {request_id}"}
            await answer(failed, 500, {"X-Request-Id": request_id})(scope, receive, send)
