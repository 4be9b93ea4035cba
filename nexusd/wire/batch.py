"""A poll's answer, message by message: one that cannot be decoded never hides the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from nexusd import jsontext
from nexusd.timestamps import timestamp
from nexusd.wire.fate import unreadable
from nexusd.wire.records import cursor_number

if TYPE_CHECKING:
    from nexusd.wire.calls import Call
    from nexusd.wire.fate import Answer

LARGEST = 8 << 20  # bytes; a larger message is passed on cut, as `raw`


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `fields` holds every member as the server's own JSON text; `raw` what could not be decoded.

    `cursor` is None only where even that could not be read. Order is the cursor's and nothing else.
    """

    cursor: int | None
    id: str | None = None
    agent_id: str | None = None
    verified: bool = False
    expires_at: float | None = None
    fields: jsontext.Fields = field(default_factory=dict, repr=False)
    raw: bytes | None = field(default=None, repr=False)

    @property
    def text(self) -> str | None:
        """The message's text."""
        return jsontext.string(self.fields.get("text"))


@dataclass(frozen=True, slots=True)
class Batch:
    """What a poll brought, in cursor order. `cut`: there was more than we read; ask again."""

    messages: list[Message]
    next_cursor: int | None = None
    members: list[dict[str, Any]] | None = None
    cut: bool = False


class _Reply(msgspec.Struct):
    messages: list[msgspec.Raw]
    nextCursor: Any = None  # noqa: N815 - the protocol's name
    members: Any = None


_DECODER = msgspec.json.Decoder(_Reply)


def read(call: Call, answer: Answer) -> Batch:
    """The batch in a poll's answer; RequestError where the answer as a whole is not the protocol's."""
    body = answer.body
    try:
        reply = _DECODER.decode(body)
        raws: list[bytes] = [bytes(raw) for raw in reply.messages]
        rest: dict[str, Any] = {"nextCursor": reply.nextCursor, "members": reply.members}
    except (ValueError, RecursionError):  # of msgspec, or of the UTF-8 in it
        raws, rest = _salvaged(call, answer)
    members = rest.get("members")
    return Batch(
        _in_order([message(raw) for raw in raws]),
        cursor_number(rest.get("nextCursor")),
        [m for m in members if isinstance(m, dict)] if isinstance(members, list) else None,
        answer.cut,
    )


def message(raw: bytes) -> Message:
    """One element of `messages`, whatever it is."""
    try:
        members = jsontext.fields(raw) if len(raw) <= LARGEST else None
    except ValueError:
        members = None
    if members is None:
        known = dict(jsontext.split(raw, cut=True)) if raw.startswith(b"{") else {}
        return Message(_cursor(known.get("cursor")), jsontext.string(known.get("id")), raw=raw)
    return Message(
        _cursor(members.get("cursor")),
        jsontext.string(members.get("id")),
        jsontext.string(members.get("agentId")),
        members.get("verified") == b"true",
        timestamp(jsontext.string(members.get("expiresAt"))),
        members,
    )


def _salvaged(call: Call, answer: Answer) -> tuple[list[bytes], dict[str, Any]]:
    """The elements of an answer that does not decode as a whole, or that was cut."""
    body = answer.body.strip()
    try:
        members = dict(jsontext.split(body, cut=answer.cut))
        raws = jsontext.elements(jsontext.remainder(body, "messages"), cut=answer.cut)
    except ValueError:
        raise unreadable(call, answer, "not a list of messages") from None
    if answer.cut and not raws:
        first = jsontext.remainder(body, "messages")[1:].lstrip()
        if message(first).cursor is None:
            raise unreadable(call, answer, "a message too large to read")
        raws = [first]
    return raws, {"nextCursor": _plain(members.get("nextCursor")), "members": _plain(members.get("members"))}


def _in_order(messages: list[Message]) -> list[Message]:
    """By cursor; one without stays behind the one it came after."""
    place, keyed = -1, []
    for found in messages:
        place = found.cursor if found.cursor is not None else place
        keyed.append((place, found))
    keyed.sort(key=lambda pair: pair[0])
    return [found for _, found in keyed]


def _cursor(text: bytes | None) -> int | None:
    return cursor_number(_plain(text))


def _plain(text: bytes | None) -> Any:
    try:
        return msgspec.json.decode(text or b"null")
    except (ValueError, RecursionError):  # of msgspec, or of the UTF-8 in it
        return None
