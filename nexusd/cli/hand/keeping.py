"""Keeping what a server gave on entry. A key is given once: it is on the disk before anything else happens."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from nexusd.cli import output
from nexusd.errors import UserError

if TYPE_CHECKING:
    from nexusd.cli.hand.desk import Desk, Reply
    from nexusd.cli.output import Verb
    from nexusd.clientdir import ClientDir

_ALIAS = re.compile(r"[^\x00-\x20\x7f/-][^\x00-\x1f\x7f/]{0,63}")


def checked_alias(desk: Desk, name: str | None, session: str | None = None) -> str | None:
    """A short name that can be typed and shown, and will mean this session (None: a new one); or None.

    A name is shown in tables and logs, so no session id may be in it; and what nexusd calls its sessions goes first.
    """
    from nexusd.config.concealed import Ids  # noqa: PLC0415 - only for a name that is to be kept

    if name is None:
        return None
    if not (_ALIAS.fullmatch(name) and name.isprintable()):
        raise UserError("bad_alias", "an alias has 1 to 64 printable characters, no / in it and no - at its beginning")
    ids = Ids(desk.state)
    ids.add(*filter(None, [session]))
    if ids.within(name):
        raise UserError(
            "bad_alias", "this alias holds a session's id, which is a secret, and names are shown; take another"
        )
    if desk.configured(name) not in (None, session):
        raise UserError("name_taken", f"nexusd serves another session as {name}, and its name goes first; take another")
    return name


def ready(state: ClientDir, *, wanted: bool = True) -> None:
    """Find out that nothing could be kept before the server gives a key away, not after. UserError."""
    from nexusd.cli.writable import probe_client_dir  # noqa: PLC0415 - only for who enters

    if wanted:
        probe_client_dir(state)


def other_agent(state: ClientDir, session: str, agent: str) -> str | None:
    """Who else of ours is recorded in the session: one record holds one agent and its key."""
    recorded = state.agent(session)
    return recorded if recorded != agent else None


def entered(state: ClientDir, session: str, server: str, agent: str, raw: dict[str, Any]) -> None:
    """Keep an entry: the server, who we are, and our key where there is one.

    UserError `other_agent` where somebody else of ours is recorded: that record and its key stay as they are.
    """
    if other := other_agent(state, session, agent):
        raise UserError(
            "other_agent",
            f"we are {other} in this session already, and that record stays as it is; "
            f"{agent} is in it too now, and can be used from a local state of its own (NEXUS_CLIENT_DIR)",
        )
    key = raw.get("sessionKey")
    state.save(session, server=server, agent=agent, **({"key": key} if isinstance(key, str) and key else {}))


def kept(state: ClientDir, reply: Reply, *, session: str, server: str, agent: str, alias: str | None) -> Verb:
    """Keep an entry, then show the server's answer; where it cannot be kept, the answer is shown all the same."""
    try:
        entered(state, session, server, agent, reply.raw)
        if alias:
            state.set_alias(alias, session)
    except (OSError, UserError) as fault:
        yield reply.text
        output.say(f"nexus: the server took us in, but it could not be kept: {output.error(fault)['message']}")
        output.say("nexus: the answer above is all there is of the key; keep it safe")
        return 1
    yield reply.text
    return 0
