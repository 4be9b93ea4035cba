"""What commands by hand leave in `client_dir` for a daemon that serves the same session.

    sessions/<sessionId>/leaving    empty: a leave was begun
    sessions/<sessionId>/renewed    the time to live that a renewal by hand gave, in seconds
    by-hand                         empty: its time says when there was one last, for all sessions together

Other clients leave no such word; the daemon finds out what they did as far as the server tells.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nexusd.spool import atomic

if TYPE_CHECKING:
    from nexusd.clientdir import ClientDir

LEAVING = 600.0  # seconds for which a leave that was begun counts, whatever became of its answer


def leaving(client_dir: ClientDir, session: str, *, begun: bool) -> None:
    """Write down that a leave was begun, before the server is asked; or that it came to nothing. OSError."""
    path = _path(client_dir, session, "leaving")
    if begun:
        atomic.replace(path, b"")
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def is_leaving(client_dir: ClientDir, session: str) -> bool:
    """Whether a leave was begun within ten minutes: who is put out then was not put out, but has left."""
    try:
        return time.time() - os.stat(_path(client_dir, session, "leaving")).st_mtime < LEAVING
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Renewal:
    """One by hand: when it was written down (Unix seconds), and the time to live that it gave (seconds)."""

    at: float
    ttl: float


def renewed(client_dir: ClientDir, session: str, ttl: float) -> None:
    """Write down that a session lives for `ttl` seconds from now. A session without a folder is nobody's here."""
    with contextlib.suppress(OSError):  # no more than a hint: the renewal itself must not fail for it
        atomic.replace(_path(client_dir, session, "renewed"), b"%d\n" % ttl, durable=False)
        atomic.replace(os.path.join(client_dir.path, "by-hand"), b"", durable=False)


def last_word(client_dir: ClientDir) -> int | None:
    """When any session was last renewed by hand, in nanoseconds of the file system's clock; None: never."""
    try:
        return os.stat(os.path.join(client_dir.path, "by-hand")).st_mtime_ns
    except OSError:
        return None


def renewal(client_dir: ClientDir, session: str, *, since: float | None = None) -> Renewal | None:
    """The last renewal by hand; None where there was none, or none other than the one written down at `since`."""
    path = _path(client_dir, session, "renewed")
    try:
        at = os.stat(path).st_mtime
        if at == since:
            return None
        return Renewal(at, float((atomic.read_small(path, 32) or b"").decode()))
    except (OSError, ValueError):
        return None


def _path(client_dir: ClientDir, session: str, name: str) -> str:
    return os.path.join(client_dir.path, "sessions", session, name)
