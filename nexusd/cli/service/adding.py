"""add: the one way in which a session is acquired."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import socket
import sys
from typing import TYPE_CHECKING, Any

from nexusd import serving
from nexusd.cli.output import say
from nexusd.cli.service.running import config_argument
from nexusd.clientdir import ClientDir, is_session_id
from nexusd.config.load import load
from nexusd.config.values import duration
from nexusd.errors import RequestError, UserError
from nexusd.spool import atomic
from nexusd.spool.layout import NAME, SessionFolder
from nexusd.wire.address import server_url

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from nexusd.cli.output import Verb
    from nexusd.config.records import Config
    from nexusd.wire.client import NexusClient

_LINK = re.compile(r"(?P<server>https?://[^?#]+?)/(?:p|v1/pair)/(?P<code>[^/?#]+)(?:/skill)?/?")
_AGENT = re.compile(r"[A-Za-z0-9_-]{1,128}")


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what `add` takes."""
    parser.add_argument("name", metavar="NAME", help="what to call it here: the folder's name")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--code", metavar="CODE", help="a pairing code or its whole link; - reads it from stdin")
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
    """Acquire a session, at once: keep its secrets, then name it for the daemon, then say so."""
    config = load(args.config)
    adding = _Adding(args, config)
    known = asyncio.run(adding.acquire())
    yield known
    folder = os.path.join(config.root, args.name)
    say(f"{args.name} is yours as {known['agentId']}: read {folder}/inbox.jsonl, drop files into {folder}/outbox/")
    if known.get("link"):
        say(f"give this link to the other agent, it works once and for a few minutes: {known['link']}")
    say("a running nexusd serves it within a second; if none runs: nexusd run")
    return 0


