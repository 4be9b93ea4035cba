"""Which server a session is asked for on; one Link for each server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexusd.errors import UserError
from nexusd.spool import state as states
from nexusd.spool.layout import SessionFolder
from nexusd.wire.address import server_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nexusd.bridge.link import Link
    from nexusd.clientdir import ClientDir
    from nexusd.config.records import Config, SessionConfig


class Links:
    """The servers of the configuration in force (`config`), made when a session first needs one."""

    def __init__(self, config: Config, client_dir: ClientDir, make: Callable[[str, Config], Link]) -> None:
        self.config = config
        self._client_dir = client_dir
        self._make = make
        self._links: dict[str, Link] = {}

    def __iter__(self) -> Iterator[Link]:
        """All that there are so far."""
        return iter(self._links.values())

    def of(self, session: SessionConfig) -> Link:
        """The session's: what is recorded for it outranks everything. UserError where it cannot be asked there."""
        recorded = self._client_dir.server(session.id)
        if recorded and session.server and recorded.rstrip("/") != session.server.rstrip("/"):
            raise UserError(
                "other_server", f"its server key says {session.server}, but it lives on {recorded}: take the key out"
            )
        served = recorded or session.server or self._served_from(session)
        server = server_url(served or self.config.server, allow_insecure=self.config.allow_insecure)
        if server not in self._links:
            try:
                self._links[server] = self._make(server, self.config)
            except OSError as fault:  # of ssl too
                why = fault.strerror or str(fault)
                raise UserError(
                    "bad_ca_file", f"ca_file {self.config.ca_file} cannot be used: {why}; mend it"
                ) from None
        return self._links[server]

    def _served_from(self, session: SessionConfig) -> str | None:
        """The server that our own state names, where the local record does not: ids go nowhere else."""
        state = states.load(SessionFolder(self.config.root, session.name))
        if state is None or not state.server or state.digest != states.digest_of(state.server, session.id):
            return None
        return state.server
