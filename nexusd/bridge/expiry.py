"""Whether a session is over: believed late, and doubted again, because a wrong node of the server says the same."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from nexusd.bridge import ending
from nexusd.bridge.link import now
from nexusd.bridge.states import Event
from nexusd.errors import Fate, RequestError

if TYPE_CHECKING:
    from nexusd.bridge.session import Session
    from nexusd.spool.state import State
    from nexusd.wire.budget import Turn

BELIEVED_AFTER = 30.0  # seconds between two answers that say the session is gone
LOOKS = 3  # quick ones before it is believed, each on a connection of its own: a balancer may have a node that is wrong
RETRY = 60.0  # seconds until a question that was not answered is asked again


async def gone(session: Session, words: str, lane: Turn) -> float:
    """What the word `session_not_found` means for a lane; the seconds until it is worth trying again.

    It is believed when it was said twice, 30 s apart, and by three looks then: one answer may be a wrong node's.
    """
    standing = session.standing
    if standing.gone_since is None:
        standing.gone_since = now()
    wait = BELIEVED_AFTER - (now() - standing.gone_since)
    if wait > 0:
        return standing.failing(lane, words, seconds=wait)
    try:
        found = not await _is_gone(session)
    except RequestError as fault:
        return standing.failing(lane, f"{fault.code}: {fault}")
    if found:
        standing.gone_since = None
        return standing.failing(lane, f"{words}; but asked again, the server knows it: one of its nodes may be wrong")
    await ending.end(
        session,
        Event.GONE,
        "the session does not exist on its server (any more): it has expired, or its id is wrong; "
        "what is still in the outbox goes to failed/ in an hour, if it does not come back",
    )
    return 0.0


async def _is_gone(session: Session, looks: int = LOOKS) -> bool:
    """Whether so many looks in a row do not find it. RequestError where one of them tells nothing."""
    for _ in range(looks):
        try:
            await session.link.client.session(session.id, fresh=True)
        except RequestError as fault:
            if fault.fate is not Fate.GONE:
                raise
        else:
            return False
    return True


async def ask_again(session: Session) -> float | None:
    """Ask for a session that was believed to be over; the seconds until the next time, or None: it is over."""
    wait = session.asked_again_at - now()
    if wait > 0:
        return wait
    try:
        found = not await _is_gone(session, looks=1)
    except RequestError as fault:
        session.asked_again_at = now() + RETRY
        session.log.debug("session.asked_again", error=str(fault))
        return RETRY
    if found:
        text = "the session exists after all; nexusd goes on with it"
        await ending.found(session, f"rejoined-{int(time.time())}", text)
        return 0.0
    if session.asked_in_this_life:  # the first question of a life comes out of turn
        asked = min(ending.ASKED, session.state.asked_again + 1)

        def change(state: State) -> None:
            state.asked_again = asked

        await session.commit([], change)
    session.asked_in_this_life = True
    if session.over:
        session.listener.activity()  # what waited for this goes to failed/ now
        return None
    session.asked_again_at = now() + ending.ASKED_EVERY
    return session.asked_again_at - now()
