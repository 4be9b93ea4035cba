"""poll-all: what is new in all sessions, asked for at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from nexusd.cli.hand import abreast, given
from nexusd.cli.hand.desk import Desk
from nexusd.cli.hand.polling import Polled, fetch
from nexusd.cli.output import error, say
from nexusd.errors import NexusError, RequestError, UserError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from nexusd.cli.output import Verb


class _Target(NamedTuple):
    session: str
    server: str
    agent: str
    after: str | None


def poll_all_arguments(parser: ArgumentParser) -> None:
    """Declare what `poll-all` takes."""
    parser.add_argument("--active", action="store_true", help="leave out sessions that cannot be polled")
    parser.add_argument("--members", action="store_true", help="also who is in the sessions")


def poll_all(args: Namespace) -> Verb:
    """Fetch what is new in every session; the cursors move once it is printed. Exit status 1 if all polls failed."""
    desk = Desk(args)
    known = desk.state.sessions()
    troubles = {session: said for session in known if (said := desk.trouble(session))}
    targets = _targets(desk, args, [session for session in known if session not in troubles])

    def ask(target: _Target) -> Polled:
        return fetch(desk, target.server, target.session, target.agent, after=target.after, members=args.members)

    for target in targets:
        desk.direct(target.server)  # made here, once: the threads share them
    results = list(zip(targets, abreast.ask_all(targets, lambda t: t.server, ask), strict=True))
    names = desk.labels()
    entries = [_entry(target, result, names.get(target.session), args) for target, result in results]
    for session, said in troubles.items():
        say(f"warning: {said}")
        if not args.active:
            broken: dict[str, Any] = {
                "sessionId": session,
                "alias": names.get(session),
                "messages": [],
                "members": None,
            }
            entries.append(broken | {"error": "bad_record"})
    yield {"sessions": [entry for entry in entries if entry is not None]}
    came = [(target, result) for target, result in results if isinstance(result, Polled)]
    for target, result in came:
        if result.cursor not in (None, target.after):
            desk.state.save(target.session, cursor=result.cursor)
    if count := sum(len(result.messages) for _, result in came):
        say(f"{count} new message(s)")
    return 1 if (targets or troubles) and not came else 0


def _targets(desk: Desk, args: Namespace, sessions: list[str]) -> list[_Target]:
    ambient = desk.ambient()[0]
    asking = given.agent_id(args.agent_id) if args.agent_id else None
    targets = []
    for session in sessions:
        agent = asking or desk.state.agent(session)
        if agent is not None:
            server = ambient if args.url else desk.bound(session) or ambient
            targets.append(_Target(session, server, agent, desk.state.cursor(session)))
        elif not args.active:
            say("note: a session without an agent id is left out; join it, or give --agent-id")
    if targets:
        hosts = sorted({t.server.partition("://")[2] for t in targets})
        say(f"-> polling {len(targets)} session(s) on {', '.join(hosts)} (session bindings)")
    return targets


def _entry(target: _Target, result: Polled | NexusError, alias: str | None, args: Namespace) -> dict[str, Any] | None:
    """What to show of one session; None: its server disowned it."""
    entry: dict[str, Any] = {"sessionId": target.session, "alias": alias}
    if isinstance(result, Polled):
        return entry | {"messages": result.messages, "members": result.members}
    gone = isinstance(result, RequestError) and result.status == 404 and result.code == "session_not_found"
    said = "is gone from its server" if gone else f"could not be polled: {result}"
    say(f"warning: {alias or 'a session without an alias'} {said}")
    if gone or (args.active and not _may_live(result)):
        return None
    return entry | {"messages": [], "members": None, "error": _code(result)}


def _may_live(fault: NexusError) -> bool:
    return isinstance(fault, RequestError) and fault.status is None


def _code(fault: NexusError) -> str:
    return str(error(fault)["error"]) if isinstance(fault, RequestError | UserError) else "poll_failed"
