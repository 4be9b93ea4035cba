"""What a session holds: its members and the messages still alive in it. Times are seconds since the epoch, UTC."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import msgspec

from nexusd.timestamps import stamp

SYSTEM = "system"


@dataclass(slots=True)
class Member:
    """An agent in a session. Only a digest of its key is kept: neither memory nor disk can give the key away."""

    key_digest: bytes
    joined_at: float
    last_seen: float


@dataclass(slots=True, frozen=True)
class Message:
    """A message as it is handed out; `payload` is the sender's `json` in its own words, so `1.10` stays `1.10`."""

    id: str
    agent_id: str
    cursor: int
    verified: bool
    sent_at: float
    expires_at: float
    text: str | None = None
    payload: bytes | None = None

    @property
    def weight(self) -> int:
        """About how many bytes this message takes in memory."""
        return 400 + len(self.text or "") + len(self.payload or b"")

    def as_reply(self) -> dict[str, Any]:
        """The protocol's message object; `json` is an `msgspec.Raw`, which only msgspec encodes."""
        reply: dict[str, Any] = {"id": self.id, "agentId": self.agent_id}
        if self.text is not None:
            reply["text"] = self.text
        if self.payload is not None:
            reply["json"] = msgspec.Raw(self.payload)
        reply["cursor"] = str(self.cursor)
        reply["verified"] = self.verified
        reply["sentAt"] = stamp(self.sent_at)
        reply["expiresAt"] = stamp(self.expires_at)
        return reply


@dataclass(slots=True)
class Session:
    """One session. `ttl` in seconds; `due` is when the sweep looks at it next; `weight` sums its messages' bytes."""

    id: str
    ttl: int
    max_agents: int
    created_at: float
    expires_at: float
    greeting: str | None = None
    creator: str | None = None
    members: dict[str, Member] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    last_cursor: int = 0
    due: float = 0.0
    weight: int = 0

    def append(self, message: Message) -> None:
        """Take `message` in as the newest."""
        self.messages.append(message)
        self.last_cursor = message.cursor
        self.weight += message.weight

    def forget_expired(self, now: float) -> None:
        """Drop the oldest messages whose time is over. One behind a longer-lived one goes when that one goes."""
        gone = 0
        for message in self.messages:
            if message.expires_at > now:
                break
            gone += 1
            self.weight -= message.weight
        if gone:
            del self.messages[:gone]

    def after(self, cursor: int | None, now: float) -> list[Message]:
        """The messages above `cursor` that are alive at `now`; with `None` the greeting too, which sits at cursor 0."""
        if cursor is None:
            return [*self._greeted(), *self.after(0, now)]
        first = self.messages[0].cursor if self.messages else 0
        # Cursors have no holes inside the list: it only ever loses its head.
        return [m for m in self.messages[max(0, cursor - first + 1) :] if m.expires_at > now]

    def _greeted(self) -> list[Message]:
        if self.greeting is None:
            return []
        # The same id after a restart, so that nobody is greeted twice; a digest, so that it gives no session id away.
        digest = blake2b(self.id.encode(), digest_size=8, person=b"greeting").hexdigest()
        return [
            Message(
                id=f"msg_{digest}",
                agent_id=SYSTEM,
                cursor=0,
                verified=True,
                sent_at=self.created_at,
                expires_at=self.expires_at,
                text=self.greeting,
            )
        ]
