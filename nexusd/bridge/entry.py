"""Entering a session: joining it, and keeping what the server gave for that. Never as somebody else."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from nexusd.bridge.ending import end
from nexusd.bridge.standing import RECORD
from nexusd.bridge.states import Event
from nexusd.errors import Fate, RequestError, UserError
from nexusd.local_fault import sentence

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexusd.bridge.session import Session
    from nexusd.spool.state import State


async def enter(session: Session) -> None:
    """Join at the start, where no local record says that we are in. RequestError.

    With `agent_id_taken` and no record that it was us who joined, it may be somebody else's: stop, a person decides.
    """
    recorded = recorded_agent(session)
    if recorded is not None:  # the user has entered it with the client since it was opened
        session.is_now(recorded, session.client_dir.key(session.id))
        return
    if session.state.joined:
        await end(session, Event.LEFT, left_by_hand(session))
        return
    agent = session.settings.agent_id
    if agent is None:
        hint = f"no agent_id is set for it; run: nexusd add {session.name} --id - --agent-id NAME"
        await end(session, Event.REFUSED, hint)
        return
    unanswered = session.state.joining == agent  # an earlier join, which may have put us in
    if not unanswered:
        described = await session.link.client.session(session.id)
        if agent in described.agents:
            await _taken(session, agent)
            return
        session.state.ttl = described.lease.ttl  # an answer to a join names only an end, by a clock that may be off
    # On the disk before the request: if the answer is lost, whoever has our name then is us.
    await session.commit([], joining(agent))
    try:
        joined = await session.link.client.join(session.id, agent)
    except RequestError as fault:
        if fault.code == "agent_id_taken" and unanswered:
            await entered_without_an_answer(session, agent)
            return
        if fault.fate is not Fate.MAYBE_SENT and not (fault.fate is not Fate.REFUSED and unanswered):
            await session.commit([], joining(""))
        if fault.code == "agent_id_taken":
            await _taken(session, agent)
            return
        raise
    entered(session, agent, joined.session_key)
    session.lifetime.begin(joined.lease)


def recorded_agent(session: Session) -> str | None:
    """Who the local record says that we are; None where there is none, because a hand has left or never entered.

    UserError where no session has a record: then nobody has left, `client_dir` is away; and where it is not as meant.
    """
    there = session.client_dir.is_there()
    recorded = session.client_dir.agent(session.id)
    if recorded is None and not (there and session.client_dir.is_there()):
        raise UserError("no_client_dir", f"{session.client_dir.path} is not there; bring it back (a volume, a backup)")
    return as_meant(session, recorded)


def as_meant(session: Session, recorded: str | None) -> str | None:
    """The recorded agent. UserError where the session's own table names another.

    A hand has changed one of the two, nobody knows which, and nothing is sent or read as somebody else.
    """
    meant = session.meant_agent
    if recorded is not None and meant not in (None, recorded):
        raise UserError(
            "other_agent",
            f"{session.client_dir.path} says that we are {recorded} in {session.name}, its configuration that we are "
            f"{meant} (agent_id); nothing is sent or polled as somebody else: put right the one that was changed",
        )
    return recorded


def keep_record(session: Session) -> None:
    """Write the local record down where that failed before: a key is given once, so it is kept in memory till then."""
    if session.unsaved is None:
        return
    try:
        if not session.client_dir.is_there():  # nothing is made in its place
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), session.client_dir.path)
        session.client_dir.save(session.id, **session.unsaved)
    except OSError as fault:
        session.standing.blocked(RECORD, sentence(fault, session.client_dir.path))
        return
    # Only now: a state that says that we were in, and no local record, means that the user has left.
    session.unsaved = None
    session.state.joined, session.state.joining = True, ""
    session.standing.cleared(RECORD)


def left_by_hand(session: Session) -> str:
    """What is said of a session that somebody has left here."""
    name = session.name
    return (
        f"the session was left by hand; to be in it again: nexusd remove {name}, then nexusd add {name} with a new code"
    )


async def entered_without_an_answer(session: Session, agent: str) -> None:
    """The join that was never answered was ours: we are in, but the key went with the answer."""
    entered(session, agent, None)
    session.log.warning("session.unverified", why="the join's answer was lost, and our session key with it")
    text = "we are in, but the answer with our session key was lost: messages of ours count as unverified"
    await session.note_once("unverified", "rejoined", text)


async def _taken(session: Session, agent: str) -> None:
    await end(
        session,
        Event.REFUSED,
        f"agent_id_taken: {agent} is in this session already, and nothing here says that it is us; "
        f"if it is, run: nexusd add {session.name} --id - --agent-id {agent} --adopt",
    )


def entered(session: Session, agent: str, key: str | None) -> None:
    """We are in: from here on in memory, and in the local record as soon as that can be written."""
    session.is_now(agent, key)
    session.unsaved = {"server": session.link.server, "key": key, "agent": agent}
    keep_record(session)


def joining(agent: str) -> Callable[[State], None]:
    """The change of the state: a join as this agent is under way, and may put us in; empty: none is."""

    def change(state: State) -> None:
        state.joining = agent

    return change


def doubted(state: State) -> None:
    """The change of the state: we found that we are out, and yet our name is in it."""
    state.doubted = True


async def somebody_elses(session: Session) -> None:
    """We were put out, and somebody else is in the session under our name. A person decides."""
    await end(
        session,
        Event.REFUSED,
        f"agent_id_taken: the server put us out, and somebody else is in it as {session.agent} now; nothing is sent or "
        f"polled as somebody else: nexusd remove {session.name}, then nexusd add {session.name} with a new code and "
        f"another --agent-id",
    )
