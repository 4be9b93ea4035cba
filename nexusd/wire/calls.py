"""Every call of the protocol as a value; nothing here sends anything."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple
from urllib.parse import quote

AGENT_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
CURSOR = re.compile(r"[0-9]{1,30}")


class Call(NamedTuple):  # not a dataclass: importing those would cost a hand command a fifth of its time
    """One request: what to send, and what of it must never be shown."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None = None
    secrets: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Call(method={self.method!r})"

    @property
    def idempotent(self) -> bool:
        """Whether a repeat can do no harm."""
        return self.method == "GET"


def _call(
    method: str,
    path: str,
    *secrets: str | None,
    agent: str | None = None,
    key: str | None = None,
    body: dict[str, Any] | None = None,
) -> Call:
    headers = {"Accept": "application/json"}
    if agent is not None:
        headers["X-Agent-Id"] = agent
    if key is not None:
        headers["X-Session-Key"] = key
    data = None
    if body is not None:
        headers["Content-Type"] = "application/json"
        data = json.dumps(body, ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogatepass")
    return Call(method, path, headers, data, tuple(s for s in (*secrets, key) if s))


def _session(session: str, rest: str = "") -> str:
    return f"/v1/sessions/{quote(session, safe='')}{rest}"


def create(
    *, ttl: int | None = None, max_agents: int | None = None, greeting: str | None = None, creator: str | None = None
) -> Call:
    """Create a session; `ttl` in seconds."""
    body = {"ttl": ttl, "maxAgents": max_agents, "greeting": greeting, "creatorAgentId": creator}
    return _call("PUT", "/v1/sessions", body={k: v for k, v in body.items() if v is not None})


def session(session: str) -> Call:
    """What the server says of a session to anyone who knows its id."""
    return _call("GET", _session(session), session)


def join(session: str, agent: str) -> Call:
    """Enter a session as `agent`."""
    return _call("POST", _session(session, "/join"), session, agent=agent, body={})


def leave(session: str, agent: str, key: str | None) -> Call:
    """Take `agent` out of a session; the server wants its key."""
    return _call("DELETE", _session(session, f"/agents/{quote(agent, safe='')}"), session, agent=agent, key=key)


def send(session: str, agent: str, key: str | None, *, text: str | None = None, payload: Any = None) -> Call:
    """Send a message: text, a JSON payload, or both. There is no idempotency key: a repeat is a second message."""
    body: dict[str, Any] = {}
    if text is not None:
        body["text"] = text
    if payload is not None:
        body["json"] = payload
    return _call("POST", _session(session, "/messages"), session, agent=agent, key=key, body=body)


def poll(session: str, agent: str, *, after: str | None = None, members: bool = False, wait: int = 0) -> Call:
    """Messages after a cursor; without `after` from the very first, greeting included. `wait` (s): our relay only."""
    query = [f"after={quote(after, safe='')}"] if after is not None else []
    if members:
        query.append("members=true")
    if wait:
        query.append(f"wait={wait}")
    path = _session(session, "/messages") + ("?" + "&".join(query) if query else "")
    return _call("GET", path, session, agent=agent)


def renew(session: str, agent: str, *, ttl: int | None = None) -> Call:
    """Reset a session's time to live, to `ttl` seconds if given. The body is never empty: some servers refuse that."""
    return _call("POST", _session(session, "/renew"), session, agent=agent, body={} if ttl is None else {"ttl": ttl})


def pair(session: str) -> Call:
    """Ask for a pairing code."""
    return _call("PUT", "/v1/pair", session, body={"sessionId": session})


def claim(code: str, agent: str) -> Call:
    """Use up a pairing code: joins its session as `agent`."""
    return _call("POST", f"/v1/pair/{quote(code, safe='')}/claim", code, agent=agent, body={})


def pair_status(code: str) -> Call:
    """Whether a pairing code is pending, claimed or expired."""
    return _call("GET", f"/v1/pair/{quote(code, safe='')}/status", code)


def health() -> Call:
    """The server's health, version, uptime and capabilities."""
    return _call("GET", "/health")


def stats() -> Call:
    """The server's public counts."""
    return _call("GET", "/v1/stats")
