"""Keeping what a server gave on entry. A key is given once: it is on the disk before anything else happens."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from nexusd.cli import output
from nexusd.errors import UserError
from nexusd.spool import atomic

if TYPE_CHECKING:
    from nexusd.cli.hand.desk import Reply
    from nexusd.cli.output import Verb
    from nexusd.clientdir import ClientDir

_ALIAS = re.compile(r"[^\x00-\x20\x7f/-][^\x00-\x1f\x7f/]{0,63}")


def checked_alias(name: str | None) -> str | None:
    """A short name that can be typed and shown, or None."""
    if name is not None and not (_ALIAS.fullmatch(name) and name.isprintable()):
        raise UserError("bad_alias", "an alias has 1 to 64 printable characters, no / in it and no - at its beginning")
    return name


def ready(state: ClientDir, *, wanted: bool = True) -> None:
    """Find out that nothing could be kept before the server gives a key away, not after. OSError."""
    if not wanted:
        return
    path = os.path.join(state.path, "sessions")
    atomic.private_folder(path)
    probe = os.path.join(path, f".{os.urandom(8).hex()}.tmp")
    os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    os.unlink(probe)


def entered(state: ClientDir, session: str, server: str, agent: str, raw: dict[str, Any]) -> None:
    """Keep an entry: the server, who we are, and our key where there is one."""
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
