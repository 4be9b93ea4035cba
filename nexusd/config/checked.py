"""What stands in the files, checked key by key; every fault with its place and what would be right."""

from __future__ import annotations

import difflib
import os
import shlex
import stat
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nexusd.clientdir import is_session_id
from nexusd.config.keys import BY_NAME, KEYS
from nexusd.config.place import read
from nexusd.config.records import SessionConfig, Settings
from nexusd.errors import UserError
from nexusd.local_fault import sentence
from nexusd.spool.layout import NAME, REPORT
from nexusd.wire.address import server_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nexusd.config.concealed import Ids


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the files something stands."""

    path: str
    table: str = ""

    @property
    def folder(self) -> str:
        """What relative paths count from."""
        return os.path.dirname(self.path)


class Checker:
    """Turns tables into values, and gathers what is wrong with them: `faults`, a sentence each."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def fault(self, *where_and_what: str) -> None:
        """Note one: the file, the table, the key, and what would be right; empty parts are left out."""
        self.faults.append(": ".join(part for part in where_and_what if part))

    def read(self, path: str) -> dict[str, Any]:
        """A file's tables; none where it cannot be read or is no TOML."""
        try:
            return tomllib.loads(read(path).decode())
        except UnicodeDecodeError as fault:
            self.fault(path, f"is not TOML: it is not UTF-8 ({fault.reason} at byte {fault.start})")
        except tomllib.TOMLDecodeError as fault:
            self.fault(path, f"is not TOML: {fault}")
        except RecursionError:
            self.fault(path, "is not TOML: it is nested too deeply")
        except OSError as fault:
            self.fault(sentence(fault, path))
        return {}

    def values(self, place: Place, given: dict[str, Any], inherited: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """All keys' values: what is given, else what is inherited, else the default."""
        values: dict[str, Any] = {}
        for key in KEYS:
            if key.name in given and (inherited is None or key.session or key.name == "server"):
                try:
                    values[key.name] = key.parse(given[key.name], place.folder)
                except ValueError as fault:
                    self.fault(place.path, place.table, key.name, f"must be {fault}")
                    values[key.name] = None
            elif inherited is not None:
                values[key.name] = inherited[key.name]
            else:
                values[key.name] = None if key.default is None else _default(key.name)
        for name in given.keys() - BY_NAME.keys():
            near = difflib.get_close_matches(name, BY_NAME, 1)
            self.fault(place.path, place.table, name, "unknown key" + (f"; did you mean {near[0]}?" if near else ""))
        for name in given.keys() & BY_NAME.keys() if inherited is not None else ():
            if not BY_NAME[name].session and name != "server":
                self.fault(
                    place.path, place.table, name, "holds for the whole daemon; move it out of the session's table"
                )
        slow, quick = values["poll_interval"], values["active_poll_interval"]
        if slow is not None and quick is not None and quick > slow:
            if "active_poll_interval" in given:
                self.fault(place.path, place.table, "active_poll_interval", "must not be longer than poll_interval")
            values["active_poll_interval"] = slow
        return values

    def session(self, place: Place, name: str, given: Any, top: Mapping[str, Any], ids: Ids) -> SessionConfig | None:
        """One session's table; None where not even that can be made of it. Its faults are in `faults`."""
        if ids.within(name):
            self.fault(
                place.path, place.table, "it is named by a session's id, which is a secret; give it another name"
            )
            return None
        if not NAME.fullmatch(name):
            self.fault(
                place.path,
                place.table,
                f"{name!r} cannot name a session: use a-z 0-9 . _ - (at most 64, a-z 0-9 first; not {REPORT})",
            )
            return None
        if not isinstance(given, dict):
            self.fault(place.path, place.table, "must be a table")
            return None
        given = dict(given)
        identity = given.pop("id", None)
        if not isinstance(identity, str) or not is_session_id(identity):
            self.fault(place.path, place.table, "id", "must be the session's id; `nexusd add` gets one and writes it")
            identity = ""
        values = self.values(place, given, top)
        if "server" in given:
            self.check_server(place, values["server"], top)
        return SessionConfig(
            name=name,
            id=identity,
            server=values["server"] if "server" in given else None,
            agent=values["agent_id"] if "agent_id" in given else None,
            settings=Settings.of(values),
        )

    def check_private(self, path: str) -> None:
        """A file that holds an id is a secret."""
        try:
            mode = os.stat(path).st_mode
        except OSError:
            return
        if not stat.S_ISREG(mode):
            quoted = shlex.quote(path)
            self.fault(path, f"it is no regular file; run: mv {quoted} {quoted}.unused")
            return
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            self.fault(path, f"others may read it, and a session id is a secret; run: chmod 600 {path}")

    def check_server(self, place: Place, server: str | None, top: Mapping[str, Any]) -> None:
        """A server that ids may be sent to."""
        if server is not None:
            try:
                server_url(server, allow_insecure=bool(top["allow_insecure"]))
            except UserError as fault:
                self.fault(place.path, place.table, "server", str(fault))


def _default(name: str) -> Any:
    key = BY_NAME[name]
    return key.parse(list(key.default) if isinstance(key.default, tuple) else key.default, "/")
