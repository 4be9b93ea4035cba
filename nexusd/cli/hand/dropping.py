"""A message through a daemon's outbox: dropped as a file, awaited as a receipt, and said."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from nexusd.errors import UserError
from nexusd.spool import dropping

if TYPE_CHECKING:
    from nexusd.cli.stopping import Held
    from nexusd.spool.dropping import Drop, Place


class Outcome(NamedTuple):
    """What became of it: what to show, the exit status, and a sentence for people."""

    shown: dict[str, Any]
    status: int = 0
    sentence: str | None = None


def deliver(held: Held, folder: str, text: str | None, payload: Any, timeout: float | None) -> Outcome:
    """Drop a message and wait at most `timeout` seconds for what becomes of it; None: do not wait at all.

    UserError where nothing can be dropped. What no daemon has claimed by the end, or when a signal comes, is taken
    back. Signals are held from before the drop until it is known what became of it: whatever ends the command, nothing
    stays in the outbox of which nobody was told.
    """
    try:
        dropped = dropping.drop(folder, text, payload)
    except OSError as fault:
        outbox = os.path.join(folder, "outbox")
        raise UserError(
            "no_outbox", f"nothing can be dropped into {outbox} ({fault.strerror}); to send by HTTP add --direct"
        ) from None
    if timeout is None and not held.pause(0):
        return Outcome(_queued(dropped))
    seen: set[Place | None] = set()

    def pause(seconds: float) -> bool:
        seen.add(dropped.place())
        return held.pause(seconds)

    if not dropped.settled(timeout or 0.0, pause):
        try:
            taken_back = dropped.take_back()
        except OSError as fault:
            return _stuck(dropped, held, fault)
        if taken_back:
            return _not_sent(held, dropped, timeout or 0.0)
    return _noted(dropped, held) or _unanswered(dropped, held, claimed="sending" in seen)


def _not_sent(held: Held, dropped: Drop, timeout: float) -> Outcome:
    if held.status is not None:
        message = f"stopped by {held.name} before a daemon claimed it; it was taken back"
        return Outcome({"error": "not_sent", "message": message}, held.status, f"nexus: not sent: {message}")
    why = _why_not(dropped.folder)
    message = f"no daemon claimed it within {timeout:g} s{why}; it was taken back"
    return Outcome({"error": "not_sent", "message": message}, 1, f"nexus: not sent: {message}; see nexusd status")


def _why_not(folder: str) -> str:
    """What session.json says of a session that is not as it should be."""
    try:
        with open(os.path.join(folder, "session.json"), "rb") as file:
            view = json.load(file)
        state, error = view["state"], view.get("lastError")
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return f" (the session is {state}{f': {error}' if error else ''})" if state != "active" or error else ""


def _stuck(dropped: Drop, held: Held, fault: OSError) -> Outcome:
    path = os.path.join(dropped.folder, "outbox", dropped.name)
    message = f"no daemon claimed it, and it cannot be taken back from {path} ({fault.strerror}): it may be sent later"
    return Outcome(_queued(dropped) | {"error": "not_taken_back", "message": message}, held.status or 1, message)


def _noted(dropped: Drop, held: Held) -> Outcome | None:
    """The receipt or the error that is beside the file at its end."""
    receipt = dropped.receipt()
    if receipt is not None:
        said = [f"nexus: {held.name} came when it was sent already"] if held.status else []
        if receipt.get("possibleDuplicate"):
            said.append("warning: it may have been sent twice")
        return Outcome(receipt, held.status or 0, "; ".join(said) or None)
    error = dropped.error()
    if error is not None:
        said = [str(error.get(k)) for k in ("message", "remedy") if error.get(k)]
        return Outcome(error, held.status or 1, f"nexus: not sent: {'; '.join(said) or error.get('error')}")
    return None


def _unanswered(dropped: Drop, held: Held, *, claimed: bool) -> Outcome:
    """It is not in the outbox any more, and nothing is noted yet: deleted, or the daemon has it."""
    if dropped.cancelled():
        message = f"somebody deleted {dropped.name} before it was sent; send it again if it is still meant"
        if claimed:
            message = (
                f"somebody deleted {dropped.name} when the daemon had claimed it, so it may have been sent; "
                f"look for it with nexus poll before sending it again"
            )
        shown = {"error": "cancelled", "message": message, "file": dropped.name}
        return Outcome(shown, held.status or 1, f"nexus: {message}")
    receipt = f"{os.path.join(dropped.folder, 'sent', dropped.name)}.receipt.json"
    waits = "the server has not answered yet" if held.status is None else f"{held.name} ended the wait for the server"
    return Outcome(
        _queued(dropped), held.status or 0, f"the daemon has it, but {waits}; the receipt will be in {receipt}"
    )


def _queued(dropped: Drop) -> dict[str, Any]:
    return {"status": "queued", "file": dropped.name}
