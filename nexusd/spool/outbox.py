"""The outbox: what is dropped there, in which order, and whether its writer is done."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nexusd.errors import Refusal
from nexusd.spool import atomic
from nexusd.spool.layout import LONGEST_NAME, is_unfinished

if TYPE_CHECKING:
    from collections.abc import Callable

QUIET = 0.2  # seconds without a change that stand for "done" where there are no leases
EMPTY = 5.0  # seconds an empty file waits for its writer
LINKED = 2.0  # seconds a second name is borne: some writers link and then unlink
SNAPSHOT = 100  # files; a scan of so many is one system call, and sees the folder as it was in one moment
GRAIN = 0.02  # seconds; the kernel's times of files are a little behind
LOOK_AGAIN = 0.2  # seconds until a busy file is looked at again

F_SETLEASE, F_GETLEASE = 1024, 1025  # linux/fcntl.h; the fcntl module of CPython names them since 3.12 only in part


@dataclass(slots=True)
class Drop:
    """One file in the outbox, by name; what it was like when last seen, and since when it has been so."""

    name: str
    like: tuple[int, int, int]  # inode, size, mtime in ns
    since: float


@dataclass(slots=True)
class Look:
    """What a look into the outbox found."""

    ready: deque[Drop] = field(default_factory=deque)
    refused: list[tuple[str, Refusal]] = field(default_factory=list)
    waiting: int = 0  # files that are not ready yet
    again_in: float | None = None  # seconds until something that was not ready may be

    def later(self, seconds: float) -> None:
        """Something may be ready in so many seconds."""
        self.again_in = seconds if self.again_in is None else min(self.again_in, seconds)


class Outbox:
    """One session's outbox. The folder is scanned, never believed: an event is only a reason to look."""

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._clock = clock
        self._seen: dict[str, Drop] = {}

    def look(self) -> Look:
        """Scan the folder: files to send by modification time, then name, and what can never be sent."""
        found, order, seen = Look(), [], {}
        now, began = self._clock(), time.time()
        with atomic.held_folder(self.path) as held, os.scandir(held) as entries:
            for entry in entries:
                if is_unfinished(entry.name):
                    continue
                with contextlib.suppress(FileNotFoundError):  # taken back in this moment
                    status = entry.stat(follow_symlinks=False)
                    refusal = refuse(entry.name, status)
                    if refusal:
                        found.refused.append((entry.name, refusal))
                        continue
                    like = (status.st_ino, status.st_size, status.st_mtime_ns)
                    drop = self._seen.get(entry.name)
                    if drop is None or drop.like != like:
                        drop = Drop(entry.name, like, now)
                    seen[entry.name] = drop
                    wait = self._not_before(drop, status, now)
                    if wait > 0:
                        found.later(wait)
                    else:
                        order.append((status.st_mtime_ns, entry.name, drop, status.st_ctime))
        if len(order) > SNAPSHOT:
            # Of two files dropped during the scan it may have seen the later one alone: they are for the next look.
            settled = [item for item in order if not began - GRAIN <= item[3] <= time.time() + GRAIN]
            if len(settled) < len(order):
                found.later(GRAIN)
            order = settled
        self._seen = seen
        order.sort(key=lambda item: item[:2])
        found.ready.extend(drop for _, _, drop, _ in order)
        found.waiting = len(seen) - len(order)
        return found

    def is_done(self, drop: Drop) -> bool | None:
        """Whether the file's writer is done with it; None: it is gone, taken back or exchanged. OSError.

        A read lease is granted only while nobody has the file open for writing.
        """
        try:
            with atomic.held_folder(self.path) as held:
                fd = open_plain(os.path.join(held, drop.name))
        except (FileNotFoundError, Refusal):
            return None
        except PermissionError:
            return True  # once claimed, that is said
        except OSError as fault:
            if fault.errno in (errno.ELOOP, errno.ENXIO):  # a link or a socket stands there by now
                return None
            raise
        try:
            done = lease(fd)
            if done is None:
                status = os.fstat(fd)
                like = (status.st_ino, status.st_size, status.st_mtime_ns)
                if like != drop.like:
                    drop.like, drop.since = like, self._clock()
                done = self._clock() - drop.since >= QUIET
            return done
        finally:
            os.close(fd)

    @staticmethod
    def _not_before(drop: Drop, status: os.stat_result, now: float) -> float:
        if status.st_nlink > 1:
            return max(drop.since + LINKED - now, LOOK_AGAIN)  # until the other name is gone, or it is refused
        return drop.since + (0.0 if status.st_size else EMPTY) - now


def refuse(name: str, status: os.stat_result, *, patience: float = LINKED) -> Refusal | None:
    """Why something in the outbox is never even opened, or None; a second name is borne for `patience` seconds."""
    if stat.S_ISLNK(status.st_mode):
        return Refusal("link", "it is a symbolic link, which is never followed", "drop the file itself")
    if stat.S_ISDIR(status.st_mode):
        return Refusal("folder", "it is a folder; one file is one message", "drop the files one by one")
    if not stat.S_ISREG(status.st_mode):
        return Refusal("not_a_file", "it is a pipe, a socket or a device", "drop a regular file")
    if status.st_uid != os.geteuid():
        return Refusal("foreign_owner", "it belongs to another account", "drop it as the account nexusd runs as")
    if status.st_nlink > 1 and time.time() - status.st_ctime >= patience:
        return Refusal("hard_links", "it has several names (hard links)", "drop a copy of it")
    if len(os.fsencode(name)) > LONGEST_NAME:
        return Refusal("name_too_long", f"its name is longer than {LONGEST_NAME} bytes", "give it a shorter name")
    if name.endswith((".receipt.json", ".error.json")):
        return Refusal("reserved_name", "receipts and errors have names of this form", "give it another name")
    return None


def open_plain(path: str) -> int:
    """Open a file for reading, if it is one: what it is, is looked at after opening, so nothing can be exchanged."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    status = os.fstat(fd)
    refusal = refuse(os.path.basename(path), status, patience=0.0)
    if refusal:
        os.close(fd)
        raise refusal
    return fd


def lease(fd: int) -> bool | None:
    """Take a read lease until the descriptor is closed: True; False while someone writes; None where there are none."""
    try:
        fcntl.fcntl(fd, F_SETLEASE, fcntl.F_RDLCK)
    except OSError as fault:
        return False if fault.errno in (errno.EAGAIN, errno.EWOULDBLOCK) else None
    return True
