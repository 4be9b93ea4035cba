"""Whether a message in a poll is the one whose answer was lost: decided without I/O.

There is no idempotency key in the protocol; the only witness is the message itself, seen again.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from nexusd.bridge.sift import is_own

if TYPE_CHECKING:
    from nexusd.bridge.outgoing import Outgoing
    from nexusd.wire.batch import Batch, Message

LITERAL = 16  # bytes that must be left of a redacted text for it to say anything
_REDACTED = re.compile(r"\[REDACTED(?::[^\[\]]{0,64})?\]")


def find(batch: Batch, sent: Outgoing, *, agent: str, keyed: bool, above: int | None) -> tuple[Message, bool] | None:
    """The witness and whether it was redacted, or None.

    A witness is ours, has a cursor above the intent's, and an equal body; with redactions it must be the only one.
    """
    candidates = [
        m
        for m in batch.messages
        if m.cursor is not None and m.cursor > (-1 if above is None else above) and is_own(m, agent, keyed=keyed)
    ]
    for message in candidates:
        if _body(message) == _sent(sent):
            return message, False
    redacted = [m for m in candidates if _matches(_body(m), _sent(sent))]
    return (redacted[0], True) if len(redacted) == 1 else None


def _sent(sent: Outgoing) -> str:
    return _canonical(sent.text, sent.payload)


def _body(message: Message) -> str:
    try:
        payload = json.loads(message.fields.get("json", b"null"))
    except (ValueError, RecursionError):
        payload = None
    return _canonical(message.text, payload)


def _canonical(text: str | None, payload: Any) -> str:
    written = "" if payload is None else json.dumps(payload, sort_keys=True, ensure_ascii=False)
    return f"{text or ''}\n{written}"


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
