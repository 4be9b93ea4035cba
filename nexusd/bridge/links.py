"""Which server a session is asked for on; one Link for each server."""

from __future__ import annotations

import contextlib
import os
import ssl
from typing import TYPE_CHECKING

from nexusd.errors import UserError
from nexusd.home_server import home_server
from nexusd.wire.address import server_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nexusd.bridge.link import Link
    from nexusd.clientdir import ClientDir
    from nexusd.config.records import Config, SessionConfig


WIRING = ("transport", "proxy", "ca_file", "allow_insecure")  # how servers are reached


class Links:
    """The servers of the configuration in force (`config`), made when a session first needs one."""

    def __init__(self, config: Config, client_dir: ClientDir, make: Callable[[str, Config], Link]) -> None:
        self.config = config
        self._client_dir = client_dir
        self._make = make
        self._links: dict[str, Link] = {}
        self._ca = _mark(config.ca_file)  # when the first of them was made

    def __iter__(self) -> Iterator[Link]:
        """All that there are so far."""
        return iter(self._links.values())

    def rewired(self, config: Config) -> bool:
        """Whether servers are to be reached in another way than so far: by other keys, or by what `ca_file` holds.

        A `ca_file` that cannot be used now is no other way: what was read of it stays in force.
        """
        if any(getattr(config, key) != getattr(self.config, key) for key in WIRING):
            return True
        if not self._links or self._ca == _mark(config.ca_file):
            return False
        with contextlib.suppress(OSError):
            ssl.create_default_context(cafile=config.ca_file)
            return True
        return False

    def renew(self) -> list[Link]:
        """Servers are reached in another way from now on: the links so far, which nobody gets any more, to close."""
        before, self._links = list(self._links.values()), {}
        return before

    def of(self, session: SessionConfig) -> Link:
        """The session's: what is recorded for it outranks everything. UserError where it cannot be asked there."""
        recorded = self._client_dir.server(session.id)
        if recorded and session.server and recorded.rstrip("/") != session.server.rstrip("/"):
            raise UserError(
                "other_server", f"its server key says {session.server}, but it lives on {recorded}: take the key out"
            )
        served = home_server(self.config, session, self._client_dir)
        server = server_url(served, allow_insecure=self.config.allow_insecure)
        if server not in self._links:
            self._ca = self._ca if self._links else _mark(self.config.ca_file)
            try:
                self._links[server] = self._make(server, self.config)
            except OSError as fault:  # of ssl too
                why = fault.strerror or str(fault)
                raise UserError(
                    "bad_ca_file", f"ca_file {self.config.ca_file} cannot be used: {why}; mend it"
                ) from None
        return self._links[server]


def _mark(path: str | None) -> tuple[int, int] | None:
    """What tells that the file was changed."""
    with contextlib.suppress(OSError):
        found = os.stat(path or "")
        return found.st_ino, found.st_mtime_ns
    return None
