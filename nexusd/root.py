"""The folder of all sessions: which one it is, and that one daemon serves it.

A root has an id (`.nexusd/id`), and `client_dir` remembers which id is at which path. So a volume that is not mounted
is told from a new root: nothing is made in the empty folder under the mount.
"""

from __future__ import annotations

import contextlib
import hashlib
import os

from nexusd import serving
from nexusd.clientdir import ClientDir
from nexusd.errors import UserError
from nexusd.spool import atomic, layout
from nexusd.spool.rootlock import RootLock


class NotThisRoot(UserError):
    """The root at this path is not the one that was served: its volume is not mounted, or another one is."""

    def __init__(self, path: str) -> None:
        super().__init__(
            "not_this_root",
            f"{path} is not the folder that was served from there; mount its volume (findmnt -T {path}), "
            f"or, to begin anew in what is there now: nexusd init --new-root",
        )


class Root:
    """One root. `hold` is asked before anything is written below it."""

    def __init__(self, path: str, client_dir: str) -> None:
        self.path = path
        self._client_dir = client_dir
        self._lock: RootLock | None = None
        self._identity: tuple[int, int] | None = None
        self._remembered = False
        self._had_records = False  # in this life, or somebody's before it

    def hold(self) -> None:
        """Make sure that it is the one that was served before, and ours alone. NotThisRoot, RootLocked, OSError.

        UserError where the sessions' records were there and are not any more: without them nobody can tell who we are,
        nor, if the root goes too, that it is not the one.
        """
        missing = self._without_records()
        if not self.held:
            self.close()  # the lock's file is gone: the folder was removed, or something was mounted over it
            if missing is None:
                recognise(self.path, self._client_dir)
            elif not has_sessions(self.path):  # nothing says that it is a root at all
                raise missing
            self._lock = RootLock(self.path)  # also without the records: it says that we run, and keeps others out
            self._identity, self._remembered = _identity(layout.lock_file(self.path)), False
        if missing is not None:
            raise missing
        if not self._remembered:
            self._make_sure()
            remember(self.path, self._client_dir)
            self._remembered = True

    def _without_records(self) -> UserError | OSError | None:
        """Why the sessions' records cannot be read, where there were any; None: they can."""
        try:
            has_records = ClientDir(self._client_dir).is_there()
        except OSError as fault:
            return fault
        self._had_records = self._had_records or has_records or has_sessions(self.path)
        return _no_records(self._client_dir) if self._had_records and not has_records else None

    def _make_sure(self) -> None:
        """NotThisRoot also where it was locked before the records could be read."""
        try:
            recognise(self.path, self._client_dir)
        except NotThisRoot:
            self.close()
            raise

    def write_report(self, data: bytes) -> Exception | None:
        """Put the daemon's report below the root, or beside it where that cannot be; what was in the way, or None."""
        second = second_report(self.path, self._client_dir)
        try:
            if not self.held:  # nothing is written below a root that is not ours
                self.hold()
            atomic.replace_or_overwrite(layout.report_file(self.path), data)
        except (OSError, UserError) as fault:
            with contextlib.suppress(OSError):
                if os.path.isdir(self._client_dir):  # it may be a volume that comes back: nothing is made in its place
                    atomic.private_folder(os.path.dirname(second))
                    atomic.replace(second, data, durable=False)
            return fault
        with contextlib.suppress(OSError):
            os.unlink(second)
        return None

    @property
    def held(self) -> bool:
        """Whether what is there is still what we hold."""
        return self._lock is not None and _identity(layout.lock_file(self.path)) == self._identity

    def close(self) -> None:
        """Let go of it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def recognise(path: str, client_dir: str) -> None:
    """NotThisRoot where another root was served from this path and is not there now. Nothing is written.

    UserError where the sessions' records in `client_dir` are not there: that may be a volume too.
    """
    if not ClientDir(client_dir).is_there() and has_sessions(path):
        raise _no_records(client_dir)
    remembered = _read(_memory(path, client_dir))
    if remembered is None:
        return
    found = _read(layout.root_id_file(path))
    if found == remembered or (found is None and has_sessions(path)):
        return  # without an id, but with sessions: somebody removed `.nexusd`, or restored an old copy
    if found is not None or _was_served(path, client_dir):
        raise NotThisRoot(path)


def _no_records(client_dir: str) -> UserError:
    sessions = os.path.join(client_dir, "sessions")
    return UserError(
        "no_client_dir",
        f"{sessions} is not there, and sessions were served before; bring it back (a volume, a backup), "
        f"or, where they are lost, and every session is to count as left: mkdir -p -m 700 {sessions}",
    )


def remember(path: str, client_dir: str) -> None:
    """Give the root an id where it has none, and remember it. OSError."""
    remembered = _read(_memory(path, client_dir))
    found = _read(layout.root_id_file(path))
    if found is None:
        found = remembered or os.urandom(8).hex()
        atomic.private_folder(os.path.dirname(layout.root_id_file(path)))
        atomic.replace(layout.root_id_file(path), f"{found}\n".encode())
    if found != remembered:
        atomic.private_folder(os.path.dirname(_memory(path, client_dir)))
        atomic.replace(_memory(path, client_dir), f"{found}\n".encode())


def second_report(path: str, client_dir: str) -> str:
    """Where the daemon's report is while it cannot be written below the root."""
    return f"{_memory(path, client_dir)}.json"


def forget(path: str, client_dir: str) -> None:
    """Whatever is at this path next is a root of its own."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_memory(path, client_dir))


def _memory(path: str, client_dir: str) -> str:
    digest = hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()[:16]
    return os.path.join(client_dir, "roots", digest)


def _read(path: str) -> str | None:
    data = atomic.read_small(path, 100)
    return data.decode(errors="replace").strip() or None if data is not None else None


def has_sessions(path: str) -> bool:
    """Whether sessions were served from there."""
    try:
        names = os.listdir(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return any(os.path.isdir(layout.SessionFolder(path, name).own) for name in names)


def _was_served(path: str, client_dir: str) -> bool:
    """Whether the local records point to a session's folder in this root."""
    records = ClientDir(client_dir)
    folders = (serving.folder(records, session) for session in records.sessions())
    return any(os.path.dirname(folder) == os.path.abspath(path) for folder in folders if folder)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino
