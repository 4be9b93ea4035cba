"""Being in a session: entering, being put out, coming back, and never being somebody else."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from nexusd.bridge.link import now
from nexusd.bridge.states import Event
from nexusd.errors import Fate, RequestError

if TYPE_CHECKING:
    from nexusd.bridge.session import Session
    from nexusd.wire.budget import Turn

BELIEVED_AFTER = 30.0  # seconds between two answers that say the session is gone
REJOINS = 3  # an hour
HOUR = 3600.0
FULL = 60.0  # seconds until a full session is tried again


async def enter(session: Session) -> None:
    """Join at the start, where no local record says that we are in. RequestError.

    With `agent_id_taken` and no record that it was us who joined, it may be somebody else's: stop, a person decides.
    """
    if session.state.joined:
        await session.end(
            Event.LEFT, "the session was left by hand: its local record is gone; `nexusd add` enters again"
        )
        return
    agent = session.settings.agent_id
    if agent is None:
        hint = f"no agent_id is set for it; run: nexusd add {session.name} --id - --agent-id NAME"
        await session.end(Event.REFUSED, hint)
        return
    try:
        joined = await session.link.client.join(session.id, agent)
    except RequestError as fault:
        if fault.code != "agent_id_taken":
            raise
        await session.end(
            Event.REFUSED,
            f"agent_id_taken: {agent} is in this session already, and nothing here says that it is us; "
            f"if it is, run: nexusd add {session.name} --id - --agent-id {agent} --adopt",
        )
        return
    _record(session, agent, joined.session_key)
    session.leased(joined.lease)


async def failed(session: Session, fault: RequestError, lane: Turn) -> float:
    """What a lane's failed request means for the session; the seconds until it is worth trying again."""
    session.counts[f"failed_{fault.fate.value}"] += 1
    if fault.fate is Fate.WAIT:
        return session.standing.failing(lane, f"{fault.code}: {fault}", seconds=session.link.wait_for(fault))
    if fault.fate is Fate.GONE:
        return await _gone(session, fault, lane)
    if fault.fate is Fate.REFUSED and fault.status in (401, 403):
        return await _rejoin(session, fault, lane)
    if fault.code == "session_full":
        return session.standing.failing(lane, f"{fault.code}: {fault}", Event.PUT_OUT, FULL)
    return session.standing.failing(lane, f"{fault.code}: {fault}")


async def _gone(session: Session, fault: RequestError, lane: Turn) -> float:
    """Expiry is believed when it is said twice, 30 s apart: one answer may come from the wrong process."""
    since = session.standing.gone_since
    if since is None:
        session.standing.gone_since = since = now()
    if now() - since < BELIEVED_AFTER:
        return session.standing.failing(lane, f"{fault.code}: {fault}", seconds=BELIEVED_AFTER - (now() - since))
    await session.end(
        Event.GONE,
        "the session does not exist on its server (any more): it has expired, or its id is wrong; "
        "what is still in the outbox goes to failed/",
    )
    return 0.0


async def _rejoin(session: Session, fault: RequestError, lane: Turn) -> float:
    """Not a member, or our key is not valid: come back, unless a hand took us out; three times an hour at most."""
    recorded = session.client_dir.agent(session.id)
    if recorded is None:
        await session.end(Event.LEFT, "the session was left by hand; `nexusd add` enters it again")
        return 0.0
    key = session.client_dir.key(session.id)
    if key != session.key or recorded != session.agent:  # a hand joined anew: go on with what it got
        session.agent, session.key = recorded, key
        session.secrets.add(key)
        return 0.0
    recent = [at for at in session.state.rejoined_at if time.time() - at < HOUR]
    if len(recent) >= REJOINS:
        again_in = max(1.0, recent[0] + HOUR - time.time())
        error = f"put out {REJOINS} times within an hour; trying again later"
        return session.standing.failing(lane, error, Event.PUT_OUT, again_in)
    session.state.rejoined_at = [*recent, time.time()]
    session.log.warning("session.rejoining", code=fault.code)
    try:
        joined = await session.link.client.join(session.id, session.agent)
    except RequestError as refusal:
        if refusal.code == "agent_id_taken":
            return await _unverified(session, lane)
        if refusal.code == "session_full":
            identity = f"evicted-{int(recent[0] if recent else time.time())}"
            text = "the server has put us out, and the session is full; nexusd goes on trying"
            await session.notice("evicted", identity, text)
        if refusal.status in (401, 403):
            return session.standing.failing(lane, f"{refusal.code}: {refusal}", Event.PUT_OUT)
        return await failed(session, refusal, lane)
    _record(session, session.agent, joined.session_key)
    session.leased(joined.lease)
    session.standing.answered(lane)
    if fault.code != "invalid_session_key":
        text = "the server had put us out; nexusd joined again. Messages sent meanwhile are here as far as it kept them"
        await session.notice("rejoined", f"rejoined-{int(time.time())}", text)
    return 0.0


async def _unverified(session: Session, lane: Turn) -> float:
    """We are in, but our key is not good: go on without it, and say so."""
    if session.key is not None:
        session.key = None
        session.log.warning("session.unverified", why="the server does not take our session key; sending without it")
        return 0.0
    return session.standing.failing(lane, "the server says that we are in and that we are not")


def _record(session: Session, agent: str, key: str | None) -> None:
    session.client_dir.save(session.id, server=session.link.server, key=key, agent=agent)
    session.agent, session.key, session.joined = agent, key, True
    session.secrets.add(key)
    session.state.joined = True
