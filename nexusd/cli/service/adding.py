"""add: the one way in which a session is acquired."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import socket
import sys
from typing import TYPE_CHECKING

from nexusd import serving
from nexusd.cli import writable
from nexusd.cli.output import say
from nexusd.cli.pasted import pasted
from nexusd.cli.service.acquiring import Acquired, Keeping
from nexusd.cli.service.running import config_argument
from nexusd.cli.stopping import finishing
from nexusd.clientdir import ClientDir, is_session_id
from nexusd.config.concealed import Ids
from nexusd.config.load import load
from nexusd.config.values import duration
from nexusd.errors import RequestError, UserError
from nexusd.spool.layout import NAME, REPORT
from nexusd.wire.address import server_url

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from nexusd.cli.output import Verb
    from nexusd.config.records import Config
    from nexusd.wire.client import NexusClient

_AGENT = re.compile(r"[A-Za-z0-9_-]{1,128}")


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what `add` takes."""
    parser.add_argument("name", metavar="NAME", help="what to call it here: the folder's name")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--code", metavar="CODE", help="a pairing code, its link, or a text with the link; - for stdin")
    source.add_argument("--create", action="store_true", help="make a new session and print a pairing link for it")
    source.add_argument("--id", metavar="ID", help="a session's id; - reads it from stdin")
    source.add_argument("--alias", metavar="ALIAS", help="a session that nexus or nexus.sh knows by this name")
    parser.add_argument("--agent-id", metavar="ID", help="who to be in it (else agent_id of the configuration)")
    parser.add_argument("--server", metavar="URL", help="the server (else the link's, or the configuration's)")
    parser.add_argument("--adopt", action="store_true", help="the agent id that is in it already is ours")
    parser.add_argument("--ttl", metavar="D", help="with --create: how long it lives without a message, e.g. 61m")
    parser.add_argument("--max-agents", type=int, metavar="N", help="with --create: how many may be in it")
    parser.add_argument("--greeting", metavar="TEXT", help="with --create: what everyone who comes in reads first")
    config_argument(parser)


def add(args: Namespace) -> Verb:
    """Acquire a session, at once: keep its secrets, then name it for the daemon, then say so.

    What was acquired is printed whatever fails behind the server's answer, with how to go on; exit status 1 then.
    """
    config = load(args.config)
    with finishing("the server's answer: a code can be claimed only once, and a key is given once"):
        got = asyncio.run(_Adding(args, config).acquire())
        known = {"session": args.name, "agentId": got.agent, "server": got.server, **got.shown}
        if got.faults:
            known["message"] = "; ".join(got.faults)
        try:
            yield known
        except GeneratorExit:
            # stdout is gone or full: the session is ours all the same.
            if name := known["session"]:
                say(f"nexusd: what add got could not be printed; {name} is added, and nexus pair {name} makes a link")
            raise
    if known.get("link"):
        say(f"give this link to the other agent, it works once and for a few minutes: {known['link']}")
    if got.faults:
        say(f"nexusd: {known['message']}")
        return 1
    folder = os.path.join(config.root, args.name)
    say(f"{args.name} is yours as {got.agent}: read {folder}/inbox.jsonl, drop files into {folder}/outbox/")
    say("a running nexusd serves it within a second; if none runs: nexusd run")
    return 0


