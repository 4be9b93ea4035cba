"""What every command needs to know: which session, who we are in it, which server, and how to ask it."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from nexusd.cli.hand import given
from nexusd.cli.output import say
from nexusd.clientdir import DEFAULT, ClientDir, is_session_id
from nexusd.config.names import Names
from nexusd.errors import UserError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    from nexusd.wire.calls import Call
    from nexusd.wire.direct import Direct


class Reply(NamedTuple):
    """A successful answer: its JSON text, to be passed on as it is, and what is in it."""

    text: str
    raw: dict[str, Any]


class Desk:
    """Resolves names and servers; says on stderr which server is asked and why."""

    def __init__(self, args: Namespace) -> None:
        self.state = ClientDir(os.environ.get("NEXUS_CLIENT_DIR") or DEFAULT, warn=say)
        self._names = Names()
        self._url: str | None = args.url
        self._agent: str | None = args.agent_id or None
        self._direct: dict[str, Direct] = {}

    # ---- who and where

    def session(self, name: str) -> str:
        """The session id behind a name, an id or a daemon's folder; `-` reads it from stdin.

        What the configuration calls a session outranks an alias: an alias may be left over from an older session of
        that name, and a message must never go there.
        """
        if name == "-":  # an id is a secret, and arguments can be seen by others
            name = sys.stdin.readline().strip()
        if "/" in name or name == ".":
            return self._of_folder(name)
        if configured := self._names.id_of(name):
            self._go_where_the_configuration_says()
            return configured
        aliased = self.state.aliases().get(name)
        if aliased is not None and is_session_id(aliased):
            return aliased
        if is_session_id(name) and os.path.isdir(os.path.join(self.state.path, "sessions", name)):
            return name
        if found := self._served_from(name, os.path.basename):
            return found
        if is_session_id(name):
            return name
        shown = self._shown(name)[:80]
        raise UserError("session_not_found", f"no session is called {shown!r} here{self._nearest(name)}")

    def folder(self, session: str) -> str | None:
        """The folder that a daemon serves or last served the session from."""
        from nexusd.serving import folder  # noqa: PLC0415 - not every command asks

        try:
            found = folder(self.state, session)
        except OSError:
            return None  # what stands there is no record of ours; that is this session's fault alone
        if found is None and session in self._names.all().values():
            from nexusd.cli.hand.unrecorded import folder_of  # noqa: PLC0415 - rare

            return folder_of(self._names, session)
        return found

    def labels(self) -> dict[str, str]:
        """A name for each session that has one: the configuration's, else its first alias that still means it."""
        configured = self._names.all()
        known = {name: session for name, session in self.state.aliases().items() if name not in configured}
        return {session: name for name, session in reversed([*configured.items(), *known.items()])}

    def label(self, session: str) -> str | None:
        """A name of ours for the session, that may be shown: one that means it, or its folder's."""
        folder = self.folder(session)
        return self.labels().get(session) or (os.path.basename(folder) if folder else None)

    def configured(self, name: str) -> str | None:
        """The id of the session that the configuration calls so."""
        return self._names.id_of(name)

    def trouble(self, session: str) -> str | None:
        """Why the session's local record cannot be used, as a sentence; None: it can.

        For commands that look at all sessions: one broken record must not keep the others from being looked at.
        """
        if said := self.state.trouble(session):
            return said
        try:
            self.bound(session)
        except UserError as fault:
            return f"the server in the local record of {self.label(session) or 'a session without a name'}: {fault}"
        return None

    def agent(self, session: str) -> str:
        """Who we are in the session: `--agent-id`, or what was kept when we joined."""
        agent = self._agent or self.state.agent(session)
        if agent is None:
            raise UserError(
                "missing_agent_id",
                "no agent id was given and none is kept for this session; add --agent-id ID, "
                "or join first: nexus join SESSION --agent-id ID",
            )
        return given.agent_id(agent)

    def new_agent(self) -> str:
        """The `--agent-id` of one who enters."""
        if self._agent is None:
            raise UserError("missing_agent_id", "say who you are: add --agent-id ID")
        return given.agent_id(self._agent)

    def key(self, session: str, agent: str) -> str | None:
        """The session key, if it is this agent's."""
        return self.state.key(session) if agent == (self.state.agent(session) or agent) else None

    # ---- which server

    def ambient(self) -> tuple[str, str]:
        """The server for what has none of its own, and where that comes from."""
        for url, source in (
            (self._url, "--url"),
            (os.environ.get("NEXUS_URL"), "env NEXUS_URL"),
            (self.state.server_url(), "config"),
        ):
            if url:
                return given.server(url), source
        return "https://messaging.md", "default"

    def bound(self, session: str) -> str | None:
        """The server that the session was found on before, or is served from; ids and texts go to no other one."""
        url = self.state.server(session)
        if url is None and session in self._names.all().values():
            from nexusd.cli.hand.unrecorded import server_of  # noqa: PLC0415 - rare

            url = server_of(session, self.state)
        return given.server(url) if url else None

    def server(self, session: str | None = None) -> str:
        """The server to ask, after saying which and why; a session's own outranks all but `--url`."""
        url, source = self.ambient()
        try:
            own = self.bound(session) if session else None
        except UserError:
            if source != "--url":
                raise
            own = None
        if own and own != url:
            if source == "--url":
                say(f"warning: this session is bound to {own}; using {url} because of --url")
            elif source != "default":
                say(f"warning: this session is bound to {own}; not using {url} ({source})")
        if own and source != "--url":
            url, source = own, "session binding"
        configured = self.state.server_url()
        if source in ("--url", "env NEXUS_URL") and configured and given.server(configured) != url:
            say(f"warning: using {url} ({source}); the configured server is {configured}")
        say(f"-> server: {url.partition('://')[2].partition('/')[0]} ({source})")
        return url

    def adopt(self, session: str, server: str) -> None:
        """Bind a session that we keep to the server on which it was found."""
        if self.state.server(session) is None and session in self.state.sessions():
            self.state.save(session, server=server)
            say(f"note: this session is now bound to {server}, where it was found")

    # ---- asking

    def direct(self, server: str) -> Direct:
        """The connection to a server."""
        if server not in self._direct:
            from nexusd.wire.direct import DEADLINE, Direct  # noqa: PLC0415 - a drop into an outbox needs no HTTP

            self._direct[server] = Direct(server, deadline=given.limit("NEXUS_HTTP_TIMEOUT", DEADLINE))
        return self._direct[server]

    def ask(self, server: str, call: Call, *, limit: int = 1 << 20) -> Reply:
        """Carry a call to the server and read its JSON object; RequestError for anything else."""
        from nexusd.wire.records import json_object  # noqa: PLC0415

        answer = self.direct(server).ask(call, limit=limit)
        return Reply(answer.body.decode(errors="replace"), json_object(call, answer))

    def _of_folder(self, given_path: str) -> str:
        """The session of a folder: who was told a path need not know where that daemon keeps its secrets."""
        import json  # noqa: PLC0415 - rare

        path = os.path.realpath(os.path.expanduser(given_path))
        if "NEXUS_CLIENT_DIR" not in os.environ:
            report = os.path.join(os.path.dirname(path), "daemon.json")
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError), open(report, "rb") as file:
                self.state = ClientDir(json.load(file)["clientDir"], warn=say)
        if found := self._served_from(path, os.path.realpath):
            return found
        why = "no daemon has served a session from there" if os.path.isdir(path) else "there is no such folder"
        raise UserError("session_not_found", f"{self._shown(given_path)[:200]}: {why}; what there is: nexus ls")

    def _shown(self, name: str) -> str:
        """What was typed or pasted, without a session's id in it."""
        from nexusd.config.concealed import Ids  # noqa: PLC0415 - only where it failed

        return Ids(self.state).concealed(name)

    def _go_where_the_configuration_says(self) -> None:
        """Its sessions' records are in its client_dir; only $NEXUS_CLIENT_DIR outranks that."""
        if not os.environ.get("NEXUS_CLIENT_DIR") and (path := self._names.client_dir()):
            self.state = ClientDir(path, warn=say)

    def _served_from(self, name: str, part: Callable[[str], str]) -> str | None:
        """The session whose folder has this name or path.

        Older sessions may have been served from the same folder: the one that the configuration calls so counts, or
        the one that is served now; where neither tells, nobody guesses.
        """
        found = [s for s in self.state.sessions() if (folder := self.folder(s)) and part(folder) == name]
        if len(found) < 2:  # none, or no doubt
            return found[0] if found else None
        from nexusd.serving import is_served  # noqa: PLC0415 - rare

        configured = self._names.id_of(os.path.basename(name))
        likely = [s for s in found if s == configured] or [s for s in found if is_served(self.state, s)]
        if len(likely) == 1:
            return likely[0]
        raise UserError(
            "ambiguous_name",
            f"{len(found)} sessions were served from folders called {os.path.basename(name)[:80]!r}, and none is now; "
            f"give the session's id, see nexus ls",
        )

    def _nearest(self, name: str) -> str:
        from difflib import get_close_matches  # noqa: PLC0415 - only for a typing error

        folders = filter(None, map(self.folder, self.state.sessions()))
        known = {*self._names.all(), *self.state.aliases(), *map(os.path.basename, folders)}
        near = get_close_matches(name, known, n=3, cutoff=0.5)
        return f"; did you mean {' or '.join(near)}?" if near else "; what there is: nexus ls"
