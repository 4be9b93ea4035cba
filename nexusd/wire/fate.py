"""What an answer, or the lack of one, means: the one place that decides it."""

from __future__ import annotations

import json
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from nexusd.errors import Fate, RequestError
from nexusd.timestamps import known

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterable, Mapping

    from nexusd.wire.calls import Call

# The protocol's own error codes (protocol.md, "Clients disagree"). Only these can end a session, cost a membership or
# refuse a file for good; any other word under these statuses was said by something in between: a gateway, a firewall.
MEMBERSHIP_CODES = frozenset({"forbidden", "agent_not_in_session", "invalid_session_key", "missing_session_key"})
ENTRY_CODES = frozenset({"agent_id_taken", "session_full"})
MISSING_CODES = frozenset({"session_not_found", "agent_not_found", "code_not_found", "code_expired_or_used"})
CONTENT_CODES = frozenset({"invalid_body", "invalid_json", "invalid_request", "missing_agent_id", "payload_too_large"})
_FINAL = dict.fromkeys((401, 403, 404, 409), MEMBERSHIP_CODES | ENTRY_CODES | MISSING_CODES)
_FINAL |= dict.fromkeys((400, 422), CONTENT_CODES)

LONGEST_WAIT = 300.0  # seconds; a Retry-After beyond it is cut, lest one bad header silence a server for good
_WORDS = 500  # characters of the server's own words that are passed on


class Answer(NamedTuple):
    """A whole HTTP answer; header names in lower case. `cut`: the body was longer than we read."""

    status: int
    headers: Mapping[str, str] = MappingProxyType({})
    body: bytes = b""
    cut: bool = False

    @classmethod
    async def read(
        cls, status: int, headers: Iterable[tuple[bytes, bytes]], body: AsyncIterable[bytes], limit: int
    ) -> Self:
        """An answer as it comes, at most `limit` bytes of it. Values of a header that came twice are joined.

        Of a compressed body, which nobody asked for, nothing is read: a bomb in 1 kB is one all the same.
        """
        found: dict[str, str] = {}
        for name, value in headers:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            found[key] = f"{found[key]}, {text}" if key in found else text
        taken = bytearray()
        if found.get("content-encoding", "").lower() in ("", "identity"):
            async for chunk in body:
                taken += chunk
                if len(taken) > limit:
                    break
        return cls(status, found, bytes(taken[:limit]), cut=len(taken) > limit)

    @property
    def server_time(self) -> float | None:
        """The server's clock (Unix seconds) by its Date header."""
        try:
            return known(parsedate_to_datetime(self.headers["date"]).timestamp())
        except (KeyError, ValueError, TypeError, OverflowError):
            return None


def fate_of(status: int | None, code: str | None = None, *, written: bool = True) -> Fate:
    """The fate of a request that did not succeed.

    `status` None: no answer was read; `written`: whether a byte of the request may have reached the server.
    `code` is the error code of the answer's JSON, or None where something else answered.

    - nothing written                                         NOT_SENT
    - no answer, 2xx that cannot be read, 408, 5xx            MAYBE_SENT
    - 1xx, 3xx (never followed: the path is a secret)         NOT_SENT
    - 429, 412 and `cooldown_active` (announced extensions)   WAIT
    - 503 `session_memory_full` (our relay's extension)       WAIT
    - 404 `session_not_found`                                 GONE
    - 413; 400, 401, 403, 404, 409, 422 with the protocol's
      own code for that status (protocol.md)                  REFUSED
    - any other 4xx: not the protocol's word                  NOT_SENT
    """
    if not written:
        return Fate.NOT_SENT
    if code == "session_memory_full" and status == 503:
        return Fate.WAIT
    if status is None or 200 <= status < 300 or status == 408 or status >= 500:
        return Fate.MAYBE_SENT
    if status < 400:
        return Fate.NOT_SENT
    if status in (412, 429) or code == "cooldown_active":
        return Fate.WAIT
    if status == 404 and code == "session_not_found":
        return Fate.GONE
    if status == 413 or code in _FINAL.get(status, ()):
        return Fate.REFUSED
    return Fate.NOT_SENT


def unanswered(call: Call, code: str, reason: str | Exception, *, written: bool) -> RequestError:
    """The error for a call without an answer; `reason` in words, or what a library raised."""
    words = str(reason) or type(reason).__name__
    return RequestError(fate_of(None, written=written), code, conceal(call, words))


def unreadable(call: Call, answer: Answer, reason: str) -> RequestError:
    """The error for a successful status whose body is not what the protocol says."""
    return RequestError(
        fate_of(answer.status),
        "non_json_response",
        conceal(call, f"the server's answer is {reason}"),
        status=answer.status,
    )


def refused(call: Call, answer: Answer) -> RequestError:
    """The error for an answer whose status is not a success."""
    body = error_object(answer)
    code = body["error"] if body else None
    if body:
        words = str(body.get("message") or code)
    elif 300 <= answer.status < 400:
        words = f"the server answered with a redirect ({answer.status}), which is never followed"
    else:
        words = f"status {answer.status} without the protocol's JSON error: a gateway in between may have answered"
    return RequestError(
        fate_of(answer.status, code),
        code or ("rate_limit_exceeded" if answer.status == 429 else "non_json_response"),
        conceal(call, words),
        status=answer.status,
        retry_after=_retry_after(answer),
        body=_concealed(call, body) if body else None,
    )


def error_object(answer: Answer) -> dict[str, Any] | None:
    """The protocol's error object, or None where something else answered."""
    try:
        body = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) and isinstance(body.get("error"), str) else None


def conceal(call: Call, words: str) -> str:
    """The words without the call's secrets, printable, cut to a sensible length."""
    for secret in call.secrets:
        words = words.replace(secret, "[secret]")
    return "".join(c if c.isprintable() else "\ufffd" for c in words[:_WORDS])


def _concealed(call: Call, value: Any) -> Any:
    if isinstance(value, str):
        return conceal(call, value)
    if isinstance(value, list):
        return [_concealed(call, v) for v in value]
    if isinstance(value, dict):
        return {conceal(call, str(k)): _concealed(call, v) for k, v in value.items()}
    return value


def _retry_after(answer: Answer) -> float | None:
    value = answer.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value), LONGEST_WAIT)
    try:
        when = parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    now = answer.server_time
    return None if now is None else max(0.0, min(when - now, LONGEST_WAIT))
