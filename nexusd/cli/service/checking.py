"""check: the configuration, and what it means."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import stat
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nexusd.cli.output import say
from nexusd.cli.service.overview import away, read
from nexusd.cli.service.running import config_argument
from nexusd.cli.service.sharing import Share, shared
from nexusd.clientdir import ClientDir
from nexusd.config.load import load
from nexusd.errors import ConfigError, UserError
from nexusd.home_server import home_server
from nexusd.spool.layout import SessionFolder
from nexusd.wire.address import server_url

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from nexusd.cli.output import Verb
    from nexusd.config.records import Config, SessionConfig

PUBLIC, PUBLIC_LIMIT = "messaging.md", 100  # requests a minute that the public server allows each address


def check_arguments(parser: ArgumentParser) -> None:
    """Declare what `check` takes."""
    config_argument(parser)


def check(args: Namespace) -> Verb:
    """Say what the configuration means; 78 with every fault of a broken one.

    A session that is skipped is a warning, like all that keeps no daemon from starting: exit status 0.
    """
    try:
        config = load(args.config)
    except ConfigError as fault:
        yield {"ok": False, "error": fault.code, "message": str(fault), "faults": fault.faults}
        for one in fault.faults:
            say(f"nexusd: {one}")
        return fault.exit_status
    state = ClientDir(config.client_dir, warn=say)
    troubles = {s.name: said for s in config.sessions if (said := record_trouble(config, s, state))}
    sessions = [session for session in config.sessions if session.name not in troubles]
    servers = {session.name: server_of(config, session, state) for session in sessions}
    shares = {
        server: shared({s.name: s.settings for s in sessions if servers[s.name] == server}, config.requests_per_minute)
        for server in sorted(set(servers.values()))
    }
    skipped = {**config.skipped, **troubles}
    warnings = [*_warnings(config), *(f"{name} is not served: {said}" for name, said in config.skipped.items())]
    warnings += [f"{name}: {said}" for name, said in troubles.items()]
    warnings += _loads(config, shares)
    for session in sessions:
        share = shares[servers[session.name]]
        warnings += [f"{session.name}: {said}" for said in _session_warnings(config, session, state, share)]
    yield {
        "ok": True,
        "file": config.file,
        "sessionsFolder": config.sessions_folder,
        "root": config.root,
        "clientDir": config.client_dir,
        "requestsPerMinute": config.requests_per_minute or None,
        "servers": [{"server": server, **share.shown()} for server, share in shares.items()],
        "sessions": [_session(s, state, servers[s.name], shares[servers[s.name]]) for s in sessions],
        "skipped": skipped,
        "warnings": warnings,
    }
    left_out = f", {len(skipped)} skipped" if skipped else ""
    say(f"the configuration is right: {len(sessions)} session(s){left_out}, {config.file or 'no file, all defaults'}")
    for warning in warnings:
        say(f"warning: {warning}")
    return 0


def server_of(config: Config, session: SessionConfig, state: ClientDir) -> str:
    """The server that the daemon will ask: what is recorded outranks everything."""
    return home_server(config, session, state).rstrip("/")


def record_trouble(config: Config, session: SessionConfig, state: ClientDir) -> str | None:
    """Why the session's local record keeps it from being served, as a sentence; None: it does not."""
    if said := state.trouble(session.id):
        return said
    try:
        server_url(server_of(config, session, state), allow_insecure=config.allow_insecure)
    except UserError as fault:
        return f"the server in its local record: {fault}" if state.server(session.id) else None
    return None


def _session(session: SessionConfig, state: ClientDir, server: str, share: Share) -> dict[str, Any]:
    settings = session.settings
    return {
        "session": session.name,
        "server": server,
        "agentId": state.agent(session.id) or settings.agent_id,
        "joined": state.agent(session.id) is not None,
        "pollInterval": settings.poll_interval,
        "activePollInterval": settings.active_poll_interval,
        "resultingInterval": share.intervals[session.name],
        "renewFor": settings.renew_for,
        "ttl": settings.ttl,
        "onMessage": list(settings.on_message),
    }


def _loads(config: Config, shares: dict[str, Share]) -> Iterator[str]:
    limit = config.requests_per_minute
    for server, share in shares.items():
        host = urlsplit(server).hostname
        if limit and share.wanted > limit:
            yield (
                f"{len(share.intervals)} sessions on {server} want {share.wanted:.0f} requests a minute of {limit}: "
                f"each is polled {share.wanted / limit:.1f} times more rarely, all within {share.within:.0f} s; "
                f"raise poll_interval"
            )
        if host == PUBLIC and not 0 < limit <= PUBLIC_LIMIT:
            yield f"{server} allows {PUBLIC_LIMIT} requests a minute; set requests_per_minute to 90"
        if server.startswith("http://"):
            yield f"{server} is not encrypted: session ids and messages can be read on the way; use https://"


def _session_warnings(config: Config, session: SessionConfig, state: ClientDir, share: Share) -> Iterator[str]:
    settings, recorded = session.settings, state.server(session.id)
    if recorded and session.server and recorded.rstrip("/") != session.server.rstrip("/"):
        yield f"its server key says {session.server}, but it lives on {recorded}: it will be skipped; take the key out"
    if state.agent(session.id) is None:
        yield "no record says that we joined it, so it is joined when the daemon starts"
    ttl = settings.ttl or read(SessionFolder(config.root, session.name).view).get("ttl")
    interval = share.intervals[session.name]
    if isinstance(ttl, int | float) and ttl < 4 * interval:
        yield f"it lives for {ttl:.0f} s and is polled each {interval:.0f} s: messages may expire unread; raise ttl"
    if settings.on_message and shutil.which(settings.on_message[0]) is None:
        yield f"on_message: there is no program {settings.on_message[0]}, or it may not be run"


def _warnings(config: Config) -> Iterator[str]:
    for key, path in (("root", config.root), ("client_dir", config.client_dir), ("sessions.d", config.sessions_folder)):
        yield from _open(key, path)
    if (missing := away(config)) is not None:
        yield missing
    with contextlib.suppress(OSError):  # which is said of the sessions in it
        for name in sorted(os.listdir(config.sessions_folder)):
            if not name.endswith(".toml") or name.startswith("."):
                yield f"{os.path.join(config.sessions_folder, name)} is not read: names end in .toml; remove it"
    if config.ca_file and not os.access(config.ca_file, os.R_OK):
        yield f"ca_file: {config.ca_file} cannot be read: every https:// session will be skipped"
    if config.transport == "aiohttp" and importlib.util.find_spec("aiohttp") is None:
        yield "transport: httpx is used, for aiohttp is not installed; run: pip install 'nexusd[fast]'"
    if config.metrics_file and importlib.util.find_spec("prometheus_client") is None:
        yield "metrics_file: it takes one more package; run: pip install 'nexusd[metrics]'"
    if config.metrics_file and not os.access(os.path.dirname(config.metrics_file), os.W_OK):
        yield f"metrics_file: its folder {os.path.dirname(config.metrics_file)} cannot be written to"
    if config.allow_insecure:
        yield "allow_insecure: http:// may be used to anywhere; ids and messages go unencrypted"


def _open(key: str, path: str) -> Iterator[str]:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return
    if stat.S_IMODE(found.st_mode) & 0o077:
        yield f"{key}: others may look into {path}; run: chmod 700 {path}"
    if found.st_uid != os.geteuid():
        yield f"{key}: {path} belongs to another account; run nexusd as that one"
