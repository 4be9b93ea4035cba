"""The local state that all NexusMessaging clients on this account share (protocol: "Local state").

    sessions/<sessionId>/{agent,key,cursor,server}   one value and a newline each
    aliases.json  config.json  server-caps.json
    .lock         held round every read-change-write

Session ids and keys live here and nowhere else.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import stat
import time
from typing import TYPE_CHECKING, Any

from nexusd.errors import UserError
from nexusd.local_fault import sentence
from nexusd.spool import atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEFAULT = "~/.config/messaging"
CAPS_LIFETIME = 300.0  # seconds a server's capabilities are good for
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{15,127}")  # opaque, but it names a folder
_PLAIN = re.compile(r"[\x21-\x7e]*")  # what can stand in a header or a URL as it is
_LONGEST = 4096  # bytes of a record
_REMEDY = "mend that file, or remove it and enter the session again"


def is_session_id(text: str) -> bool:
    """Whether the text can be a session id, and so a folder's name."""
    return _ID.fullmatch(text) is not None


class ClientDir:
    """The shared folder. `warn` gets a sentence when something corrupt had to be set aside."""

    def __init__(self, path: str = DEFAULT, *, warn: Callable[[str], None] = lambda _: None) -> None:
        self.path = os.path.abspath(os.path.expanduser(path))
        self._warn = warn

    # ---- sessions

    def is_there(self) -> bool:
        """Whether it holds records at all: it may be on a volume that is away. OSError where that cannot be seen."""
        try:
            return stat.S_ISDIR(os.stat(self._path("sessions")).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def sessions(self) -> list[str]:
        """The ids of all sessions known here, in the order of their names."""
        try:
            return sorted(name for name in os.listdir(self._path("sessions")) if is_session_id(name))
        except FileNotFoundError:
            return []

    # Each of these raises UserError `bad_record` where the file holds what no header and no URL may hold: a fault of
    # that one session, which callers that look at all sessions must not let stop the others (`trouble`).

    def agent(self, session: str) -> str | None:
        """Who we are in the session; None: we have not joined it, or left."""
        return self._value(session, "agent")

    def key(self, session: str) -> str | None:
        """Our session key, where the server gave one."""
        return self._value(session, "key")

    def server(self, session: str) -> str | None:
        """The one server the session lives on."""
        return self._value(session, "server")

    def cursor(self, session: str) -> str | None:
        """The hand's cursor. The daemon keeps its own and never moves this one.

        One that is no number counts as none: polling from the beginning repeats messages, and loses nothing.
        """
        try:
            value = self._value(session, "cursor")
        except UserError as fault:
            self._warn(str(fault))
            return None
        if value is not None and not (value.isdigit() and len(value) <= 30):
            self._warn(f"the saved cursor of {self._named(session)} is no number; going on without it")
            return None
        return value

    def trouble(self, session: str) -> str | None:
        """What is wrong with the session's files here, as a sentence; None: agent, key and server can be read."""
        try:
            for name in ("agent", "key", "server"):
                self._value(session, name)
        except UserError as fault:
            return str(fault)
        except OSError as fault:
            return f"the local record of {self._named(session)} cannot be read: {sentence(fault, self.path)}"
        return None

    def save(self, session: str, **values: str | None) -> None:
        """Write `agent`, `key`, `server` or `cursor`; None removes one. `agent` goes last: it says joined."""
        if not is_session_id(session):
            raise UserError(
                "bad_session_id", "the server gave a session id that cannot name a folder; nothing was saved"
            )
        for name, value in values.items():
            if value is not None and not _PLAIN.fullmatch(value):  # nothing may be written that could not be read
                raise UserError(
                    "bad_record",
                    f"the {name} for this session holds a character that it may not hold; nothing was saved",
                )
        folder = self._path("sessions", session)
        atomic.private_folder(folder)
        for name in ("server", "key", "cursor", "agent"):
            if name in values:
                value = values[name]
                if value is None:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(os.path.join(folder, name))
                else:
                    atomic.replace(os.path.join(folder, name), f"{value}\n".encode())

    def forget(self, session: str) -> None:
        """Remove all that is kept of a session, its aliases too."""
        for name in [n for n, s in self.aliases().items() if s == session]:
            self.set_alias(name, None)
        if is_session_id(session):
            import shutil  # noqa: PLC0415 - costs every hand command 4 ms, and only leaving needs it

            shutil.rmtree(self._path("sessions", session), ignore_errors=True)

    def resolve(self, session_or_alias: str) -> str:
        """A session id as it is; an alias becomes its id."""
        return self.aliases().get(session_or_alias, session_or_alias)

    # ---- aliases, config, capabilities

    def aliases(self) -> dict[str, str]:
        """Every alias and its session id."""
        return {k: v for k, v in self._json("aliases.json").items() if isinstance(v, str)}

    def set_alias(self, name: str, session: str | None) -> bool:
        """Give a session a name, or take the name away; whether anything changed."""

        def change(aliases: dict[str, Any]) -> bool:
            before = aliases.get(name)
            if session is None:
                aliases.pop(name, None)
            else:
                aliases[name] = session
            return before != session

        return self._change("aliases.json", change)

    def server_url(self) -> str | None:
        """The default server set by `nexus config set-url`."""
        url = self._json("config.json").get("serverUrl")
        return url if isinstance(url, str) and url else None

    def set_server_url(self, url: str | None) -> None:
        """Set or unset the default server."""

        def change(config: dict[str, Any]) -> bool:
            config.pop("serverUrl", None)
            if url is not None:
                config["serverUrl"] = url
            config["updatedAt"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            return True

        self._change("config.json", change)

    def caps(self, server: str) -> dict[str, Any] | None:
        """The server's capabilities, if asked within the last 300 s."""
        known = self._json("server-caps.json")
        fetched, able = known.get("fetchedAt"), known.get("capabilities")
        if known.get("serverUrl") != server or not isinstance(able, dict) or not isinstance(fetched, int | float):
            return None
        if isinstance(fetched, int) and abs(fetched) >= 1 << 63:
            return None  # more digits than a float takes
        age = time.time() - (fetched / 1000 if fetched > 1e11 else fetched)  # clients differ: seconds, milliseconds
        return able if 0 <= age < CAPS_LIFETIME else None

    def set_caps(self, server: str, capabilities: dict[str, Any]) -> None:
        """Remember what the server says that it can do."""

        def change(caps: dict[str, Any]) -> bool:
            caps.update(serverUrl=server, capabilities=capabilities, fetchedAt=int(time.time()))
            return True

        self._change("server-caps.json", change)

    # ---- files

    def _path(self, *parts: str) -> str:
        return os.path.join(self.path, *parts)

    def _value(self, session: str, name: str) -> str | None:
        if not is_session_id(session):
            return None
        data = atomic.read_small(self._path("sessions", session, name), _LONGEST + 1)
        # White space round the value is let go, also a CRLF: other clients and editors leave it, and it is not meant.
        value = (data or b"").strip().decode(errors="replace")
        emptied = name == "agent" and data is not None and not value  # who leaves removes the file
        if _PLAIN.fullmatch(value) and len(value) <= _LONGEST and not emptied:
            return value or None
        where = os.path.join(self.path, "sessions", "\u2026", name)
        raise UserError(
            "bad_record",
            f"the file {name} of {self._named(session)} ({where}) must hold one line of plain ASCII, the {name} alone; "
            f"{_REMEDY}",
        )

    def _named(self, session: str) -> str:
        """The session by a name that may be shown: its alias, or the folder that a daemon serves it from."""
        from nexusd import serving  # noqa: PLC0415 - it stands on this module; and only a fault needs it

        with contextlib.suppress(OSError):
            alias = next((name for name, known in self.aliases().items() if known == session), None)
            folder = serving.folder(self, session)
            if alias or folder:
                return f"session {alias or os.path.basename(folder or '')}"
        return "a session without a name"

    def _json(self, name: str) -> dict[str, Any]:
        try:
            data = atomic.read_small(self._path(name))
            if data is None:
                return {}
            value = json.loads(data)
            # What cannot be written back is no better than what cannot be read.
            json.dumps(value, ensure_ascii=False).encode()
            if isinstance(value, dict):
                return value
        except (ValueError, RecursionError, IsADirectoryError):
            pass
        broken = self._path(f"{name}.broken")
        with contextlib.suppress(OSError):
            os.replace(self._path(name), broken)
            self._warn(f"{self._path(name)} could not be read; it is kept as {broken}, and we go on without it")
        return {}

    def _change(self, name: str, change: Callable[[dict[str, Any]], bool]) -> bool:
        atomic.private_folder(self.path)
        with self._locked():
            value = self._json(name)
            changed = change(value)
            if changed:
                atomic.replace(self._path(name), (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())
        return changed

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        fd = os.open(self._path(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)
