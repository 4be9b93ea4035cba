"""Locks on a range of a file, and whether somebody holds one, which is asked without taking it.

They belong to an open file (OFD locks, fcntl(2)): closing another descriptor of the same file leaves them, a child may
inherit them, and two open files of one process keep each other out. They and the record locks of fcntl(2) keep each
other out too.
"""

from __future__ import annotations

import fcntl
import struct

_FLOCK = "hhqqi4x"  # struct flock: type, whence, start, length (0: to the end), pid (0 for these locks)


def take(fd: int, start: int, length: int) -> bool:
    """Lock a range for as long as the file is open; False: somebody else has it. OSError, e.g. where there are none."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK, start, length))
    except (BlockingIOError, PermissionError):
        return False
    return True


def release(fd: int, start: int, length: int) -> None:
    """Let go of a range. OSError."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_UNLCK, start, length))


def is_taken(fd: int, start: int, length: int) -> bool:
    """Whether another open file, of whichever process, holds a lock on the range. `fd` may be open for reading only."""
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK, start, length))
    kind: int = struct.unpack(_FLOCK, answer)[0]
    return kind != fcntl.F_UNLCK


def _flock(kind: int, start: int, length: int) -> bytes:
    return struct.pack(_FLOCK, kind, 0, start, length, 0)
