"""The names that the configuration gives to sessions, for those who only want to know whom a name means.

The whole configuration is not looked at, so a wrong value in it keeps nobody from sending; and what `nexusd add`
writes is read without a TOML parser, whose import costs a hand command 6 ms.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, Any

from nexusd.config import place
from nexusd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

_ADDED = re.compile(rb'(?:[a-z_]+ = "[^"\\\x00-\x1f]*"\n)+')  # as tomli-w writes plain strings
_ADDED_ID = re.compile(rb'^id = "([^"]+)"$', re.MULTILINE)
_TABLES = re.compile(rb"""^[ \t]*\[{0,2}[ \t]*["']?sessions\b""", re.MULTILINE)
_CLIENT_DIR = re.compile(rb"""^[ \t]*["']?client_dir\b""", re.MULTILINE)


class Names:
    """What one configuration calls its sessions. Files are read when they are asked for."""

    def __init__(self, named: str | None = None, environ: Mapping[str, str] = os.environ) -> None:
        self.file = place.config_file(named, environ)
        self.folder = place.sessions_folder(self.file)
        self._main: dict[str, Any] | None = None
        self._all: dict[str, str] | None = None

    def id_of(self, name: str) -> str | None:
        """The id of the session of that name; None: the configuration knows none.

        UserError where a file of that name is there and does not say which session it is: whoever goes on without it
        may mean another one.
        """
        if not 0 < len(name) <= 64 or name.startswith(".") or "/" in name or "\0" in name:
            return None  # it names no file there
        if identity := _identity(self._table(name)):
            return identity
        path = os.path.join(self.folder, f"{name}.toml")
        try:
            identity = _read_id(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, RecursionError):
            identity = None
        if identity is None:
            raise UserError("bad_config", f"{path} does not say which session {name} is; see nexusd check")
        return identity

    def all(self) -> dict[str, str]:
        """Every name and its session's id, read once; files that cannot be read are left out."""
        if self._all is None:
            self._all = self._found()
        return self._all

    def _found(self) -> dict[str, str]:
        found: dict[str, str] = {}
        entries: list[str] = []
        with contextlib.suppress(OSError):
            entries = sorted(os.listdir(self.folder))
        tables: dict[str, Any] = {}
        with contextlib.suppress(UserError):
            tables = self._sessions()
        names = [entry.removesuffix(".toml") for entry in entries if entry.endswith(".toml")]
        for name in (*tables, *names):
            with contextlib.suppress(UserError):
                if identity := self.id_of(name):
                    found.setdefault(name, identity)
        return found

    def client_dir(self) -> str | None:
        """Where the main file says that ids and keys are kept; None where it says nothing."""
        value = self._read_main(_CLIENT_DIR).get("client_dir")
        if not isinstance(value, str) or not value:
            return None
        return os.path.abspath(os.path.join(os.path.dirname(self.file), os.path.expanduser(value)))

    def _table(self, name: str) -> object:
        return self._sessions().get(name)

    def _sessions(self) -> dict[str, Any]:
        sessions = self._read_main(_TABLES).get("sessions")
        return sessions if isinstance(sessions, dict) else {}

    def _read_main(self, hint: re.Pattern[bytes]) -> dict[str, Any]:
        """The main file's tables, if what is looked for may stand in it. UserError where it does and is broken.

        Whoever went on without it might take another session of that name, or ask another server for it.
        """
        if self._main is None:
            data = b""
            with contextlib.suppress(OSError):
                data = place.read(self.file)
            if not hint.search(data):
                return {}
            try:
                self._main = _parsed(data)
            except (ValueError, RecursionError):
                why = f"{self.file} is broken, and may say which session is meant and where it is; see nexusd check"
                raise UserError("bad_config", why, exit_status=78) from None
        return self._main


def _read_id(path: str) -> str | None:
    data = place.read(path)
    if _ADDED.fullmatch(data) and (found := _ADDED_ID.search(data)):
        return _identity({"id": found[1].decode(errors="replace")})
    return _identity(_parsed(data))


def _parsed(data: bytes) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 - see above

    return tomllib.loads(data.decode())


def _identity(table: object) -> str | None:
    from nexusd.clientdir import is_session_id  # noqa: PLC0415 - it is there already for whoever has an id to look up

    value = table.get("id") if isinstance(table, dict) else None
    return value if isinstance(value, str) and is_session_id(value) else None
