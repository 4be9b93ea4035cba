"""Names for sessions and servers: alias, unalias, config, bind."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nexusd.cli.hand import given, keeping
from nexusd.cli.hand.desk import Desk
from nexusd.cli.output import say
from nexusd.errors import RequestError, UserError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from nexusd.cli.output import Verb


def alias_arguments(parser: ArgumentParser) -> None:
    """Declare what `alias` takes."""
    parser.add_argument("session", metavar="SESSION")
    parser.add_argument("name", metavar="NAME")


def alias(args: Namespace) -> Verb:
    """Give a session that is known here a short name."""
    desk = Desk(args)
    session = desk.session(args.session)
    name = keeping.checked_alias(desk, args.name, session)
    if session not in desk.state.sessions():
        raise UserError("session_not_found", "this session is not known here; join or claim it first")
    desk.state.set_alias(str(name), session)
    yield {"ok": True, "alias": name, "sessionId": session}
    say(f"{name} is set; try: nexus poll {name}")
    return 0


def unalias_arguments(parser: ArgumentParser) -> None:
    """Declare what `unalias` takes."""
    parser.add_argument("name", metavar="NAME")


def unalias(args: Namespace) -> Verb:
    """Take a short name away; the session stays."""
    desk = Desk(args)
    if not desk.state.set_alias(args.name, None):
        raise UserError("alias_not_found", f"there is no alias {args.name[:80]!r}; what there is: nexus ls")
    yield {"ok": True, "removed": args.name}
    say(f"{args.name} is no alias any more")
    return 0


def config_arguments(parser: ArgumentParser) -> None:
    """Declare what `config` takes."""
    parser.add_argument("what", metavar="set-url|show|unset", nargs="?", default="show")
    parser.add_argument("server", metavar="URL", nargs="?", help="for set-url")


def config(args: Namespace) -> Verb:
    """Set, show or unset the default server."""
    desk = Desk(args)
    if args.what == "set-url":
        if args.server is None:
            raise UserError("usage", "set-url needs a URL: nexus config set-url URL", exit_status=2)
        if "://" not in args.server:
            raise UserError("bad_url", "a server's URL begins with https:// (or http:// on this machine)")
        url = given.server(args.server)
        desk.state.set_server_url(url)
        yield {"ok": True, "serverUrl": url}
        say(f"{url} is the server now, for what has none of its own")
    elif args.what == "show":
        url, source = desk.ambient()
        yield {"serverUrl": url, "source": source, "configPath": os.path.join(desk.state.path, "config.json")}
    elif args.what == "unset":
        if desk.state.server_url() is not None:
            desk.state.set_server_url(None)
        yield {"ok": True}
        say("the default server is the public one again")
    else:
        raise UserError("usage", f"config takes set-url, show or unset, not {args.what[:40]!r}")
    return 0


def bind_arguments(parser: ArgumentParser) -> None:
    """Declare what `bind` takes."""
    parser.add_argument("session", metavar="SESSION")


def bind(args: Namespace) -> Verb:
    """Note on which server a session lives, if that server knows it."""
    from nexusd.wire import calls  # noqa: PLC0415 - the other names need no HTTP

    desk = Desk(args)
    session = desk.session(args.session)
    server = desk.server()
    try:
        desk.ask(server, calls.session(session))
    except RequestError as fault:
        if fault.status is None:
            raise
        message = f"the session is not known on {server} (HTTP {fault.status}); it was not bound to it"
        raise UserError(fault.code, message) from None
    desk.state.save(session, server=server)
    yield {"ok": True, "sessionId": session, "server": server}
    say(f"bound to {server}")
    return 0
