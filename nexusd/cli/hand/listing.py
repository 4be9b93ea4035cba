"""ls: the sessions known here, and whether their servers know them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from nexusd.cli.hand import abreast, given
from nexusd.cli.hand.desk import Desk
from nexusd.cli.output import say
from nexusd.errors import NexusError, RequestError
from nexusd.wire import calls

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from nexusd.cli.output import Verb

STATUS_DEADLINE = 3.0  # seconds for one look, as in the public client


def ls_arguments(parser: ArgumentParser) -> None:
    """Declare what `ls` takes."""
    parser.add_argument("--active", action="store_true", help="only those that may be alive")
    parser.add_argument("--json", action="store_true", help="no table on a terminal")


def ls(args: Namespace) -> Verb:
    """Every session, and whether its server knows it: active, not_found, unreachable or error."""
    desk = Desk(args)
    known = desk.state.sessions()
    ambient = desk.server() if known else ""
    troubles = {session: said for session in known if (said := desk.trouble(session))}
    sessions = [session for session in known if session not in troubles]
    deadline = given.limit("NEXUS_STATUS_TIMEOUT", STATUS_DEADLINE)
    servers = {session: ambient if args.url else desk.bound(session) or ambient for session in sessions}
    for server in servers.values():
        desk.direct(server)

    def look(session: str) -> str:
        desk.direct(servers[session]).ask(calls.session(session), deadline=deadline)
        return "active"

    results = abreast.ask_all(sessions, lambda session: servers[session], look)
    names = desk.labels()
    shown: list[dict[str, Any]] = [
        {
            "sessionId": session,
            "alias": names.get(session),
            "agentId": desk.state.agent(session),
            "status": _status(result),
            "server": servers[session],
            "cursor": desk.state.cursor(session),
        }
        for session, result in zip(sessions, results, strict=True)
    ]
    for session, said in troubles.items():
        say(f"warning: {said}")
        unknown = dict.fromkeys(("agentId", "server", "cursor"))
        shown.append({"sessionId": session, "alias": names.get(session), "status": "error", **unknown, "error": said})
    shown.sort(key=lambda entry: str(entry["sessionId"]))
    if args.active:
        shown = [entry for entry in shown if entry["status"] in ("active", "unreachable")]
    if not args.json and sys.stdout.isatty():
        _table(shown)
    yield {"sessions": shown}
    return 0


def _status(result: str | NexusError) -> str:
    if not isinstance(result, NexusError):
        return result
    if isinstance(result, RequestError):
        if result.status is None:
            return "unreachable"
        if result.status == 404:
            return "not_found"
    return "error"


def _table(shown: list[dict[str, Any]]) -> None:
    if not shown:
        say("no sessions; make one with: nexus create --join-as ID --pair")
        return
    rows = [("ALIAS", "AGENT", "STATUS", "SERVER")]
    rows += [
        (e["alias"] or "-", e["agentId"] or "-", e["status"], (e["server"] or "").partition("://")[2] or "-")
        for e in shown
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
