"""The outbox: what is dropped there, in which order, and whether its writer is done.

A writer is done with a file when nobody has it open for writing and nothing about it has changed for `quiet` seconds:
many write under a name of their own and rename a moment later, or set mode and times once the file is closed, and both
fail where the file has been taken meanwhile. A drop of ours is whole when it appears and is taken at once.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nexusd.errors import Refusal
from nexusd.spool import atomic
from nexusd.spool.dropping import is_own
from nexusd.spool.layout import LONGEST_NAME, is_unfinished

if TYPE_CHECKING:
    from collections.abc import Callable

QUIET = 0.2  # seconds without a change that stand for "done"; the key `quiet`
UNLEASED = 2.0  # the same where no lease can tell whether somebody has the file open
EMPTY = 5.0  # seconds an empty file waits for its writer
LINKED = 2.0  # seconds a second name is borne: some writers link and then unlink
HOLDS = 2.0  # seconds beyond its quiet time for which a file that keeps changing holds later ones back
SNAPSHOT = 100  # files; a scan of so many is one system call, and sees the folder as it was in one moment
GRAIN = 0.02  # seconds; the kernel's times of files are a little behind
LOOK_AGAIN = 0.2  # seconds until a busy file is looked at again

F_SETLEASE, F_GETLEASE = 1024, 1025  # linux/fcntl.h; the fcntl module of CPython names them since 3.12 only in part

_NUMBER = re.compile(r"(?<![0-9A-Z])[0-9]{1,9}(?![0-9A-Za-z])")  # not a piece of an identifier, as ULIDs have them

Like = tuple[int, int, int, int]  # inode, size, mtime and ctime in ns: a chmod, a utime or a link moves the ctime


@dataclass(slots=True)
class Drop:
    """One file in the outbox, by name; what it was like when last seen, and since when it has been so."""

    name: str
    like: Like
    own: bool  # dropped by our own commands: whole from the first moment
    since: float
    first: float  # when a file of this name was first seen, however often it has changed since
    busy: bool = False  # somebody had it open for writing when it was last asked for
    leased: bool = True  # whether a lease can tell that
    again_in: float = 0.0  # seconds until it may be done, counted from when it was last asked for


@dataclass(slots=True)
class Look:
    """What a look into the outbox found."""

    ready: deque[Drop] = field(default_factory=deque)
    refused: list[tuple[str, Refusal]] = field(default_factory=list)
    waiting: int = 0  # files that are not ready yet
    again_in: float | None = None  # seconds until something that was not ready may be
    resting: bool = False  # a file is in its quiet time: it will be ready in `again_in` seconds if it is left alone

    def later(self, seconds: float) -> None:
        """Something may be ready in so many seconds."""
        self.again_in = seconds if self.again_in is None else min(self.again_in, seconds)

    def put_off(self, drop: Drop) -> None:
        """A file that looked ready is not done after all. It keeps its place, unless its writer has it open."""
        self.later(drop.again_in)
        self.waiting += 1
        if not drop.busy:
            self.resting = True
            self.waiting += len(self.ready)
            self.ready.clear()


class Outbox:
    """One session's outbox. The folder is scanned, never believed: an event is only a reason to look."""

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._clock = clock
        self._quiet = QUIET
        self._seen: dict[str, Drop] = {}

    def look(self, quiet: float = QUIET) -> Look:
        """Scan the folder: files to send by modification time, then name and numbers in it, and what can never be.

        A file waits until nothing about it has changed for `quiet` seconds, and those behind it wait with it.
        """
        self._quiet = quiet
        found, seen = Look(), {}
        files: list[tuple[tuple[int, str, str], Drop, os.stat_result]] = []
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
                    seen[entry.name] = drop = self._drop(entry.name, status, now)
                    files.append(((status.st_mtime_ns, _by_number(entry.name), entry.name), drop, status))
        ended = time.time()
        self._seen = seen
        files.sort(key=lambda item: item[0])
        for _, drop, status in files:
            wait, holds = self._not_before(drop, status, now)
            if wait > 0:
                found.later(wait)
                if holds:
                    found.resting = True
                    break  # later ones must not overtake it
            elif len(files) > SNAPSHOT and began - GRAIN <= status.st_ctime <= ended + GRAIN:
                # Of two files dropped during the scan it may have seen the later one alone: they are for the next look.
                found.later(GRAIN)
            else:
                found.ready.append(drop)
        found.waiting = len(files) - len(found.ready)
        return found

    def is_done(self, drop: Drop) -> bool | None:
        """Whether the file's writer is done with it; None: it is gone, taken back or exchanged. OSError.

        A read lease is granted only while nobody has the file open for writing. Where it is False, `drop.again_in` says
        in how many seconds it may be True.
        """
        try:
            with atomic.held_folder(self.path) as held:
                path = os.path.join(held, drop.name)
                try:
                    fd = open_plain(path)
                except PermissionError:  # once claimed, that is said; unless its writer is about to set the mode
                    return self._unchanged(drop, os.lstat(path))
        except (FileNotFoundError, Refusal):
            return None
        except OSError as fault:
            if fault.errno in (errno.ELOOP, errno.ENXIO):  # a link or a socket stands there by now
                return None
            raise
        try:
            leased = lease(fd)
            drop.leased, drop.busy = leased is not None, leased is False
            if drop.busy:
                drop.since = self._clock()  # the writer that closes it may still set its mode or its times
                drop.again_in = max(LOOK_AGAIN, self._quiet)
                return False
            return self._unchanged(drop, os.fstat(fd))
        finally:
            os.close(fd)

    def forget(self, name: str) -> None:
        """This file was claimed: the next one of its name is another."""
        self._seen.pop(name, None)

    def _unchanged(self, drop: Drop, status: os.stat_result) -> bool:
        now = self._clock()
        if drop.like != _like(status):  # since the look that found it ready
            drop.like, drop.own, drop.since = _like(status), is_own(drop.name, status), now
        drop.again_in = drop.since + self._quiet_time(drop) - now
        return drop.again_in <= 0

    def _drop(self, name: str, status: os.stat_result, now: float) -> Drop:
        """What is known of a file; one that has changed begins its quiet time anew."""
        known, like = self._seen.get(name), _like(status)
        if known is not None and known.like == like:
            return known
        first = now if known is None else known.first
        return Drop(name, like, is_own(name, status), now, first, leased=known is None or known.leased)

    def _quiet_time(self, drop: Drop) -> float:
        if drop.busy:
            return max(self._quiet, LOOK_AGAIN)
        if drop.own:
            return 0.0
        return self._quiet if drop.leased else max(self._quiet, UNLEASED)

    def _not_before(self, drop: Drop, status: os.stat_result, now: float) -> tuple[float, bool]:
        """Seconds until a file may be ready, and whether those behind it wait as well.

        One that is empty or has two names may stay so for long, and one that never comes to rest for ever: they hold
        nobody back.
        """
        if status.st_nlink > 1:
            return max(drop.since + LINKED - now, LOOK_AGAIN), False  # until the other name is gone, or it is refused
        quiet = self._quiet_time(drop)
        if not status.st_size:
            return drop.since + max(EMPTY, quiet) - now, False
        return drop.since + quiet - now, not drop.busy and now < drop.first + quiet + HOLDS


def _like(status: os.stat_result) -> Like:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


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


def _by_number(name: str) -> str:
    """What files of one time are sorted by, part-2 before part-10: a loop writes several in one tick of the clock."""
    return _NUMBER.sub(lambda found: found[0].zfill(9), name)
