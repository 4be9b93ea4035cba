"""What a request may say: each check gives the value back or raises the Refusal that the protocol names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from nexusd.relay.refusal import Refusal
from nexusd.relay.session import SYSTEM

DEFAULT_TTL, MIN_TTL, MAX_TTL = 3660, 60, 86_400
"""Seconds; the default is the public server's."""
DEFAULT_AGENTS, MAX_AGENTS = 50, 1000
MAX_WAIT = 60.0

_AGENT_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_CURSOR = re.compile(r"[0-9]{1,30}")
_SECONDS = re.compile(r"[0-9]{1,2}(\.[0-9]{1,3})?")

T = TypeVar("T", int, str)
_TYPE_NAMES: dict[type, str] = {int: "a whole number", str: "a string"}


@dataclass(slots=True, frozen=True)
class Creation:
    """What `PUT /v1/sessions` asks for; `ttl` in seconds."""

    ttl: int = DEFAULT_TTL
    max_agents: int = DEFAULT_AGENTS
    greeting: str | None = None
    creator: str | None = None


def invalid(*faults: str) -> Refusal:
    """A 400 `invalid_request` that lists every fault."""
    return Refusal(400, "invalid_request", "; ".join(faults), faults)


def body_object(body: bytes) -> dict[str, msgspec.Raw]:
    """The top level of a JSON body, its values still undecoded (and so unchanged to the byte).

    Raises 400 `invalid_json` for what is not strict UTF-8 JSON (an empty body too), 400 `invalid_body` for JSON that
    is no object.
    """
    try:
        body.decode()
        return msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        raise Refusal(400, "invalid_body", "the body must be a JSON object") from None
    except (ValueError, RecursionError):
        raise Refusal(400, "invalid_json", "the body is not JSON; where there is nothing to say, send {}") from None


def creation(body: bytes) -> Creation:
    """Read the body of `PUT /v1/sessions`; nothing at all counts as `{}`."""
    given = body_object(body or b"{}")
    faults: list[str] = []
    ttl = _typed(given, "ttl", int, faults)
    max_agents = _typed(given, "maxAgents", int, faults)
    greeting = _typed(given, "greeting", str, faults)
    creator = _typed(given, "creatorAgentId", str, faults)
    if faults:
        raise invalid(*faults)
    return Creation(
        ttl=DEFAULT_TTL if ttl is None else ttl,
        max_agents=DEFAULT_AGENTS if max_agents is None else max_agents,
        greeting=greeting or None,
        creator=creator,
    )


def renewal(body: bytes) -> int | None:
    """Read the body of a renewal: the ttl it asks for in seconds, if any.

    Strict like the public server: an empty body is 400 `invalid_json`.
    """
    faults: list[str] = []
    ttl = _typed(body_object(body), "ttl", int, faults)
    if faults:
        raise invalid(*faults)
    return ttl


def sending(body: bytes) -> tuple[str | None, bytes | None]:
    """Read the body of a send: its `text` and its `json` as the bytes that came. A null counts as absent."""
    given = body_object(body)
    faults: list[str] = []
    text = _typed(given, "text", str, faults)
    payload = bytes(given.get("json", b"null"))
    if text == "":
        faults.append("text must not be empty")
    if not faults and text is None and payload == b"null":
        faults.append("text (a string) or json must be given")
    if faults:
        raise invalid(*faults)
    return text, None if payload == b"null" else payload


def paired_session(body: bytes) -> str:
    """Read the body of `PUT /v1/pair`: its session id."""
    faults: list[str] = []
    session_id = _typed(body_object(body), "sessionId", str, faults)
    if session_id is None:
        raise invalid(*(faults or ["sessionId (a string) must be given"]))
    return session_id


def check_sizes(ttl: int, max_agents: int = DEFAULT_AGENTS) -> None:
    """Raise 400 `invalid_request`, naming the range, for a ttl (seconds) or number of agents outside it."""
    faults = []
    if not MIN_TTL <= ttl <= MAX_TTL:
        faults.append(f"ttl must be {MIN_TTL} to {MAX_TTL} seconds")
    if not 1 <= max_agents <= MAX_AGENTS:
        faults.append(f"maxAgents must be 1 to {MAX_AGENTS}")
    if faults:
        raise invalid(*faults)


def agent_id(header: str | None) -> str:
    """Check an agent's name: 400 `missing_agent_id` without one, 400 `invalid_request` for a bad or reserved one."""
    if not header:
        raise Refusal(400, "missing_agent_id", "the header X-Agent-Id must say which agent asks")
    if not _AGENT_ID.fullmatch(header):
        raise invalid("an agent id is 1 to 128 of A-Z a-z 0-9 _ -")
    if header == SYSTEM:
        raise invalid(f"the agent id {SYSTEM} belongs to the server")
    return header


def cursor(after: str | None) -> int | None:
    """`after` as a number; only ASCII digits are a cursor (`int` alone would also take `1_0`)."""
    if after is None:
        return None
    if not _CURSOR.fullmatch(after):
        raise invalid("after must be a cursor: 1 to 30 decimal digits")
    return int(after)


def seconds(wait: str | None) -> float:
    """How long a poll may be held open, in seconds; 0 where nothing is asked. An extension of this relay."""
    if wait is None:
        return 0.0
    if not _SECONDS.fullmatch(wait) or float(wait) > MAX_WAIT:
        raise invalid(f"wait must be 0 to {MAX_WAIT:.0f} seconds")
    return float(wait)


def _typed(given: dict[str, msgspec.Raw], name: str, kind: type[T], faults: list[str]) -> T | None:
    raw = given.get(name)
    if raw is None or bytes(raw) == b"null":
        return None
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.DecodeError:
        faults.append(f"{name} must be {_TYPE_NAMES[kind]}")
        return None
