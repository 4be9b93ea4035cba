"""The inbox: one append-only file, and the truth about what has arrived.

The fdatasync of an append is the one moment in which messages become received; the state file only repeats it. So
whatever died when, the end of the file says where to go on: a torn last line was never received and is cut off, whole
lines are never taken back.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nexusd.errors import UserError
from nexusd.spool import atomic, line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nexusd.spool.layout import SessionFolder

_BLOCK = 65_536
_ROTATED = re.compile(r"inbox-([0-9]{1,18})\.jsonl")


@dataclass(slots=True)
class Tail:
    """What the last whole lines say: the last `seq`, and of those newer than was asked for the last message.

    `epoch`: they tell of the server's restart, and this is the life that it began; messages before that do not count.
    """

    seq: int
    cursor: int | None = None
    last: str = ""  # that message's identity
    epoch: int | None = None


class Inbox:
    """One session's inbox. `rotate_at` in bytes. All errors are OSError, or UserError where the file is not ours."""

    def __init__(self, folder: SessionFolder, *, rotate_at: int) -> None:
        self._folder = folder
        self.rotate_at = rotate_at
        self._known: tuple[int, int, int] | None = None  # device, inode, size after our last append
        self._doubtful: int | None = None  # an offset from where on a failed append may not be on the disk

    def recover(self, seq: int, stamp: str) -> Tail:
        """Mend the end of the file and say what it holds beyond line `seq`. On start, and after any fault.

        `stamp` names the file that foreign bytes are kept in.
        """
        try:
            fd = self._open(os.O_RDWR)
        except FileNotFoundError:
            self._known = self._doubtful = None
            return self._rotated_tail(seq)
        try:
            end = self._whole(fd, os.fstat(fd).st_size, stamp)
            if self._doubtful is not None and self._doubtful < end:
                # After a failed fsync the kernel calls pages clean that never reached the disk: write them again.
                os.lseek(fd, self._doubtful, os.SEEK_SET)
                _write(fd, os.pread(fd, end - self._doubtful, self._doubtful))
            os.fsync(fd)
            tail = self._newest(fd, end, seq)
            found = os.fstat(fd)
        finally:
            os.close(fd)
        self._known, self._doubtful = (found.st_dev, found.st_ino, end), None
        return tail if tail.seq > seq else self._rotated_tail(seq)

    def append(self, lines: list[bytes], stamp: str) -> None:
        """Put lines at the end and on the disk. After an OSError call `recover`: some of them may be there."""
        data = b"".join(lines)
        while True:
            fd = self._open(os.O_RDWR | os.O_APPEND | os.O_CREAT)
            try:
                found = os.fstat(fd)
                if (found.st_dev, found.st_ino, found.st_size) != self._known and found.st_size:
                    end = self._whole(fd, found.st_size, stamp)  # somebody else wrote here
                else:
                    end = found.st_size
                self._doubtful = end if self._doubtful is None else min(end, self._doubtful)
                _write(fd, data)
                os.fdatasync(fd)
                if not end:
                    atomic.fsync_folder(self._folder.path)
                after = os.fstat(fd)
            finally:
                os.close(fd)
            self._doubtful = None
            if after.st_nlink:  # moved away: the lines are in the moved file, once; deleted: write them again
                break
        self._known = (after.st_dev, after.st_ino, after.st_size)
        if after.st_size >= self.rotate_at:
            self._rotate()

    def _open(self, flags: int) -> int:
        fd = os.open(self._folder.inbox, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_nlink <= 1:
            return fd
        os.close(fd)
        raise UserError(
            "inbox_not_ours",
            f"{self._folder.inbox} is not a plain file of this account's with one name; move it away to go on",
        )

    def _whole(self, fd: int, size: int, stamp: str) -> int:
        """Cut a torn last line and give the offset behind the last whole one."""
        end, torn = size, b""
        while end and (block := os.pread(fd, min(_BLOCK, end), max(0, end - _BLOCK))):
            cut = block.rfind(b"\n") + 1
            torn = block[cut:] + torn
            end -= len(block) - cut
            if cut:
                break
        if not torn:
            return end
        if not torn.startswith(b'{"kind":'[: len(torn)]):
            atomic.replace(self._folder.damaged_inbox(stamp), torn)  # not ours to throw away
        os.ftruncate(fd, end)
        return end

    def _newest(self, fd: int, end: int, seq: int) -> Tail:
        tail = Tail(seq)
        for text in _backward(fd, end):
            found = line.parse(text, self._folder.name)
            if found is None:
                continue
            if found.seq <= seq:
                break
            tail.seq = max(tail.seq, found.seq)
            if tail.cursor is None and found.cursor is not None:
                tail.cursor, tail.last = found.cursor, line.identity(found.fields)
            if (epoch := line.restart_told(found)) is not None:
                tail.epoch = epoch
                break
        return tail

    def _rotated_tail(self, seq: int) -> Tail:
        """The tail of the newest rotated part: we may have died between rotating it and writing the state down."""
        parts = [int(m[1]) for m in map(_ROTATED.fullmatch, os.listdir(self._folder.path)) if m]
        if not parts:
            return Tail(seq)
        fd = os.open(self._folder.rotated_inbox(max(parts)), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(fd)
            return self._newest(fd, found.st_size, seq) if stat.S_ISREG(found.st_mode) else Tail(seq)
        finally:
            os.close(fd)

    def _rotate(self) -> None:
        with open(self._folder.inbox, "rb") as file:
            first = next((f for f in (line.parse(text, self._folder.name) for text in file) if f), None)
        if first is None:
            return
        os.rename(self._folder.inbox, self._folder.rotated_inbox(first.seq))
        atomic.fsync_folder(self._folder.path)
        self._known = None

    def recent(self, limit: int = 16 << 20) -> Iterator[line.Line]:
        """Our lines, newest first, as far back as `limit` bytes of the current and the last rotated part."""
        parts = sorted((int(m[1]) for m in map(_ROTATED.fullmatch, os.listdir(self._folder.path)) if m), reverse=True)
        for path in (self._folder.inbox, *(self._folder.rotated_inbox(n) for n in parts[:1])):
            try:
                fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                for text in _backward(fd, os.fstat(fd).st_size):
                    limit -= len(text)
                    if limit < 0:
                        return
                    if found := line.parse(text, self._folder.name):
                        yield found
            finally:
                os.close(fd)


def _backward(fd: int, end: int) -> Iterator[bytes]:
    """The lines before `end`, last first."""
    pieces: list[bytes] = []  # of a line whose beginning is not read yet, last piece first
    while end > 0:
        begin = max(0, end - _BLOCK)
        block, end = os.pread(fd, end - begin, begin), begin
        first, *middle = block.split(b"\n")
        if middle:
            last = middle.pop() + b"".join(reversed(pieces))
            pieces = []
            yield from (text for text in (last, *reversed(middle)) if text)
        pieces.append(first)
    if text := b"".join(reversed(pieces)):
        yield text


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