class _Adding:
    """One `add`."""

    def __init__(self, args: Namespace, config: Config) -> None:
        self._args = args
        self._config = config
        self._state = ClientDir(config.client_dir, warn=say)
        self._file = os.path.join(config.sessions_folder, f"{args.name}.toml")
        if not NAME.fullmatch(args.name):
            raise UserError("bad_name", f"{args.name[:80]!r} cannot name a folder here: use a-z 0-9 . _ - only")
        if any(session.name == args.name for session in config.sessions) or os.path.lexists(self._file):
            raise UserError("name_taken", f"there is a session called {args.name} already; take another name")
        if not args.create and (args.ttl or args.max_agents or args.greeting):
            raise UserError("usage", "--ttl, --max-agents and --greeting go with --create", exit_status=2)

    async def acquire(self) -> dict[str, Any]:
        """Do it; what stdout says."""
        from nexusd.wire.client import NexusClient  # noqa: PLC0415 - not before the arguments are known to be good
        from nexusd.wire.transport import Transport  # noqa: PLC0415

        given, server = self._given()
        server = server_url(server, allow_insecure=self._config.allow_insecure)
        config = self._config
        transport = Transport(server, proxy=config.proxy, ca_file=config.ca_file)
        async with NexusClient(server, allow_insecure=config.allow_insecure, transport=transport) as client:
            if self._args.create:
                session, agent = await self._create(client)
            elif self._args.code:
                session, agent = await self._claim(client, given)
            else:
                session, agent = await self._enter(client, given)
            self._name(session, agent)
            self._prepare(session)
            known = {"session": self._args.name, "agentId": agent, "server": server}
            if self._args.create:
                code = await client.pair(session)
                known.update(link=code.url or f"{server}/p/{code.code}", code=code.code)
        return known

    def _given(self) -> tuple[str, str]:
        """The code or id, and the server that goes with it."""
        args, default = self._args, self._args.server or self._config.server
        if args.create:
            return "", default
        if args.code:
            code = _secret(args.code, "code")
            link = _LINK.fullmatch(code)
            return (link["code"], args.server or link["server"]) if link else (code, default)
        session = self._state.aliases().get(args.alias, "") if args.alias else _secret(args.id, "id")
        if not is_session_id(session):
            what = f"no session has the alias {args.alias!r}" if args.alias else "that is not a session id"
            raise UserError("bad_session", f"{what}; nexus ls shows the sessions known here")
        if any(known.id == session for known in self._config.sessions):
            raise UserError("session_known", "this session is served already, under another name")
        recorded = self._state.server(session)
        if recorded and args.server and recorded.rstrip("/") != args.server.rstrip("/"):
            raise UserError("other_server", f"this session lives on {recorded}; leave --server out")
        return session, recorded or default

    async def _create(self, client: NexusClient) -> tuple[str, str]:
        agent, ttl = self._agent(), self._args.ttl
        try:
            seconds = int(duration(ttl)) if ttl else None
        except ValueError as fault:
            raise UserError("bad_ttl", f"--ttl takes {fault}", exit_status=2) from None
        made = await client.create(
            ttl=seconds, max_agents=self._args.max_agents, greeting=self._args.greeting, creator=agent
        )
        if made.session_key is None and agent not in made.agents:
            return made.session_id, await self._join(client, made.session_id, agent)
        self._state.save(made.session_id, server=client.server, key=made.session_key, agent=agent)
        return made.session_id, agent

    async def _claim(self, client: NexusClient, code: str) -> tuple[str, str]:
        agent = self._agent()
        claimed = await client.claim(code, agent)
        if claimed.session_id is None:
            raise UserError("no_session_id", "the server took the code but named no session; ask for another code")
        self._state.save(claimed.session_id, server=client.server, key=claimed.session_key, agent=agent)
        return claimed.session_id, agent

    async def _enter(self, client: NexusClient, session: str) -> tuple[str, str]:
        recorded = self._state.agent(session)
        if recorded is None:
            return session, await self._join(client, session, self._agent())
        if self._args.agent_id not in (None, recorded):
            raise UserError(
                "other_agent", f"we are {recorded} in this session; leave it first, or leave --agent-id out"
            )
        await client.session(session)
        self._state.save(session, server=client.server)
        return session, recorded

    async def _join(self, client: NexusClient, session: str, agent: str) -> str:
        try:
            joined = await client.join(session, agent)
        except RequestError as fault:
            if fault.code != "agent_id_taken":
                raise
            if not self._args.adopt:
                why = f"{agent} is in this session already; if that is us, add --adopt, else take another --agent-id"
                raise UserError("agent_id_taken", why) from None
            self._state.save(session, server=client.server, agent=agent)
            return agent
        self._state.save(session, server=client.server, key=joined.session_key, agent=agent)
        return agent

    def _agent(self) -> str:
        agent = self._args.agent_id or self._config.defaults.agent_id
        if agent is None:
            host = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname().split(".")[0])[:60] or "agent"
            agent = f"{host}-{secrets.token_hex(3)}"
        if not _AGENT.fullmatch(agent) or agent == "system":
            raise UserError("bad_agent_id", "an agent id has 1 to 128 of A-Z a-z 0-9 _ -, and is not system")
        return str(agent)

    def _prepare(self, session: str) -> None:
        """Make the folders, so that a file can be dropped and an inbox waited for before the daemon has come to it."""
        folder = SessionFolder(self._config.root, self._args.name)
        try:
            folder.make()
            serving.point(self._state, session, folder.path)
        except OSError as fault:
            say(f"warning: {folder.path} could not be made ({fault.strerror}); nexusd doctor says what mends it")

    def _name(self, session: str, agent: str) -> None:
        """From here on the daemon serves it."""
        import tomli_w  # noqa: PLC0415 - only once it is needed

        atomic.private_folder(self._config.sessions_folder)
        atomic.replace(self._file, tomli_w.dumps({"id": session, "agent_id": agent}).encode())
        if self._args.name not in self._state.aliases():
            self._state.set_alias(self._args.name, session)


def _secret(given: str, option: str) -> str:
    """An option's value, or a line of stdin, which no process list shows."""
    value = sys.stdin.readline().strip() if given == "-" else given.strip()
    if not value:
        raise UserError("usage", f"--{option} is empty", exit_status=2)
    return value
