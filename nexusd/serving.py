"""Which daemon serves which session: one lock for each session id, and a pointer to its folder.

    <client_dir>/nexusd.lock                    a record lock on one byte for each session being served
    <client_dir>/sessions/<sessionId>/nexusd    the session's folder, for `nexus send`, `read`, `wait` and the like

The kernel drops the locks with the process that holds them, so nothing here can go stale. One file serves thousands of
sessions with one descriptor. The locks belong to that descriptor (OFD locks, fcntl(2)), not to the process: others may
be opened and closed again, and whoever asks takes no lock, so that asking is never in a daemon's way.
"""

from __future__ import annotations

import hashlib
import os

from nexusd.clientdir import ClientDir, is_session_id
from nexusd.spool import atomic, filelock

POINTER = "nexusd"
_LOCKS = "nexusd.lock"


class Serving:
    """The sessions that this process serves."""

    def __init__(self, client_dir: ClientDir) -> None:
        atomic.private_folder(client_dir.path)
        self._client_dir = client_dir
        self._fd = _open(client_dir)

    def take(self, session: str, folder: str) -> bool:
        """Claim a session for this process and point to its folder; False: another daemon serves it."""
        if not filelock.take(self._fd, _offset(session), 1):
            return False
        point(self._client_dir, session, folder)
        return True

    def take_root(self, root: str) -> bool:
        """Say that this process serves a root, also while that is not there to hold a lock itself."""
        return filelock.take(self._fd, _offset(root), 1)

    def release(self, session: str) -> None:
        """Let go of a session; the pointer stays, for reading its inbox."""
        filelock.release(self._fd, _offset(session), 1)

    def close(self) -> None:
        """Let go of all."""
        os.close(self._fd)


def point(client_dir: ClientDir, session: str, folder: str, *, anew: bool = False) -> None:
    """Write down which folder a session is served from; `anew`: from now on, and not since whenever it was."""
    home = os.path.join(client_dir.path, "sessions", session)
    atomic.private_folder(home)
    pointer = os.path.join(home, POINTER)
    if atomic.read_small(pointer) != (line := os.fsencode(folder) + b"\n") or anew:
        atomic.replace(pointer, line)


def folder(client_dir: ClientDir, session: str) -> str | None:
    """The folder that a daemon serves the session from, served it from last, or is to serve it from."""
    if not is_session_id(session):
        return None
    try:
        line = atomic.read_small(os.path.join(client_dir.path, "sessions", session, POINTER), 8192)
    except OSError:  # a link, or a folder: no pointer of ours
        return None
    return os.fsdecode(line.rstrip(b"\n")) if line else None


def pointed_at(client_dir: ClientDir, session: str) -> float | None:
    """Since when the session is to be served from its folder (Unix seconds); None: since the daemon took it up."""
    try:
        return os.stat(os.path.join(client_dir.path, "sessions", session, POINTER)).st_mtime
    except OSError:
        return None


def folders(client_dir: ClientDir) -> dict[str, str]:
    """The folder of every session that has one, by the folder's name."""
    found = (folder(client_dir, session) for session in client_dir.sessions())
    return {os.path.basename(path): path for path in found if path}


def is_served(client_dir: ClientDir, session: str) -> bool:
    """Whether a daemon serves the session right now. Anybody may ask, the daemon too: no lock is taken. OSError."""
    try:
        fd = os.open(os.path.join(client_dir.path, _LOCKS), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        return filelock.is_taken(fd, _offset(session), 1)
    finally:
        os.close(fd)


def is_root_served(client_dir: ClientDir, root: str) -> bool:
    """Whether a daemon runs for a root, also one that waits for its volume. OSError."""
    return is_served(client_dir, root)


def _open(client_dir: ClientDir) -> int:
    path = os.path.join(client_dir.path, _LOCKS)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _offset(session: str) -> int:
    return int.from_bytes(hashlib.sha256(session.encode()).digest()[:7])  # 2**56 places: no two sessions meet
