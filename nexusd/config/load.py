"""TOML files to a Config; all that is wrong with them at once."""

from __future__ import annotations

import difflib
import os
import stat
import tomllib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from nexusd.clientdir import is_session_id
from nexusd.config.keys import BY_NAME, KEYS
from nexusd.config.records import Config, SessionConfig, Settings
from nexusd.errors import ConfigError, UserError
from nexusd.spool.layout import NAME
from nexusd.wire.address import server_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def config_file(named: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """The file that counts: --config, $NEXUSD_CONFIG, $CONFIGURATION_DIRECTORY, the user's, or the system's."""
    if named or environ.get("NEXUSD_CONFIG"):
        return os.path.abspath(os.path.expanduser(named or environ["NEXUSD_CONFIG"]))
    if folder := environ.get("CONFIGURATION_DIRECTORY"):
        return os.path.join(folder.split(":")[0], "config.toml")
    home = environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    own = os.path.join(home, "nexusd", "config.toml")
    system = "/etc/nexusd/config.toml"
    return system if os.path.exists(system) and not os.path.isdir(os.path.dirname(own)) else own


def load(named: str | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """The configuration in force; ConfigError lists every fault with file, table, key and what would be right."""
    path = config_file(named, environ)
    loader = _Loader()
    explicit = bool(named or environ.get("NEXUSD_CONFIG"))
    if explicit and not os.path.exists(path):
        loader.fault(path, "there is no such file; make it, or leave the option out to use the defaults")
    table = loader.read(path) if os.path.lexists(path) else {}
    folder = os.path.dirname(path)
    sessions = table.pop("sessions", {})
    top = loader.values(_Place(path), table)
    found: dict[str, SessionConfig] = {}
    if isinstance(sessions, dict):
        for name, session in sessions.items():
            loader.session(found, _Place(path, f"sessions.{name}"), name, session, top)
        if any(isinstance(s, dict) and "id" in s for s in sessions.values()):
            loader.check_private(path)
    else:
        loader.fault(path, "sessions: must be tables, one for each session: [sessions.NAME]")
    dropins = os.path.join(folder, "sessions.d")
    for entry in _toml_files(dropins):
        name = os.path.basename(entry).removesuffix(".toml")
        loader.check_private(entry)
        loader.session(found, _Place(entry), name, loader.read(entry), top)
    loader.check_unique(path, found.values(), top["server"])
    loader.check_server(_Place(path), top["server"], top)
    if loader.faults:
        raise ConfigError(loader.faults)
    daemon = {f.name for f in fields(Config)} & BY_NAME.keys()
    return Config(
        file=path if os.path.exists(path) else None,
        sessions_folder=dropins,
        defaults=Settings.of(top),
        sessions=tuple(found[name] for name in sorted(found)),
        **{name: top[name] for name in daemon},
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the files something stands."""

    path: str
    table: str = ""

    @property
    def folder(self) -> str:
        return os.path.dirname(self.path)


class _Loader:
    def __init__(self) -> None:
        self.faults: list[str] = []

    def fault(self, *where_and_what: str) -> None:
        self.faults.append(": ".join(part for part in where_and_what if part))

    def read(self, path: str) -> dict[str, Any]:
        try:
            with open(path, "rb") as file:
                return tomllib.load(file)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
            self.fault(path, f"is not TOML: {fault}")
        except RecursionError:
            self.fault(path, "is not TOML: it is nested too deeply")
        except OSError as fault:
            self.fault(path, f"cannot be read: {fault.strerror}")
        return {}

    def values(
        self, place: _Place, given: dict[str, Any], inherited: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
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

    def session(
        self,
        found: dict[str, SessionConfig],
        place: _Place,
        name: str,
        given: Any,
        top: Mapping[str, Any],
    ) -> None:
        if not NAME.fullmatch(name):
            self.fault(
                place.path,
                place.table,
                f"{name!r} cannot name a session: use a-z 0-9 . _ - (at most 64, a-z 0-9 first)",
            )
            return
        if not isinstance(given, dict):
            self.fault(place.path, place.table, "must be a table")
            return
        if name in found:
            self.fault(place.path, place.table, f"there are two sessions called {name}; rename one")
            return
        given = dict(given)
        identity = given.pop("id", None)
        if not isinstance(identity, str) or not is_session_id(identity):
            self.fault(place.path, place.table, "id", "must be the session's id; `nexusd add` gets one and writes it")
            identity = ""
        values = self.values(place, given, top)
        if "server" in given:
            self.check_server(place, values["server"], top)
        found[name] = SessionConfig(
            name=name,
            id=identity,
            server=values["server"] if "server" in given else None,
            settings=Settings.of(values),
        )

    def check_private(self, path: str) -> None:
        """A file that holds an id is a secret."""
        try:
            mode = os.stat(path).st_mode
        except OSError:
            return
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            self.fault(path, f"others may read it, and a session id is a secret; run: chmod 600 {path}")

    def check_unique(self, path: str, sessions: Iterable[SessionConfig], server: str | None) -> None:
        by_id: dict[tuple[str, str], str] = {}
        for session in sessions:
            if session.id:
                other = by_id.setdefault((session.server or server or "", session.id), session.name)
                if other != session.name:
                    self.fault(path, f"{other} and {session.name} are the same session; remove one")

    def check_server(self, place: _Place, server: str | None, top: Mapping[str, Any]) -> None:
        if server is not None:
            try:
                server_url(server, allow_insecure=bool(top["allow_insecure"]))
            except UserError as fault:
                self.fault(place.path, place.table, "server", str(fault))


def _default(name: str) -> Any:
    key = BY_NAME[name]
    return key.parse(list(key.default) if isinstance(key.default, tuple) else key.default, "/")


def _toml_files(folder: str) -> list[str]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    return [os.path.join(folder, n) for n in names if n.endswith(".toml") and not n.startswith(".")]