class _Adding:
    """One `add`."""

    def __init__(self, args: Namespace, config: Config) -> None:
        self._args = args
        self._config = config
        self._state = ClientDir(config.client_dir, warn=say)
        self._keeping = Keeping(config, self._state, args.name)
        for option in ("code", "id", "alias"):
            if (value := getattr(args, option)) is not None and not value.strip():
                raise UserError("usage", f"--{option} is empty", exit_status=2)
        if not args.create and (args.ttl or args.max_agents or args.greeting):
            raise UserError("usage", "--ttl, --max-agents and --greeting go with --create", exit_status=2)

    async def acquire(self) -> Acquired:
        """Find out that it can be kept, ask the server, and keep it."""
        code, session, server = self._given()
        self._check_name(session)
        server = server_url(server, allow_insecure=self._config.allow_insecure)
        agent = self._agent()
        seconds = self._ttl()
        writable.probe(self._config.sessions_folder)
        writable.probe_client_dir(self._state)

        from nexusd.wire.client import NexusClient  # noqa: PLC0415 - not before the arguments are known to be good
        from nexusd.wire.transport import Transport  # noqa: PLC0415

        config = self._config
        transport = Transport(server, proxy=config.proxy, ca_file=config.ca_file)
        async with NexusClient(server, allow_insecure=config.allow_insecure, transport=transport) as client:
            if self._args.create:
                return await self._create(client, agent, seconds)
            got = await (self._claim(client, code, agent) if code else self._enter(client, session, agent))
            await self._keeping.keep(got, client)
        return got

    def _given(self) -> tuple[str, str, str]:
        """The code or the id, and the server that goes with it."""
        args, default = self._args, self._args.server or self._config.server
        if args.create:
            return "", "", default
        if args.code:
            found = pasted(_from_stdin(args.code, "code"))
            return found.code, "", args.server or found.server or default
        session = self._aliased(args.alias) if args.alias else _from_stdin(args.id, "id")
        if not is_session_id(session):
            what = f"no session has the alias {args.alias[:80]!r}" if args.alias else "that is not a session id"
            raise UserError("bad_session", f"{what}; nexus ls shows the sessions known here")
        if name := self._keeping.known_as(session):
            raise UserError("session_known", f"this session is served already, under the name {name}")
        recorded = self._state.server(session)
        if recorded and args.server and recorded.rstrip("/") != args.server.rstrip("/"):
            raise UserError("other_server", f"this session lives on {recorded}; leave --server out")
        return "", session, recorded or default

    def _aliased(self, alias: str) -> str:
        """The session of an alias, or one that was served from a folder of that name below this root."""
        if session := self._state.aliases().get(alias):
            return session
        folder = os.path.join(self._config.root, alias)
        found = [session for session in self._state.sessions() if serving.folder(self._state, session) == folder]
        return found[0] if len(found) == 1 else ""

    def _check_name(self, session: str) -> None:
        """The name is free, can name a folder, and is nobody's secret."""
        name, config = self._args.name, self._config
        ids = Ids(self._state)
        ids.add(*(known.id for known in config.sessions), *filter(None, [session]))
        if ids.within(name):
            raise UserError(
                "bad_name", "this name holds a session's id, which is a secret, and names are shown; take another name"
            )
        if not NAME.fullmatch(name):
            raise UserError("bad_name", f"{name[:80]!r} cannot name a folder here: use a-z 0-9 . _ - (not {REPORT})")
        folder = os.path.join(config.root, name)
        if os.path.lexists(folder) and not os.path.isdir(folder):
            raise UserError("bad_name", f"{folder} is there and is no folder; move it away, or take another name")
        if name in config.skipped:
            raise UserError("name_taken", f"there is a session called {name}, which is broken: {config.skipped[name]}")
        if any(known.name == name for known in config.sessions) or os.path.lexists(self._keeping.file):
            raise UserError("name_taken", f"there is a session called {name} already; take another name")

    async def _create(self, client: NexusClient, agent: str, ttl: int | None) -> Acquired:
        args = self._args
        made = await client.create(ttl=ttl, max_agents=args.max_agents, greeting=args.greeting, creator=agent)
        got = Acquired(made.session_id, agent, client.server, made.session_key)
        if made.session_key is not None or agent in made.agents:
            await self._keeping.keep(got, client)
        else:
            try:
                got = await self._join(client, made.session_id, agent)
            except (RequestError, UserError) as fault:
                got.failed(fault, "the session is made, but not entered")
                self._keeping.note(got)
            else:
                await self._keeping.keep(got, client)
        if got.shown.get("error") != "session_known":
            await self._pair(client, got)
        return got

    async def _pair(self, client: NexusClient, got: Acquired) -> None:
        """A link for the session that was made; it is worth having whatever failed before."""
        try:
            code = await client.pair(got.session)
        except RequestError as fault:
            got.failed(fault, "the session is made, but there is no pairing link for it yet")
            got.faults.append(f"to make one: nexus pair {self._args.name}")
        else:
            got.shown |= {"link": code.url or f"{got.server}/p/{code.code}", "code": code.code}

    async def _claim(self, client: NexusClient, code: str, agent: str) -> Acquired:
        claimed = await client.claim(code, agent)
        if claimed.session_id is None:
            raise UserError("no_session_id", "the server took the code but named no session; ask for another code")
        return Acquired(claimed.session_id, agent, client.server, claimed.session_key)

    async def _enter(self, client: NexusClient, session: str, agent: str) -> Acquired:
        recorded = self._state.agent(session)
        if recorded is None:
            return await self._join(client, session, agent)
        if self._args.agent_id not in (None, recorded):
            raise UserError(
                "other_agent", f"we are {recorded} in this session; leave it first, or leave --agent-id out"
            )
        await client.session(session)
        return Acquired(session, recorded, client.server, self._state.key(session), entered=False)

    async def _join(self, client: NexusClient, session: str, agent: str) -> Acquired:
        try:
            joined = await client.join(session, agent)
        except RequestError as fault:
            if fault.code != "agent_id_taken":
                raise
            if not self._args.adopt:
                why = f"{agent} is in this session already; if that is us, add --adopt, else take another --agent-id"
                raise UserError("agent_id_taken", why) from None
            return Acquired(session, agent, client.server, self._state.key(session), entered=False)
        return Acquired(session, agent, client.server, joined.session_key)

    def _agent(self) -> str:
        agent = self._args.agent_id or self._config.defaults.agent_id
        if agent is None:
            host = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname().split(".")[0])[:60] or "agent"
            agent = f"{host}-{secrets.token_hex(3)}"
        if not _AGENT.fullmatch(agent) or agent == "system":
            raise UserError("bad_agent_id", "an agent id has 1 to 128 of A-Z a-z 0-9 _ -, and is not system")
        return str(agent)

    def _ttl(self) -> int | None:
        try:
            return int(duration(self._args.ttl)) if self._args.ttl else None
        except ValueError as fault:
            raise UserError("bad_ttl", f"--ttl takes {fault}", exit_status=2) from None


def _from_stdin(given: str, option: str) -> str:
    """An option's value, or a line of stdin, which no process list shows."""
    value = sys.stdin.readline().strip() if given == "-" else given.strip()
    if not value:
        raise UserError("usage", f"--{option} is empty", exit_status=2)
    return value
