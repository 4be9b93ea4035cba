"""Being in a session: what a failed request means for that, being put out, and coming back.

Only the protocol's own codes on the calls that they belong to count here (wire/fate.py), and of those even `forbidden`
may have been said by a gateway: the session itself is asked before anything is done about it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from nexusd import by_hand
from nexusd.bridge.ending import end
from nexusd.bridge.entry import (
    doubted,
    entered,
    entered_without_an_answer,
    joining,
    left_by_hand,
    recorded_agent,
    somebody_elses,
)
from nexusd.bridge.expiry import gone
from nexusd.bridge.link import now
from nexusd.bridge.states import Event
from nexusd.errors import Fate, RequestError
from nexusd.wire.budget import Turn
from nexusd.wire.fate import MEMBERSHIP_CODES

if TYPE_CHECKING:
    from nexusd.bridge.session import Session

GRACE = 5.0  # seconds from finding that we are out to coming back
STALE = 31.0  # seconds, a request's deadline and one, for which an answer may be about an earlier key
REJOINS = 3  # an hour
HOUR = 3600.0
FULL = 60.0  # seconds until a full session is tried again


async def failed(session: Session, fault: RequestError, lane: Turn) -> float:
    """What a lane's failed request means for the session; the seconds until it is worth trying again."""
    session.counts[f"failed_{fault.fate.value}"] += 1
    words = f"{fault.code}: {fault}"
    if fault.fate is Fate.WAIT:
        seconds = session.link.limited(session.name, fault, everybody=lane is not Turn.SEND)
        return session.standing.failing(lane, words, seconds=seconds, told=True)
    if fault.fate is Fate.GONE:
        return await gone(session, words, lane)
    if fault.fate is Fate.REFUSED and fault.code in MEMBERSHIP_CODES and session.joined:
        return await _put_out(session, fault, lane)
    if fault.code == "session_full":
        return session.standing.failing(lane, words, Event.PUT_OUT, FULL)
    return session.standing.failing(lane, words)


# ---- not a member, or not with our key


async def _put_out(session: Session, fault: RequestError, lane: Turn) -> float:
    """Not a member, or our key is not valid: see what the session says, and come back, unless a hand took us out."""
    asked_at = now()
    async with session.coming_back:  # two lanes find it out together
        if session.keyed_at is not None and session.keyed_at >= asked_at:
            return 0.0  # the other one brought us back meanwhile
        return await _come_back(session, fault, lane)


async def _come_back(session: Session, fault: RequestError, lane: Turn) -> float:
    if (delay := await _hand(session)) is not None:
        return delay
    words = f"{fault.code}: {fault}"
    try:
        described = await session.link.client.session(session.id)
    except RequestError as second:
        if second.fate is Fate.GONE:
            return await gone(session, f"{second.code}: {second}", lane)
        return session.standing.failing(lane, words)
    if session.agent in described.agents:
        if fault.code == "invalid_session_key":
            return await _key_refused(session, words, lane)
        return session.standing.failing(lane, f"{words}; but it lists us as a member: a gateway may have answered")
    # A client that leaves by hand deletes its record a moment after the server has answered: look at it again then.
    if session.out_since is None:
        session.out_since = now()
    if (wait := GRACE - (now() - session.out_since)) > 0:
        return session.standing.failing(lane, words, Event.PUT_OUT, wait)
    return await _rejoin(session, fault, lane)


async def _key_refused(session: Session, words: str, lane: Turn) -> float:
    """We are listed as a member, and our key is not taken."""
    if session.keyed_at is not None and now() - session.keyed_at < STALE:
        return session.standing.failing(lane, words)  # it was about the key before, which another lane exchanged
    if session.state.joining == session.agent:  # a join of ours that was never answered exchanged it
        await entered_without_an_answer(session, session.agent)
        return 0.0
    if session.state.doubted:
        await somebody_elses(session)
        return 0.0
    if session.sending_key is not None:
        return await _unverified(session)
    return session.standing.failing(lane, f"{words}; but it lists us as a member: a gateway may have answered")


async def _hand(session: Session) -> float | None:
    """What a hand has done to our local record: left, or entered anew. None: nothing."""
    if session.unsaved is not None:
        return None
    recorded = recorded_agent(session)
    if recorded is None and not session.state.joined:
        return None
    if recorded is None or by_hand.is_leaving(session.client_dir, session.id):
        await end(session, Event.LEFT, left_by_hand(session))
        return 0.0
    key = session.client_dir.key(session.id)
    if (recorded, key) == (session.agent, session.key):
        return None
    session.is_now(recorded, key)
    return 0.0


async def _rejoin(session: Session, fault: RequestError, lane: Turn) -> float:
    """Come back; three times an hour at most."""
    recent = [at for at in session.state.rejoined_at if 0 <= time.time() - at < HOUR]
    if len(recent) >= REJOINS:
        again_in = max(1.0, recent[0] + HOUR - time.time())
        error = f"put out {REJOINS} times within an hour; trying again later"
        return session.standing.failing(lane, error, Event.PUT_OUT, again_in, told=True)
    session.log.warning("session.rejoining", code=fault.code)
    unanswered = session.state.joining == session.agent
    await session.commit([], joining(session.agent))
    try:
        joined = await session.link.client.join(session.id, session.agent)
    except RequestError as refusal:
        if refusal.fate is Fate.MAYBE_SENT:
            session.state.rejoined_at = [*recent, time.time()]  # it may have put us in
        elif refusal.fate is Fate.REFUSED or not unanswered:
            await session.commit([], joining(""))
        if refusal.fate is not Fate.REFUSED:
            return await failed(session, refusal, lane)
        if refusal.code == "agent_id_taken":
            if unanswered:
                await entered_without_an_answer(session, session.agent)
                return 0.0
            # Somebody else's join, or a node that had not heard of ours: whether our key is taken will tell.
            await session.commit([], doubted)
        if refusal.code == "session_full":
            text = "the server has put us out, and the session is full; nexusd goes on trying"
            await session.note_once("evicted", "evicted", text)
            return session.standing.failing(lane, f"{refusal.code}: {refusal}", Event.PUT_OUT, FULL)
        return session.standing.failing(lane, f"{refusal.code}: {refusal}", Event.PUT_OUT)
    session.state.rejoined_at = [*recent, time.time()]
    entered(session, session.agent, joined.session_key)
    session.lifetime.begin(joined.lease)
    session.standing.member_again()
    session.standing.answered(lane)
    text = "the server had put us out; nexusd joined again. Messages sent meanwhile are here as far as it kept them"
    await session.notice("rejoined", f"rejoined-{int(time.time())}", text)
    return 0.0


async def _unverified(session: Session) -> float:
    """We are in, but our key is not taken: go on without it for a while, and say so once."""
    session.refuse_key()
    session.log.warning("session.unverified", why="the server does not take our session key; sending without it")
    await session.note_once("unverified", "rejoined", "the server does not take our session key: we go on unverified")
    return 0.0
