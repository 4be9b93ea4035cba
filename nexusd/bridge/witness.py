"""Whether a message in a poll is the one whose answer was lost: decided without I/O.

There is no idempotency key in the protocol; the only witness is the message itself, seen again.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from nexusd.bridge.sift import identity

if TYPE_CHECKING:
    from nexusd.bridge.outgoing import Outgoing
    from nexusd.bridge.sift import Known
    from nexusd.wire.batch import Batch, Message

LITERAL = 16  # bytes that must be left of a redacted text for it to say anything
_REDACTED = re.compile(r"\[REDACTED(?::[^\[\]]{0,64})?\]")


def candidates(batch: Batch, known: Known, *, above: int | None) -> list[Message]:
    """What is ours and has a cursor above the intent's."""
    start = -1 if above is None else above
    return [m for m in batch.messages if m.cursor is not None and m.cursor > start and known.is_own(m)]


def proves_absence(batch: Batch, known: Known, *, above: int | None, anchor: str) -> bool:
    """Whether a poll from the very first, in which no witness was found, proves that the message did not arrive.

    It does where this very poll shows another message that is known to be ours: then the server shows our own messages
    at this moment. And it must still show the `anchor` (an identity), a message from before the POST: a server that
    lost its memory since then shows it no more, and nothing else may tell that it did. Nor does it where anything
    stands under our name above the intent (a server may not say `verified`), or nothing at its very cursor: an answer
    may have named one that never was, and all that came since is below it.
    """
    start = -1 if above is None else above
    named = [m for m in batch.messages if m.agent_id == known.agent]
    if any((m.cursor or 0) > start for m in named) or all(m.cursor != above for m in batch.messages):
        return False
    if not any((known.keyed and m.verified) or m.id in known.sent for m in named):
        return False
    return any(identity(m) == anchor for m in batch.messages if m.cursor is not None and m.cursor <= start)


def find(ours: list[Message], sent: Outgoing) -> tuple[Message, bool] | None:
    """The witness among the candidates and whether it was redacted, or None.

    Its body is equal to one of the forms in which it may have been sent; with redactions it must be the only one.
    """
    forms = {_canonical(sent.text, sent.payload), _canonical(sent.as_text().text, None)}
    for message in ours:
        if _body(message) in forms:
            return message, False
    redacted = [m for m in ours if any(_matches(_body(m), form) for form in forms)]
    return (redacted[0], True) if len(redacted) == 1 else None


def _body(message: Message) -> str:
    try:
        payload = json.loads(message.fields.get("json", b"null"))
    except (ValueError, RecursionError):
        payload = None
    return _canonical(message.text, payload)


def _canonical(text: str | None, payload: Any) -> str:
    """One form for equal bodies. Numbers by their value: most servers keep 1.0 as 1, and 64 bits of a long one."""
    if payload is None:
        return f"{text or ''}\n"
    payload = json.loads(json.dumps(payload), parse_int=_number, parse_float=_number)
    return f"{text or ''}\n{json.dumps(payload, sort_keys=True, ensure_ascii=False)}"


def _number(digits: str) -> float:
    return float(digits) + 0.0  # and -0 as 0


def _matches(seen: str, sent: str) -> bool:
    """Whether `seen` is `sent` with parts replaced by [REDACTED...], as far as that can be told."""
    literals = _REDACTED.split(seen)
    if len(literals) == 1 or sum(len(part.encode(errors="replace")) for part in literals) < LITERAL:
        return False
    first, *middle, last = literals
    if not sent.startswith(first) or not sent.endswith(last):
        return False
    at, end = len(first), len(sent) - len(last)
    for part in middle:
        found = sent.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return at <= end
