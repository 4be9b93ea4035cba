"""doctor: all that nexusd needs, looked at, and what mends what is not well."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from nexusd.cli.output import say
from nexusd.cli.service import grounds, installed
from nexusd.cli.service.checking import record_trouble, server_of
from nexusd.cli.service.findings import Finding, bad, ok, warn
from nexusd.cli.service.overview import overview
from nexusd.cli.service.running import config_argument
from nexusd.cli.service.troubles import troubles
from nexusd.clientdir import ClientDir
from nexusd.config.load import load
from nexusd.errors import ConfigError, UserError
from nexusd.secrets import Secrets
from nexusd.wire.address import server_url

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from nexusd.cli.output import Verb
    from nexusd.config.records import Config

AT_ONCE = 4  # questions to servers; a daemon is asking them too
MOST = 40  # sessions that are asked for: the limit is shared with the daemon
_SIGN = {"warn": "warning", "bad": "BAD"}


def doctor_arguments(parser: ArgumentParser) -> None:
    """Declare what `doctor` takes."""
    config_argument(parser)
    parser.epilog = "Exit status 0 when nothing is bad, else 1. Warnings are no failure."


def doctor(args: Namespace) -> Verb:
    """Look at all; exit status 0 only when nothing is bad."""
    seen = overview(args.config)
    rejected, findings = seen["config"]["rejected"], list(_daemon(seen))
    try:
        config = load(args.config)
    except ConfigError as fault:
        findings += [_told("configuration", one) for one in fault.faults]
    else:
        findings.append(ok("configuration", f"{config.file or 'no file, all defaults'}; more: nexusd check"))
        findings += [_told("configuration", one) for one in rejected if one not in config.skipped.values()]
        findings += [_told(f"session {name}", said) for name, said in config.skipped.items()]
        findings += grounds.examine(config)
        findings += asyncio.run(_outside(config))
    findings += installed.examine()
    wrong = [finding for finding in findings if finding.level == "bad"]
    yield {"ok": not wrong, "findings": [finding.shown() for finding in findings]}
    for finding in findings:
        if finding.level != "ok":
            say(f"{_SIGN[finding.level]}: {finding.what}: {finding.finding}\n    {finding.remedy}")
    say("nothing is bad" if not wrong else f"{len(wrong)} thing(s) are bad")
    return 1 if wrong else 0


def _told(what: str, sentence: str, otherwise: str = "nexusd check") -> Finding:
    """A sentence that says at its end what mends it, or does not."""
    found, _, remedy = sentence.partition("; ")
    return bad(what, found, remedy or otherwise)


def _daemon(seen: dict[str, Any]) -> Iterator[Finding]:
    """What `nexusd status` would say of the daemon itself."""
    for session in seen["sessions"] if seen["rootError"] is None and seen["daemon"]["running"] else ():
        if session["state"] == "blocked":
            name = session["session"]
            yield _told(f"session {name}", str(session["lastError"]), f"nexusd status {name}")
    seen["sessions"], rejected = [], seen["config"]["rejected"]
    seen["config"]["rejected"] = []  # said by itself
    daemon, place, unserved = seen["daemon"], seen.pop("rootError"), seen.pop("unserved")
    if place is not None:
        yield _told("root", place, "nexusd init --help")
    if (away := seen.pop("away")) is not None:
        yield _told("sessions", away)
    for trouble in troubles(seen):
        if daemon["running"]:
            yield bad("daemon", trouble, f"kill -{'CONT' if daemon['halted'] else '9'} {daemon['pid']}")
        else:
            yield warn("daemon", trouble, "nexusd run")
    for left in unserved:
        why = f"{left['unsent']} unsent, and no session has this folder: nobody sends them"
        yield warn(f"folder {left['folder']}", why, "move them to where they belong, or nexusd add --help")
    if daemon["running"] and not daemon["stuck"]:
        pid = f"as pid {daemon['pid']}" if daemon["pid"] else "and waits"
        yield ok("daemon", f"it runs {pid}{', with an older configuration' if rejected else ''}")


async def _outside(config: Config) -> list[Finding]:
    """Servers and sessions. Imported late: an HTTP client is no small thing."""
    from nexusd.cli.service import probing  # noqa: PLC0415

    state, secrets = ClientDir(config.client_dir, warn=say), Secrets()
    secrets.add(*(session.id for session in config.sessions))
    troubles = {s.name: said for s in config.sessions if (said := record_trouble(config, s, state))}
    readable = [session for session in config.sessions if session.name not in troubles]
    secrets.add(*(state.key(session.id) for session in readable))
    servers = {session.name: server_of(config, session, state) for session in readable}
    found = [_told(f"session {name}", said) for name, said in troubles.items()]
    for url in sorted(set(servers.values()) or {config.server}):
        try:
            server_url(url, allow_insecure=config.allow_insecure)
        except UserError as fault:
            found.append(bad(url, str(fault), "nexusd check"))
            continue
        seen, transport = await probing.server(config, url)
        found += seen
        sessions = [session for session in readable if servers[session.name] == url]
        for begin in range(0, min(len(sessions), MOST), AT_ONCE):
            some = sessions[begin : begin + AT_ONCE]
            for result in await asyncio.gather(*(probing.session(one, state, transport) for one in some)):
                found += result
        if len(sessions) > MOST:
            found.append(warn(url, f"{len(sessions) - MOST} more sessions were not asked for", "nexusd status"))
        if transport is not None:
            await transport.close()
    return [
        finding._replace(finding=secrets.removed(finding.finding), remedy=secrets.removed(finding.remedy or "") or None)
        for finding in found
    ]
