"""A message through a daemon's outbox: dropped as a file, awaited as a receipt, and said."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any, NamedTuple

from nexusd.errors import UserError
from nexusd.spool import dropping

if TYPE_CHECKING:
    from nexusd.spool.dropping import Drop


class Outcome(NamedTuple):
    """What became of it: what to show, the exit status, and a sentence for people."""

    shown: dict[str, Any]
    status: int = 0
    sentence: str | None = None


def drop(folder: str, text: str | None, payload: Any) -> Drop:
    """Put a message into the outbox; UserError where that cannot be. From then on Ctrl-C waits for `outcome`.

    Between the two it would end us with a message in the outbox that nobody takes back.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return dropping.drop(folder, text, payload)
    except OSError as fault:
        _heed_ctrl_c()
        outbox = os.path.join(folder, "outbox")
        raise UserError(
            "no_outbox", f"nothing can be dropped into {outbox} ({fault.strerror}); to send by HTTP add --direct"
        ) from None


def _heed_ctrl_c() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def outcome(dropped: Drop, timeout: float) -> Outcome:
    """Wait at most `timeout` seconds for what became of a drop; one that nobody claimed by then is taken back."""
    try:
        _heed_ctrl_c()
        settled = dropped.settled(timeout)
    except KeyboardInterrupt:
        dropped.take_back()
        raise
    if not settled and dropped.take_back():
        return Outcome(
            {"error": "not_sent", "message": f"no daemon claimed it within {timeout:g} s; it was taken back"},
            1,
            "nexus: no daemon claimed the message, and it was taken back; see nexusd status, or send with --direct",
        )
    return _noted(dropped) or Outcome(
        {"status": "queued", "file": dropped.name},
        0,
        f"the daemon has it, but the server has not answered yet; the receipt will be in "
        f"{os.path.join(dropped.folder, 'sent', dropped.name)}.receipt.json",
    )


def _noted(dropped: Drop) -> Outcome | None:
    """The receipt or the error that is beside the file at its end."""
    receipt = dropped.receipt()
    if receipt is not None:
        doubt = "warning: it may have been sent twice" if receipt.get("possibleDuplicate") else None
        return Outcome(receipt, 0, doubt)
    error = dropped.error()
    if error is not None:
        said = [str(error.get(k)) for k in ("message", "remedy") if error.get(k)]
        return Outcome(error, 1, f"nexus: not sent: {'; '.join(said) or error.get('error')}")
    return None
