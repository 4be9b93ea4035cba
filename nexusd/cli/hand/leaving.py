"""leave: local state goes only when the server confirms that we are out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexusd import by_hand
from nexusd.cli.hand.desk import Desk
from nexusd.cli.output import error, say
from nexusd.errors import Fate, RequestError, UserError
from nexusd.wire import calls
from nexusd.wire.records import Session

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from nexusd.cli.output import Verb

_KEPT = "what is kept here stays, for another try"


def leave_arguments(parser: ArgumentParser) -> None:
    """Declare what `leave` takes."""
    parser.add_argument("session", metavar="SESSION")


def leave(args: Namespace) -> Verb:
    """Leave a session.

    - success, `session_not_found`, `agent_not_found`        we are out: forget it
    - `invalid_session_key`, and we are not in its agents    we are out: forget it
    - anything else                                          keep all
    """
    desk = Desk(args)
    session = desk.session(args.session)
    agent = desk.agent(session)
    key = desk.key(session, agent)
    if key is None:
        raise UserError("no_session_key", f"no session key of {agent} is kept, and the server wants it; {_KEPT}")
    server = desk.server(session)
    # Before the request: a daemon that serves the session must not take us for put out, and join again.
    by_hand.leaving(desk.state, session, begun=True)
    try:
        reply = desk.ask(server, calls.leave(session, agent, key))
    except RequestError as fault:
        yield error(fault)
        out, why = _is_out(desk, server, session, agent, fault)
        if not out and fault.fate is not Fate.MAYBE_SENT:
            by_hand.leaving(desk.state, session, begun=False)
        if out:
            _forget(desk, session, agent)
        say(f"{why}; it is forgotten here" if out else f"nexus: {why}; {_KEPT}")
        return 0 if out else 1
    yield reply.text
    _forget(desk, session, agent)
    say("left; it is forgotten here")
    return 0


def _is_out(desk: Desk, server: str, session: str, agent: str, fault: RequestError) -> tuple[bool, str]:
    if fault.status == 404 and fault.code == "session_not_found":
        return True, "the session is gone from the server"
    if fault.status == 404 and fault.code == "agent_not_found":
        return True, f"{agent} is not in the session any more"
    if fault.status == 403 and fault.code == "forbidden":
        return False, "the server does not let this agent leave: a session's creator stays in it"
    if fault.code != "invalid_session_key":
        return False, f"leaving failed: {fault}"
    try:
        found = desk.ask(server, calls.session(session))
    except RequestError as second:
        gone = second.status == 404 and second.code == "session_not_found"
        return gone, "the session is gone from the server" if gone else f"the key was refused, and then: {second}"
    if not isinstance(found.raw.get("agents"), list):
        return False, "the key was refused, and the server does not say who is in the session"
    if agent in Session.of({"sessionId": session, **found.raw}).agents:
        return False, f"the session key kept for {agent} is not the right one"
    return True, f"{agent} is not in the session any more"


def _forget(desk: Desk, session: str, agent: str) -> None:
    """Forget the session, unless it is another agent of ours that left."""
    if desk.state.agent(session) in (agent, None):
        desk.state.forget(session)
