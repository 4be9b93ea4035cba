"""What the relay decides, without I/O: who is in a session, who may say what, and what each of them hears.

Every method answers with the body of the protocol's success reply, or raises Refusal. Nothing here waits, reads a
clock of its own or writes a file: time, randomness and the ledger are handed in, so a test can stand any server, also
a misbehaving one, on these decisions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexusd.relay import fields, keys
from nexusd.relay.ledger import NoLedger
from nexusd.relay.living import INACTIVE_AFTER, Living
from nexusd.relay.pairing import PairingBook
from nexusd.relay.redact import redact, redact_json
from nexusd.relay.refusal import Refusal
from nexusd.relay.session import Member, Message, Session
from nexusd.timestamps import stamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexusd.relay.ledger import Ledger

SESSION_WEIGHT = 16 * 1024 * 1024
"""Bytes of living messages that one session may hold; more is refused as temporary, never dropped in silence."""


class Exchange:
    """All sessions of one relay.

    `clock` gives seconds since the epoch, `entropy(n)` n unguessable bytes, `ledger` what is known from before;
    `inactive_after` is in seconds, `session_weight` in bytes.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        entropy: Callable[[int], bytes],
        ledger: Ledger | None = None,
        *,
        inactive_after: float = INACTIVE_AFTER,
        session_weight: int = SESSION_WEIGHT,
    ) -> None:
        self._clock = clock
        self._entropy = entropy
        self._ledger: Ledger = NoLedger() if ledger is None else ledger
        self._living = Living(clock, self._ledger, inactive_after)
        self._session_weight = session_weight
        self._messages_taken = 0
        self._born = clock()
        self.codes = PairingBook(clock, entropy)

    def create(self, wanted: fields.Creation | None = None) -> dict[str, Any]:
        """Open a session; a creator joins at once, is never removed for inactivity and cannot leave."""
        wanted = wanted or fields.Creation()
        fields.check_sizes(wanted.ttl, wanted.max_agents)
        now = self._clock()
        session = Session(
            id=self._entropy(24).hex(),
            ttl=wanted.ttl,
            max_agents=wanted.max_agents,
            created_at=now,
            expires_at=now + wanted.ttl,
            greeting=redact(wanted.greeting)[0] if wanted.greeting else None,
        )
        reply = {"sessionId": session.id, "ttl": session.ttl, "maxAgents": session.max_agents, "state": "active"}
        if wanted.creator is not None:
            session.creator = fields.agent_id(wanted.creator)
            key, session.members[session.creator] = self._admit(now)
            reply |= {"creatorAgentId": session.creator, "sessionKey": key}
        self._living.open(session)
        return reply | {"expiresAt": stamp(session.expires_at)}

    def describe(self, session_id: str) -> dict[str, Any]:
        """Tell what a session is; knowing its id is being let in, so no header is asked for."""
        session = self._living.find(session_id)
        reply = {
            "sessionId": session.id,
            "state": "active",
            "agents": _agents(session),
            "ttl": session.ttl,
            "maxAgents": session.max_agents,
            "createdAt": stamp(session.created_at),
            "expiresAt": stamp(session.expires_at),
        }
        if session.creator is not None:
            reply["creatorAgentId"] = session.creator
        return reply

    def join(self, session_id: str, agent_id: str | None) -> dict[str, Any]:
        """Let an agent in and give it its key: 409 `agent_id_taken` for a name in use, 409 `session_full`."""
        name = fields.agent_id(agent_id)
        session = self._living.find(session_id)
        if name in session.members:
            raise Refusal(409, "agent_id_taken", "an agent of this name is already in the session")
        if len(session.members) >= session.max_agents:
            raise Refusal(409, "session_full", f"the session already has its {session.max_agents} agents")
        key, member = self._admit(self._clock())
        self._ledger.joined(session.id, name, member)
        session.members[name] = member
        return {
            "status": "joined",
            "agentsOnline": len(session.members),
            "sessionKey": key,
            "expiresAt": stamp(session.expires_at),
        }

    def send(
        self, session_id: str, agent_id: str | None, key: str | None, text: str | None, payload: bytes | None = None
    ) -> dict[str, Any]:
        """Take a message in; `payload` is JSON text. It slides the session's expiry, as only renewals do besides."""
        name = fields.agent_id(agent_id)
        session = self._living.find(session_id)
        member = _member(session, name, "forbidden")
        if key and not keys.opens(member.key_digest, key):
            raise Refusal(403, "invalid_session_key", "the session key is not this agent's")
        text, in_text = redact(text) if text is not None else (None, ())
        payload, in_payload = redact_json(payload) if payload is not None else (None, ())
        now = self._clock()
        message = Message(
            id=f"msg_{self._entropy(8).hex()}",
            agent_id=name,
            cursor=session.last_cursor + 1,
            verified=bool(key),
            sent_at=now,
            expires_at=now + session.ttl,
            text=text,
            payload=payload,
        )
        if session.weight + message.weight > self._session_weight:
            wait = max(1, int(session.messages[0].expires_at - now) + 1) if session.messages else session.ttl
            raise Refusal(429, "rate_limit_exceeded", "the session holds all it can hold", retry_after=wait)
        self._living.extend(session, session.ttl)
        session.append(message)
        member.last_seen = now
        self._messages_taken += 1
        reply = {"id": message.id, "cursor": str(message.cursor), "expiresAt": stamp(message.expires_at)}
        if found := sorted({*in_text, *in_payload}):
            reply["warning"] = f"what looked like a secret was redacted before anybody saw it: {', '.join(found)}"
        return reply

    def poll(
        self, session_id: str, agent_id: str | None, after: str | None = None, *, members: bool = False
    ) -> dict[str, Any]:
        """Tell what was said after the cursor `after`, the asker's own words too.

        Without `after` it begins with the greeting. Protocol: polling does not keep a session alive, and a cursor
        from before a restart hears nothing.
        """
        name = fields.agent_id(agent_id)
        start = fields.cursor(after)
        session = self._living.find(session_id)
        now = self._clock()
        _member(session, name, "agent_not_in_session").last_seen = now
        found = session.after(start, now)
        reply: dict[str, Any] = {
            "messages": [message.as_reply() for message in found],
            "nextCursor": str(found[-1].cursor) if found else after or "0",
        }
        if members:
            reply["members"] = [
                {"agentId": who, "lastSeenAt": stamp(member.last_seen)} for who, member in session.members.items()
            ]
        return reply

    def renew(self, session_id: str, agent_id: str | None, ttl: int | None = None) -> dict[str, Any]:
        """Let the session live for its ttl (seconds) from now, or for a new one that it keeps."""
        name = fields.agent_id(agent_id)
        session = self._living.find(session_id)
        member = _member(session, name, "forbidden")
        wanted = session.ttl if ttl is None else ttl
        fields.check_sizes(wanted)
        now = self._clock()
        self._living.extend(session, wanted)
        member.last_seen = now
        return {
            "sessionId": session.id,
            "state": "active",
            "ttl": session.ttl,
            "expiresAt": stamp(session.expires_at),
            "agents": _agents(session),
        }

    def leave(self, session_id: str, leaver: str, agent_id: str | None, key: str | None) -> dict[str, Any]:
        """Let `leaver` out, on its own word (`agent_id`) and key; the creator stays."""
        name = fields.agent_id(agent_id)
        session = self._living.find(session_id)
        if not key:
            raise Refusal(401, "missing_session_key", "the header X-Session-Key must show the agent's key")
        if leaver not in session.members:
            raise Refusal(404, "agent_not_found", "no agent of this name is in the session")
        if leaver != name:
            raise Refusal(403, "forbidden", "an agent can only leave for itself")
        if not keys.opens(session.members[leaver].key_digest, key):
            raise Refusal(401, "invalid_session_key", "the session key is not this agent's")
        if leaver == session.creator:
            raise Refusal(403, "forbidden", "the creator cannot leave its session")
        self._ledger.left(session.id, [leaver])
        del session.members[leaver]
        return {"ok": True, "sessionId": session.id, "agentId": leaver, "message": f"{leaver} has left"}

    def pair(self, session_id: str) -> dict[str, Any]:
        """Make a pairing code for a session: `{"code", "expiresAt"}`; the URL is the door's to add."""
        offer = self.codes.offer(self._living.find(session_id).id)
        return {"code": offer.code, "expiresAt": stamp(offer.expires_at)}

    def claim(self, code: str, agent_id: str | None) -> dict[str, Any]:
        """Use a pairing code up and join. A claim that fails does not burn the code."""
        name = fields.agent_id(agent_id)
        session_id = self.codes.session_of(code)
        joined = self.join(session_id, name)
        self.codes.burn(code)
        return {
            "sessionId": session_id,
            "status": "claimed",
            "sessionKey": joined["sessionKey"],
            "expiresAt": joined["expiresAt"],
        }

    def stats(self) -> dict[str, Any]:
        """Count living sessions, the agents in them, and the messages taken since the start; uptime in seconds."""
        self.sweep()
        sessions, agents = self._living.count()
        return {
            "activeSessions": sessions,
            "totalAgents": agents,
            "totalMessages": self._messages_taken,
            "uptime": self.uptime(),
        }

    def uptime(self) -> float:
        """Seconds since this exchange began."""
        return round(max(0.0, self._clock() - self._born), 3)

    def sweep(self) -> None:
        """Forget what is over. Costs nothing while nothing is due, so every request may call it."""
        self._living.sweep()
        self.codes.sweep()

    def _admit(self, now: float) -> tuple[str, Member]:
        key, digest = keys.issue(self._entropy)
        return key, Member(key_digest=digest, joined_at=now, last_seen=now)


def _member(session: Session, name: str, code: str) -> Member:
    member = session.members.get(name)
    if member is None:
        raise Refusal(403, code, "this agent is not in the session")
    return member


def _agents(session: Session) -> list[dict[str, str]]:
    return [{"agentId": name, "joinedAt": stamp(member.joined_at)} for name, member in session.members.items()]
