"""What another session of the same name left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexusd.spool import line
from nexusd.spool.sending import Outcome
from nexusd.timestamps import stamp

if TYPE_CHECKING:
    from nexusd.bridge.session import Session


def give_back(session: Session) -> None:
    """Files claimed for it go to `failed/`: they are not ours to send. OSError."""
    for claimed in session.sending.pending():
        text = "it was claimed for another session of this name"
        note = {"error": "session_changed", "message": text, "remedy": "drop it again if it is still meant"}
        said = line.notice("bounced", f"bounced-{claimed.ulid}", text, file=claimed.name, error="session_changed")
        session.journal.commit_now([said], lambda _: None)
        outcome = Outcome(sent=False, note={**note, "status": None, "attempts": 0, "at": stamp()})
        session.sending.finish(claimed, outcome)
