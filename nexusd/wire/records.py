"""What the server answers, as records. Each keeps the whole object in `raw`: servers may add fields.

Their reprs hold no secret.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from nexusd.timestamps import timestamp
from nexusd.wire.calls import CURSOR
from nexusd.wire.fate import unreadable

if TYPE_CHECKING:
    from nexusd.wire.calls import Call
    from nexusd.wire.fate import Answer

Raw = dict[str, Any]
LONGEST = 100 * 365 * 86400.0  # seconds; beyond it clocks and timers overflow


def json_object(call: Call, answer: Answer) -> Raw:
    """The answer's JSON object, or RequestError: a success that cannot be read may still have been acted on."""
    if answer.cut:
        raise unreadable(call, answer, "longer than any the protocol knows")
    try:
        body = json.loads(answer.body.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise unreadable(call, answer, "not JSON") from None
    if not isinstance(body, dict):
        raise unreadable(call, answer, "not a JSON object")
    return body


def cursor_number(value: object) -> int | None:
    """A cursor as a number: a string of ASCII digits or a whole number; anything else is None."""
    if isinstance(value, str) and CURSOR.fullmatch(value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _no_constant(name: str) -> None:
    raise ValueError(name)


_OF_A_SESSION = {"sessionId", "state", "ttl", "maxAgents", "expiresAt", "agents", "creatorAgentId"}
_OF_AN_ENTRY = {"sessionId", "sessionKey", "agentsOnline", "expiresAt"}


def _spoken(raw: Raw, fields: set[str]) -> None:
    """KeyError where a success holds nothing of what the protocol says: a gateway's `{"ok": true}` has done nothing."""
    if not raw.keys() & fields:
        raise KeyError(", ".join(sorted(fields)))


class Lease(NamedTuple):
    """How long a session lives: `ttl` in seconds, `expires_at` in Unix seconds of the server's clock, or unknown."""

    ttl: float | None
    expires_at: float | None

    @classmethod
    def of(cls, raw: Raw) -> Self:
        """From any reply that speaks of it."""
        return cls(_seconds(raw.get("ttl")), timestamp(raw.get("expiresAt")))


class Session(NamedTuple):
    """A session, as created or as the server describes it. `agents` are ids: servers list them in two forms."""

    session_id: str
    lease: Lease
    agents: tuple[str, ...]
    creator: str | None
    session_key: str | None
    raw: Raw

    def __repr__(self) -> str:
        return f"Session(lease={self.lease}, agents={self.agents}, creator={self.creator!r})"

    @classmethod
    def of(cls, raw: Raw, session: str | None = None) -> Self:
        """From `PUT /v1/sessions`, `GET /v1/sessions/:id` or a renewal; KeyError without an id.

        `session`: the id that was asked about, which a reply need not repeat.
        """
        if session is not None:
            _spoken(raw, _OF_A_SESSION)
            if raw.get("sessionId", session) != session:
                raise KeyError("the sessionId that was asked about")
            raw = {"sessionId": session, **raw}
        listed = raw.get("agents")
        agents = (
            tuple(
                name
                for name in (a.get("agentId") if isinstance(a, dict) else a for a in listed or ())
                if isinstance(name, str)
            )
            if isinstance(listed, list)
            else ()
        )
        return cls(
            _text(raw, "sessionId"),
            Lease.of(raw),
            agents,
            _maybe(raw, "creatorAgentId"),
            _maybe(raw, "sessionKey"),
            raw,
        )


class Joined(NamedTuple):
    """An entry by join or claim. `session_key` is this agent's credential, where the server gives one."""

    session_id: str | None
    session_key: str | None
    lease: Lease
    raw: Raw

    def __repr__(self) -> str:
        return f"Joined(lease={self.lease})"

    @classmethod
    def of(cls, raw: Raw) -> Self:
        """From `POST …/join` or `POST /v1/pair/:code/claim`; KeyError where it is neither's."""
        if raw.get("status") not in ("joined", "claimed"):
            _spoken(raw, _OF_AN_ENTRY)
        return cls(_maybe(raw, "sessionId"), _maybe(raw, "sessionKey"), Lease.of(raw), raw)


def is_redacted(raw: Raw) -> bool:
    """Whether an answer to a message says that its text was changed. Servers have words of their own for it."""
    warnings = json.dumps([raw.get(name) for name in ("warning", "warnings")]).lower()
    return bool(raw.get("redacted")) or any(word in warnings for word in ("redact", "secret", "masked"))


class Sent(NamedTuple):
    """An accepted message. `redacted`: the server says that it changed the text."""

    id: str
    cursor: int
    lease: Lease
    redacted: bool
    raw: Raw

    def __repr__(self) -> str:
        return f"Sent(id={self.id!r}, cursor={self.cursor}, lease={self.lease}, redacted={self.redacted})"

    @classmethod
    def of(cls, raw: Raw) -> Self:
        """From `POST …/messages`; KeyError without a readable id and cursor."""
        cursor = cursor_number(raw.get("cursor"))
        if cursor is None:
            raise KeyError("cursor")
        return cls(_text(raw, "id"), cursor, Lease.of(raw), is_redacted(raw), raw)


class PairingCode(NamedTuple):
    """A pairing code and its link; single use, a secret until claimed."""

    code: str
    url: str | None
    expires_at: float | None
    raw: Raw

    def __repr__(self) -> str:
        return f"PairingCode(expires_at={self.expires_at})"

    @classmethod
    def of(cls, raw: Raw) -> Self:
        """From `PUT /v1/pair`."""
        return cls(_text(raw, "code"), _maybe(raw, "url"), timestamp(raw.get("expiresAt")), raw)


class Health(NamedTuple):
    """A server's health. Older servers name no capabilities: then text only."""

    uptime: float | None
    takes_json: bool
    long_poll: bool
    raw: Raw

    def __repr__(self) -> str:
        return f"Health(uptime={self.uptime}, takes_json={self.takes_json}, long_poll={self.long_poll})"

    @classmethod
    def of(cls, raw: Raw) -> Self:
        """From `GET /health`."""
        able = raw.get("capabilities")
        able = able if isinstance(able, dict) else {}
        formats = able.get("messageFormat")
        return cls(
            0.0 if raw.get("uptime") == 0 else _seconds(raw.get("uptime")),  # it says so in its first second
            isinstance(formats, list) and "json" in formats,
            able.get("longPoll") is True,
            raw,
        )


def _seconds(value: object) -> float | None:
    """A span of time above 0, or None for what no clock can hold."""
    known = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < LONGEST
    return float(value) if known and isinstance(value, int | float) else None


def _text(raw: Raw, name: str) -> str:
    value = raw[name]
    if isinstance(value, str) and value:
        return value
    raise KeyError(name)


def _maybe(raw: Raw, name: str) -> str | None:
    value = raw.get(name)
    return value if isinstance(value, str) and value else None
