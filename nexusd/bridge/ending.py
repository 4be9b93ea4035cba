"""A session's end: said once, remembered, and taken back where it was none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexusd.bridge.link import now
from nexusd.bridge.states import ENDED, Event, Status, after
from nexusd.spool import line

if TYPE_CHECKING:
    from nexusd.bridge.session import Session
    from nexusd.spool.state import State

# An expired session is asked for again: a node that was wrong may be mended. Files wait until the last question.
ASKED_EVERY = 240.0  # seconds: what has passed is noticed within five minutes
ASKED = 15  # times: an hour


async def end(session: Session, event: Event, text: str) -> None:
    """The session is over for us: say so once in the inbox, remember it, and ask nothing more."""
    ended = after(session.standing.status, event)
    if session.standing.ended or session.ending:
        return  # two lanes may find it out together
    session.ending = True
    mark = f"{ended.value}-{session.digest[:12]}"

    def change(state: State) -> None:
        if ended is not Status.STOPPED:  # that one is tried again at the next start
            state.ended, state.asked_again = "expired" if ended is Status.EXPIRED else "left", 0
        if mark not in state.noticed:
            state.noticed.append(mark)

    said = line.notice(ended.value, mark, session.secrets.removed(text))
    try:
        await session.commit([] if mark in session.state.noticed else [said], change)
    finally:
        session.ending = False
    session.asked_in_this_life = True
    session.asked_again_at = now() + ASKED_EVERY
    session.standing.happened(event, text)
    session.listener.activity()


async def found(session: Session, identity: str, text: str) -> None:
    """It was believed to be over, and is not."""

    def change(state: State) -> None:
        state.ended, state.asked_again = "", 0

    await session.commit([line.notice("rejoined", identity, text)], change)
    session.polled = False  # its next poll wakes what waits for one
    forget(session.state)
    session.standing.happened(Event.FOUND)
    session.listener.activity()


def forget(state: State) -> None:
    """We are in: what was said of an end, or of being out, is said again at the next one."""
    state.doubted = False
    marks = ("evicted", "unverified", *(status.value for status in ENDED))
    state.noticed = [mark for mark in state.noticed if not mark.startswith(marks)]
