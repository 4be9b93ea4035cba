"""What `add` got from a server, and keeping it: whatever fails behind the server's answer, it is told.

A code can be claimed once and a key is given once. So nothing that goes wrong afterwards may raise past this: it is
noted, the rest is done, and the document that is printed holds all there is, with a sentence how to go on.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nexusd import serving
from nexusd.cli.output import error, say
from nexusd.config.concealed import Ids
from nexusd.errors import RequestError, UserError
from nexusd.root import recognise
from nexusd.spool import atomic
from nexusd.spool.layout import SessionFolder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nexusd.clientdir import ClientDir
    from nexusd.config.records import Config
    from nexusd.wire.client import NexusClient


@dataclass
class Acquired:
    """A session that a server let us into. `key`: the one that is good, None where there is none."""

    session: str
    agent: str
    server: str
    key: str | None = field(default=None, repr=False)
    entered: bool = True  # by this command, so that this command may take it back
    shown: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def failed(self, fault: UserError | RequestError | OSError, what: str) -> None:
        """Note what could not be done. The first one's code is the document's."""
        told = error(fault)
        self.shown.setdefault("error", fault.code if isinstance(fault, RequestError) else told["error"])
        self.faults.append(f"{what}: {told.get('message') or told['error']}")


class Keeping:
    """Keeps what was acquired under one name: the local record, the alias, the file for the daemon, the folder."""

    def __init__(self, config: Config, state: ClientDir, name: str) -> None:
        self._config = config
        self._state = state
        self._name = name
        self.file = os.path.join(config.sessions_folder, f"{name}.toml")

    def known_as(self, session: str) -> str | None:
        """The name under which the session is served on this account already."""
        for served in self._config.sessions:
            if served.id == session:
                return served.name
        with contextlib.suppress(OSError):
            folder = serving.folder(self._state, session)
            if folder and serving.is_served(self._state, session):
                return os.path.basename(folder)
        return None

    async def keep(self, got: Acquired, client: NexusClient) -> None:
        """Keep it and have it served; what cannot be done is noted in it."""
        got.shown["session"] = None if self._called(got) != self._name else self._name
        if await self._is_another_ones(got, client):
            return
        try:
            self._state.save(got.session, server=got.server, key=got.key, agent=got.agent)
        except (OSError, UserError) as fault:
            got.failed(fault, "its key could not be kept")
            # A key is given once: stdout is the one place left for it, as `nexus claim` prints it too.
            got.shown |= {"sessionId": got.session, "sessionKey": got.key}
            got.faults.append(
                f"the answer on stdout is all there is of its id and key, so keep it safe; when that is mended: "
                f"nexusd add {self._called(got)} --id - --adopt --agent-id {got.agent} (and the id on stdin)"
            )
            return
        with self._alone():
            if not self._cannot_be_called_so(got):
                self._serve(got, aliased=self._alias(got))

    def note(self, got: Acquired) -> None:
        """Of a session that was made and not entered: keep that it is there, so that it can be entered later."""
        got.shown["session"] = None if self._called(got) != self._name else self._name
        again = f"to enter it: nexusd add {self._called(got)}"
        try:
            self._state.save(got.session, server=got.server)
            self._state.set_alias(self._called(got), got.session)
        except (OSError, UserError):
            got.shown["sessionId"] = got.session
            got.faults.append(f"{again} --id - (and the id, which is in the answer on stdout, on stdin)")
        else:
            got.faults.append(f"{again} --alias {self._called(got)}")

    async def _is_another_ones(self, got: Acquired, client: NexusClient) -> bool:
        """Whether the session was ours before, under another name or as another agent: its record stays as it is.

        The agent that has just entered is taken out again, so that it takes nobody's place in the session.
        """
        name = self.known_as(got.session)
        try:
            recorded = self._state.agent(got.session)
        except (OSError, UserError):
            recorded = ""  # it cannot be read, so nobody knows whose it is
        if name is None and recorded in (None, got.agent):
            return False
        got.shown |= {"session": None, "error": "session_known", "servedAs": name}
        got.faults.append(self._who_has_it(got, name, recorded))
        if recorded == got.agent:  # the server let the same agent in again: the new key is the one that is good
            if got.key is not None:
                with contextlib.suppress(OSError, UserError):
                    self._state.save(got.session, key=got.key)
            return True
        if got.entered:
            await _leave_again(got, client)
        return True

    def _who_has_it(self, got: Acquired, name: str | None, recorded: str | None) -> str:
        if name is not None:
            return f"this session is served already, under the name {name}; nothing of that was changed"
        aliases = self._state.aliases()
        alias = next((alias for alias, known in aliases.items() if known == got.session), None)
        called = f" under the alias {alias}" if alias else ""
        serve = f"--alias {alias}" if alias else "--id -"
        who = recorded or "an agent whose record cannot be read"
        return (
            f"we are {who} in this session already{called}; to have that served: nexusd add {self._called(got)} {serve}"
        )

    def _called(self, got: Acquired) -> str:
        """The name, or OTHER where it holds the id of the very session: names are shown, and ids are secrets."""
        ids = Ids(None)
        ids.add(got.session)
        return "OTHER" if ids.within(self._name) else self._name

    def _cannot_be_called_so(self, got: Acquired) -> bool:
        """Whether the name turned out to be no good: it holds the session's id, or was taken meanwhile."""
        if self._called(got) != self._name:
            code, why = "bad_name", "the name holds the session's id, which is a secret, and names are shown"
        elif os.path.lexists(self.file):
            code, why = "name_taken", f"meanwhile there is another session called {self._name}"
        else:
            return False
        got.shown |= {"session": None, "error": code}
        got.faults.append(
            f"{why}; this one is ours and its key is kept, so give it another name: "
            f"nexusd add OTHER --id - (and the id, which nexus ls shows, on stdin)"
        )
        return True

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One `add` at a time writes what is served here: two of one name must not both find it free."""
        try:
            fd = os.open(self._config.sessions_folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            yield  # what is wrong with it is said when the file is written
            return
        try:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _alias(self, got: Acquired) -> bool:
        try:
            self._state.set_alias(self._name, got.session)
        except OSError as fault:
            got.failed(fault, f"it could not be given the alias {self._name}")
            return False
        return True

    def _serve(self, got: Acquired, *, aliased: bool) -> None:
        """From here on the daemon serves it."""
        import tomli_w  # noqa: PLC0415 - only once it is needed

        data = tomli_w.dumps({"id": got.session, "agent_id": got.agent}).encode()
        try:
            atomic.private_folder(self._config.sessions_folder)
            atomic.replace(self.file, data)
        except OSError as fault:
            if _holds(self.file, data):
                say(f"warning: {self.file} is there, but may not outlive a power cut ({fault.strerror})")
            else:
                again = f"--alias {self._name}" if aliased else "--id - (and the id, which nexus ls shows, on stdin)"
                got.failed(fault, "it is ours and its key is kept, but it is not served yet")
                got.faults.append(f"when that is mended: nexusd add {self._name} {again}")
                return
        folder = SessionFolder(self._config.root, self._name)
        try:
            # So that a file can be dropped and an inbox waited for before the daemon has come to it.
            recognise(self._config.root, self._config.client_dir)
            folder.make()
            serving.point(self._state, got.session, folder.path, anew=True)
        except UserError as fault:
            say(f"warning: {fault}")
        except OSError as fault:
            say(f"warning: {folder.path} could not be made ({fault.strerror}); nexusd doctor says what mends it")


async def _leave_again(got: Acquired, client: NexusClient) -> None:
    try:
        await client.leave(got.session, got.agent, got.key)
    except RequestError as fault:
        got.shown |= {"sessionKey": got.key, "left": False}
        got.faults.append(
            f"{got.agent}, who has just entered it, could not be taken out again ({fault}); "
            f"its key is in the answer on stdout, and is kept nowhere else"
        )
    else:
        got.shown["left"] = True
        got.faults.append(f"{got.agent}, who had just entered it, was taken out again")


def _holds(path: str, data: bytes) -> bool:
    with contextlib.suppress(OSError):
        return atomic.read_small(path) == data
    return False
