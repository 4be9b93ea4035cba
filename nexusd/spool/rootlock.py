"""One daemon to a root."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from typing import NamedTuple

from nexusd.errors import RootLocked
from nexusd.spool import atomic, filelock, layout


class _Holder(NamedTuple):
    """Who holds a root, as the lock file says, one a line; "" for what it does not say."""

    pid: str
    host: str  # pids are counted anew on each machine and in each container, and a root may be shared
    boot: str


class RootLock:
    """Holds a root's lock for as long as the process lives; the kernel drops it with the process, so none is stale."""

    def __init__(self, root: str) -> None:
        """RootLocked if another daemon has it; names its pid, and its host if that is not this one."""
        path = layout.lock_file(root)
        atomic.private_folder(os.path.dirname(path))
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if not _taken(self._fd):
            other = _said(_read(self._fd))
            os.close(self._fd)
            raise RootLocked(
                f"another nexusd ({other}) already serves {root}; stop that one, or give this one a root of its own"
            )
        data = "".join(f"{line}\n" for line in _ourselves()).encode()
        with contextlib.suppress(OSError):  # on a full disk the root is ours all the same, and nobody can tell whose
            os.pwrite(self._fd, data, 0)  # first written, then cut: whoever reads meanwhile finds the pid
            os.ftruncate(self._fd, len(data))

    def close(self) -> None:
        """Let go of the root."""
        os.close(self._fd)


def holder(root: str) -> int | None:
    """The pid of the daemon that serves the root right now, 0 if it is not known, or None. It takes no lock."""
    try:
        fd = os.open(layout.lock_file(root), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not filelock.is_taken(fd, 0, 0):
            return None
        pid = _read(fd).pid
        return int(pid) if pid.isascii() and pid.isdigit() else 0
    finally:
        os.close(fd)


def _taken(fd: int) -> bool:
    """Take both kinds of lock: one that can be asked for, and the one that earlier versions know."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return filelock.take(fd, 0, 0)


def _ourselves() -> _Holder:
    boot = atomic.read_small("/proc/sys/kernel/random/boot_id") or b""
    return _Holder(str(os.getpid()), socket.gethostname(), boot.decode(errors="replace").strip())


def _read(fd: int) -> _Holder:
    lines = os.pread(fd, 1024, 0).decode(errors="replace").split("\n")
    return _Holder(*(line.strip() for line in (*lines, "", "", "")[:3]))


def _said(found: _Holder) -> str:
    pid = f"pid {found.pid or 'unknown'}"
    here = _ourselves()
    elsewhere = found.host and (found.host, found.boot or here.boot) != (here.host, here.boot)
    return f"{pid} on host {found.host}" if elsewhere else pid
