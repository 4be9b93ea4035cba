"""Which server a session lives on: ids go nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexusd.spool import state as states
from nexusd.spool.layout import SessionFolder

if TYPE_CHECKING:
    from nexusd.clientdir import ClientDir
    from nexusd.config.records import Config, SessionConfig


def home_server(config: Config, session: SessionConfig, client_dir: ClientDir) -> str:
    """What is recorded outranks everything; then its own table, then our state of it; else the configuration's."""
    recorded = client_dir.server(session.id)
    return recorded or session.server or _served_from(config, session) or config.server


def _served_from(config: Config, session: SessionConfig) -> str | None:
    """The server that our own state names, where the local record does not."""
    state = states.load(SessionFolder(config.root, session.name))
    if state is None or not state.server or state.digest != states.digest_of(state.server, session.id):
        return None
    return state.server
