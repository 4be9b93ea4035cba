"""Pairing codes: pair, claim, pair-status."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from nexusd.cli.hand import keeping
from nexusd.cli.hand.desk import Desk
from nexusd.cli.output import say
from nexusd.cli.pasted import pasted
from nexusd.cli.stopping import finishing
from nexusd.wire import calls

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from nexusd.cli.output import Verb


def pair_arguments(parser: ArgumentParser) -> None:
    """Declare what `pair` takes."""
    parser.add_argument("session", metavar="SESSION")


def pair(args: Namespace) -> Verb:
    """Make a pairing code for a session."""
    desk = Desk(args)
    session = desk.session(args.session)
    server = desk.server(session)
    reply = desk.ask(server, calls.pair(session))
    yield reply.text
    desk.adopt(session, server)
    say("give the link or the code to the other agent: it works once, and for some minutes only")
    return 0


def claim_arguments(parser: ArgumentParser) -> None:
    """Declare what `claim` takes."""
    parser.add_argument(
        "code", metavar="CODE", help="the pairing code, its link, or a text with the link in it; - reads it from stdin"
    )
    parser.add_argument("--alias", metavar="NAME", help="call the session NAME here")


def claim(args: Namespace) -> Verb:
    """Enter a session with a pairing code or its link, and keep who we are in it, and our key."""
    code = _code(args)
    desk = Desk(args)
    agent, alias = desk.new_agent(), keeping.checked_alias(desk, args.alias)
    keeping.ready(desk.state)
    server = desk.server()
    with finishing("the server's answer: a code can be claimed only once"):
        reply = desk.ask(server, calls.claim(code, agent))
        session = reply.raw.get("sessionId")
        if not isinstance(session, str):
            yield reply.text
            say("nexus: the server's answer names no session; nothing was kept")
            return 1
        status = yield from keeping.kept(desk.state, reply, session=session, server=server, agent=agent, alias=alias)
    if status:
        return status
    say(f"claimed; see what is there with: nexus poll {alias or 'SESSION'}")
    if not alias:
        say("and give it a name with: nexus alias SESSION NAME")
    return status


def pair_status_arguments(parser: ArgumentParser) -> None:
    """Declare what `pair-status` takes."""
    parser.add_argument(
        "code", metavar="CODE", help="the pairing code, its link, or a text with the link in it; - reads it from stdin"
    )


def pair_status(args: Namespace) -> Verb:
    """Whether a pairing code is pending, claimed or expired."""
    code = _code(args)
    desk = Desk(args)
    yield desk.ask(desk.server(), calls.pair_status(code)).text
    return 0


def _code(args: Namespace) -> str:
    """The code; of a link also its server, which only `--url` outranks."""
    found = pasted(sys.stdin.readline() if args.code == "-" else str(args.code))
    args.url = args.url or found.server
    return found.code
