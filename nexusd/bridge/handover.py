"""What another session of the same name left behind: none of it is ours to send."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nexusd import serving
from nexusd.bridge.receipt import error_note
from nexusd.errors import Refusal
from nexusd.spool import atomic, line, sending
from nexusd.spool.layout import is_unfinished
from nexusd.spool.sending import Outcome

if TYPE_CHECKING:
    from nexusd.bridge.session import Session

_REMEDY = "drop it again if it is still meant"


def take_over(session: Session) -> None:
    """The name is this session's from now on; the files of the one before go to `failed/`. OSError.

    What was dropped after this one was added is meant for it, but only if it was added after the other: its id may
    come back by hand, and what was dropped meanwhile was meant for the other. In a folder that was moved here from
    another session's place everything is for that one. Until all of it is given back the state
    is the other's, so that a death on the way leaves the place of neither behind in that of the other.
    """
    added, before = serving.pointed_at(session.client_dir, session.id), session.state.pointed_at
    here = session.state.name in ("", session.name)
    _give_back(session, added if here and added is not None and before is not None and added > before else None)
    serving.point(session.client_dir, session.id, session.folder.path, anew=True)
    session.journal.turn_to(session.digest)


def _give_back(session: Session, since: float | None) -> None:
    for claimed in session.sending.pending():
        note = error_note(_refusal("it was claimed for another session of this name"), claimed.intent)
        _say(session, claimed.ulid, claimed.name, note["message"])
        session.sending.finish(claimed, Outcome(sent=False, note=note))
    with atomic.held_folder(session.folder.outbox) as held:
        for name in os.listdir(held):
            path = os.path.join(held, name)
            found = os.lstat(path)
            if not is_unfinished(name) and (since is None or found.st_ctime < since):
                note = error_note(_refusal("it was dropped for another session of this name"))
                _say(session, f"{found.st_ino}-{found.st_mtime_ns}", name, note["message"])
                sending.settle(path, session.folder.failed, name, note, sent=False)


def _refusal(why: str) -> Refusal:
    return Refusal("session_changed", why, _REMEDY)


def _say(session: Session, which: str, name: str, why: object) -> None:
    said = line.notice("bounced", f"bounced-{which}", str(why), file=name, error="session_changed")
    session.journal.commit_now([said], lambda _: None)
