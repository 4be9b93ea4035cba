"""Sessions that the configuration names and the local records do not: one that was left, or whose record is damaged.

Rare, so the whole configuration is read only here.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nexusd.config.load import load
from nexusd.errors import ConfigError, UserError
from nexusd.home_server import home_server
from nexusd.spool.layout import SessionFolder

if TYPE_CHECKING:
    from nexusd.clientdir import ClientDir
    from nexusd.config.names import Names


def server_of(session: str, state: ClientDir) -> str:
    """Where the daemon would ask for it. UserError where that cannot be told: nobody guesses."""
    config = load()
    found = next((one for one in config.sessions if one.id == session), None)
    if found is None:
        raise UserError("bad_config", "the configuration has this session, but cannot be used; see nexusd check")
    return home_server(config, found, state)


def folder_of(names: Names, session: str) -> str | None:
    """The folder that it was served from, if there is one: what it has can still be read."""
    name = next(name for name, known in names.all().items() if known == session)
    try:
        found = SessionFolder(load().root, name)
    except ConfigError:
        return None
    return found.path if os.path.isdir(found.own) else None
