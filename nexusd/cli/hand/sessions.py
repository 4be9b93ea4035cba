"""Sessions as the server keeps them: create, status, join, renew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexusd import by_hand
from nexusd.cli.hand import given, keeping
from nexusd.cli.hand.desk import Desk
from nexusd.cli.output import error, say
from nexusd.cli.stopping import finishing
from nexusd.errors import RequestError, UserError
from nexusd.wire import calls
from nexusd.wire.records import Lease

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from nexusd.cli.output import Verb
    from nexusd.wire.calls import Call

DEFAULT_TTL = 3660  # seconds; what the public client asks for


def create_arguments(parser: ArgumentParser) -> None:
    """Declare what `create` takes."""
    parser.add_argument("--ttl", metavar="D", help='time to live: seconds, or "61m", "7d"')
    parser.add_argument("--max-agents", metavar="N", help="how many agents may enter")
    parser.add_argument("--greeting", metavar="TEXT", help="the first message that everyone sees")
    parser.add_argument(
        "--creator-agent-id", metavar="ID", help="enter as its creator, who cannot be removed nor leave"
    )
    parser.add_argument("--join-as", metavar="ID", help="enter at once as this agent")
    parser.add_argument("--pair", action="store_true", help="make a pairing code as well")
    parser.add_argument("--alias", metavar="NAME", help="call the session NAME here")


def create(args: Namespace) -> Verb:
    """Create a session; with `--join-as` and `--pair` also enter it and make a pairing code, in one document."""
    desk = Desk(args)
    ttl = DEFAULT_TTL if args.ttl is None else given.whole_seconds(args.ttl, "ttl")
    creator, joining = (given.agent_id(a) if a else None for a in (args.creator_agent_id, args.join_as))
    if creator and joining and creator != joining:
        raise UserError(
            "two_agents",
            "--creator-agent-id and --join-as name two agents, and one local record holds one; leave one of them out",
        )
    alias = keeping.checked_alias(desk, args.alias)
    most = given.number(args.max_agents, "max-agents")
    keeping.ready(desk.state, wanted=bool(creator or joining or alias))
    if args.ttl is None:
        say(f"note: no --ttl was given; asking for {DEFAULT_TTL} s, about an hour")
    server = desk.server()
    call = calls.create(ttl=ttl, max_agents=most, greeting=args.greeting or None, creator=creator)
    with finishing("the server's answers: nothing else tells the session's id and the key"):
        return (yield from _created(desk, args, call, server, alias))


def _created(desk: Desk, args: Namespace, call: Call, server: str, alias: str | None) -> Verb:
    """Create the session, enter it and make a pairing code as was asked for; what is known by then is shown."""
    reply = desk.ask(server, call)
    session = reply.raw.get("sessionId")
    if not isinstance(session, str):
        yield reply.text
        say("nexus: the server's answer names no session")
        return 1
    whole, status = dict(reply.raw), 0
    try:
        _gone_on(desk, args, whole, server, alias)
    except (RequestError, UserError, OSError) as fault:  # the session is there: what is known of it must not be lost
        whole |= error(fault)
        status = 1
    yield reply.text if whole == reply.raw else whole
    if whole != reply.raw:
        _opened(whole, alias)
    return status


def _gone_on(desk: Desk, args: Namespace, whole: dict[str, Any], server: str, alias: str | None) -> None:
    """What follows when a session has been made: keep it, enter it, name it, pair it. `whole` gets what comes of it."""
    session, creator, joining = str(whole["sessionId"]), args.creator_agent_id, args.join_as
    if creator:
        keeping.entered(desk.state, session, server, creator, whole)
    elif alias:
        desk.state.save(session, server=server)
    if joining and not creator:
        joined = desk.ask(server, calls.join(session, joining)).raw
        whole |= {"agentId": joining, "sessionKey": joined.get("sessionKey")}  # shown, also where it cannot be kept
        keeping.entered(desk.state, session, server, joining, joined)
    if alias:
        desk.state.set_alias(alias, session)
    if args.pair:
        whole["pair"] = desk.ask(server, calls.pair(session)).raw


def status_arguments(parser: ArgumentParser) -> None:
    """Declare what `status` takes."""
    parser.add_argument("session", metavar="SESSION")


def status(args: Namespace) -> Verb:
    """What the server says of a session."""
    desk = Desk(args)
    session = desk.session(args.session)
    server = desk.server(session)
    yield desk.ask(server, calls.session(session)).text
    desk.adopt(session, server)
    return 0


def join_arguments(parser: ArgumentParser) -> None:
    """Declare what `join` takes."""
    parser.add_argument("session", metavar="SESSION")
    parser.add_argument("--alias", metavar="NAME", help="call the session NAME here")


def join(args: Namespace) -> Verb:
    """Enter a session and keep who we are in it, and our key."""
    desk = Desk(args)
    session, agent = desk.session(args.session), desk.new_agent()
    alias = keeping.checked_alias(desk, args.alias, session)
    if other := keeping.other_agent(desk.state, session, agent):
        raise UserError(
            "other_agent",
            f"we are {other} in this session already, and one local record holds one agent; leave it first, "
            f"or enter as {agent} with a local state of its own: NEXUS_CLIENT_DIR=FOLDER nexus join ...",
        )
    keeping.ready(desk.state)
    server = desk.server(session)
    with finishing("the server's answer: it gives the session key only once"):
        reply = desk.ask(server, calls.join(session, agent))
        status = yield from keeping.kept(desk.state, reply, session=session, server=server, agent=agent, alias=alias)
    if status:
        return status
    say(f"joined as {agent}; see what is there with: nexus poll {alias or desk.label(session) or 'SESSION'}")
    return status


def renew_arguments(parser: ArgumentParser) -> None:
    """Declare what `renew` takes."""
    parser.add_argument("session", metavar="SESSION")
    parser.add_argument("--ttl", metavar="D", help='time to live from now: seconds, or "61m", "7d"')


def renew(args: Namespace) -> Verb:
    """Reset a session's time to live."""
    desk = Desk(args)
    session = desk.session(args.session)
    ttl = None if args.ttl is None else given.whole_seconds(args.ttl, "ttl")
    agent, server = desk.agent(session), desk.server(session)
    if ttl is not None:  # before the request, whose answer may be lost: a daemon that serves it must be in time
        by_hand.renewed(desk.state, session, ttl)
    reply = desk.ask(server, calls.renew(session, agent, ttl=ttl))
    yield reply.text
    if (lasting := Lease.of(reply.raw).ttl) is not None:
        by_hand.renewed(desk.state, session, lasting)
    desk.adopt(session, server)
    if isinstance(reply.raw.get("expiresAt"), str):
        say(f"renewed; it expires at {reply.raw['expiresAt']}")
    return 0


def _opened(whole: dict[str, Any], alias: str | None) -> None:
    pair = whole.get("pair")
    if isinstance(pair, dict) and isinstance(pair.get("url"), str):
        say('give the link under "pair" to the other agent: it works once')
    if "error" in whole:
        say(f"nexus: the session was created, but: {whole.get('message') or whole['error']}")
    elif alias:
        say(f"send something with: nexus send {alias} TEXT")
