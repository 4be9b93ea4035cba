"""What stands beside a file at its end: the server's receipt, or why it was not sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexusd.timestamps import stamp, stamp_if_known

if TYPE_CHECKING:
    from nexusd.errors import Refusal
    from nexusd.spool.sending import Claimed, Intent


def receipt(
    claimed: Claimed, sha256: str, message_id: str | None, cursor: int | None, expires_at: object, confirmed: str
) -> dict[str, Any]:
    """NAME.receipt.json. `expires_at`: the server's own text, or Unix seconds."""
    intent = claimed.intent
    return {
        "id": _writable(message_id),
        "cursor": str(cursor),
        "expiresAt": stamp_if_known(expires_at) if isinstance(expires_at, float) else _writable(expires_at),
        "droppedAt": stamp_if_known(claimed.dropped_at),
        "sentAt": stamp_if_known(intent.posted_at),
        "sha256": sha256,
        "attempts": intent.attempts,
        "confirmed": confirmed,
        "possibleDuplicate": intent.duplicate,
        "redacted": False,
        "jsonAsText": False,
    }


def error_note(refusal: Refusal, intent: Intent | None = None) -> dict[str, Any]:
    """NAME.error.json. `intent`: of a file that was claimed; whatever ended it, a post of it may have arrived."""
    arrived = intent is not None and (intent.doubtful or intent.duplicate)
    doubt = "; one of its posts may have arrived" if arrived else ""
    return {
        "error": refusal.code,
        "message": f"{refusal}{doubt}",
        "remedy": refusal.remedy,
        "status": refusal.status,
        "attempts": 0 if intent is None else intent.attempts,
        "at": stamp(),
    }


def _writable(value: object) -> str | None:
    """A server's string, half surrogate pairs taken out: they can be read from JSON but not written as UTF-8."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else None
