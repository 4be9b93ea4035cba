"""One daemon to a root."""

from __future__ import annotations

import fcntl
import os

from nexusd.errors import RootLocked
from nexusd.spool import atomic, layout


class RootLock:
    """Holds a root's lock for as long as the process lives; the kernel drops it with the process, so none is stale."""

    def __init__(self, root: str) -> None:
        """RootLocked if another daemon has it; names its pid."""
        path = layout.lock_file(root)
        atomic.private_folder(os.path.dirname(path))
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(self._fd, 20, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._fd)
            raise RootLocked(
                f"another nexusd (pid {pid}) already serves {root}; stop that one, or give this one a root of its own"
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Let go of the root."""
        os.close(self._fd)


def holder(root: str) -> int | None:
    """The pid of the daemon that serves the root right now, or None."""
    try:
        fd = os.open(layout.lock_file(root), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(fd, 20, 0).strip()
        return int(text) if text.isdigit() else 0
    finally:
        os.close(fd)
    return None
