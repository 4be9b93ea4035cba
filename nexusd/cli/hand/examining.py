"""doctor: every server and session, and what is wrong with it."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from nexusd.cli.hand import abreast, given
from nexusd.cli.hand.desk import Desk
from nexusd.cli.output import say
from nexusd.errors import NexusError, RequestError
from nexusd.wire import calls
from nexusd.wire.direct import reason
from nexusd.wire.records import Lease, Session, json_object

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from nexusd.cli.output import Verb

DEADLINE = 10.0  # seconds for one question
SKEW = 30.0  # seconds; with clocks further apart expiry times mislead


class _Seen(NamedTuple):
    raw: dict[str, Any]
    server_time: float | None
    at: float


def doctor_arguments(parser: ArgumentParser) -> None:
    """`doctor` takes nothing of its own."""


def doctor(args: Namespace) -> Verb:
    """Check all; exit status 0 only when all is well."""
    desk = Desk(args)
    ambient, source = desk.ambient()
    desk.server()
    known = desk.state.sessions()
    troubles = {session: said for session in known if (said := desk.trouble(session))}
    sessions = [session for session in known if session not in troubles]
    bound = {session: desk.bound(session) for session in sessions}
    servers = sorted({ambient, *filter(None, bound.values())})
    asked = [(server, calls.health()) for server in servers]
    asked += [(bound[session] or ambient, calls.session(session)) for session in sessions]
    for server in servers:
        desk.direct(server)
    deadline = given.limit("NEXUS_HTTP_TIMEOUT", DEADLINE)

    def ask(question: tuple[str, calls.Call]) -> _Seen:
        server, call = question
        answer = desk.direct(server).ask(call, deadline=deadline)
        return _Seen(json_object(call, answer), answer.server_time, time.time())

    results = abreast.ask_all(asked, lambda question: question[0], ask)
    health = [_server(server, seen) for server, seen in zip(servers, results, strict=False)]
    checked = [
        _session(desk, session, bound[session], asked[at][0], results[at])
        for at, session in enumerate(sessions, len(servers))
    ]
    checked += [_broken(desk, session, said) for session, said in troubles.items()]
    problems = [p for entry in (*health, *checked) for p in entry["problems"]]
    yield {
        "effectiveServer": ambient,
        "source": source,
        "divergence": any(server not in (None, ambient) for server in bound.values()),
        "ok": not problems,
        "health": health,
        "sessions": checked,
    }
    for problem in problems:
        say(f"problem: {problem}")
    say("all is well" if not problems else f"{len(problems)} problem(s) found")
    return 1 if problems else 0


def _server(server: str, seen: _Seen | NexusError) -> dict[str, Any]:
    entry: dict[str, Any] = {"server": server, "reachable": False, "version": "unknown", "uptime": None}
    if isinstance(seen, NexusError):
        return entry | _failure(seen) | {"clockSkew": None, "problems": [f"{server} cannot be used: {seen}"]}
    skew = None if seen.server_time is None else round(seen.at - seen.server_time, 1)
    off = skew is not None and abs(skew) > SKEW
    return {
        "server": server,
        "reachable": True,
        "version": seen.raw.get("version", "unknown"),
        "uptime": seen.raw.get("uptime"),
        "reason": None,
        "clockSkew": skew,
        "problems": [f"this machine's clock is {skew} s ahead of {server}'s; set it right"] if off else [],
    }


def _session(desk: Desk, session: str, bound: str | None, server: str, seen: _Seen | NexusError) -> dict[str, Any]:
    agent, name = desk.state.agent(session), desk.label(session)
    known = name or "a session without a name"
    key, problems = _key_file(desk, session), []
    member = left = None
    if isinstance(seen, NexusError):
        problems.append(f"{known}: {seen}")
        failure = _failure(seen)
    else:
        failure = {"httpCode": 200, "reason": None}
        found = Session.of({"sessionId": session, **seen.raw})
        listed = isinstance(seen.raw.get("agents"), list)
        member = agent in found.agents if listed else None
        left = _left(found.lease, seen)
        if member is False:
            problems.append(
                f"{known}: {agent or 'nobody of ours'} is not in it; nexus join, or nexus leave to forget it"
            )
    if key == "insecure":
        problems.append(f"{known}: its key can be read by others; chmod 600 the file key in its folder")
    return {
        "sessionId": session,
        "alias": name,
        "agentId": agent,
        "bound": bound,
        "probed": server,
        **failure,
        "memberOfSession": member,
        "keyFile": key,
        "timeLeft": left,
        "problems": problems,
    }


def _broken(desk: Desk, session: str, said: str) -> dict[str, Any]:
    """A session whose local record cannot be used: its server was not asked."""
    entry: dict[str, Any] = {"sessionId": session, "alias": desk.label(session)}
    unknown = dict.fromkeys(("agentId", "bound", "probed", "memberOfSession", "timeLeft"))
    return entry | unknown | {"httpCode": 0, "reason": "error", "keyFile": "broken", "problems": [said]}


def _failure(fault: NexusError) -> dict[str, Any]:
    if not isinstance(fault, RequestError):
        return {"httpCode": 0, "reason": "error"}
    return {"httpCode": fault.status or 0, "reason": reason(fault)}


def _left(lease: Lease, seen: _Seen) -> float | None:
    """Seconds until it expires, by the server's own clock; None where the server does not say when."""
    if lease.expires_at is None:
        return None
    return round(lease.expires_at - (seen.server_time or seen.at), 1)


def _key_file(desk: Desk, session: str) -> str:
    try:
        mode = os.stat(os.path.join(desk.state.path, "sessions", session, "key")).st_mode
    except FileNotFoundError:
        return "absent"
    return "insecure" if stat.S_IMODE(mode) & 0o077 else "ok"
