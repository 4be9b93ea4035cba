"""How far a reader of an inbox has come: the last number consumed, and single ones beyond it.

`<client_dir>/readers/<folder name>-<digest of its path>/<READER>` holds 17, or "17 20 21" where lines 20 and 21 were
consumed before 18 and 19.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nexusd.errors import UserError
from nexusd.spool import atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

READER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_CONTENT = re.compile(rb"[0-9]{1,18}(?: [0-9]{1,18})*\n?")
_MOST = 10_000  # single numbers that are remembered


class Bookmark:
    """One reader's place in one inbox. `warn` gets a sentence when it could not be read."""

    def __init__(self, client_dir: str, folder: str, reader: str, warn: Callable[[str], None] = lambda _: None) -> None:
        if not READER.fullmatch(reader):
            raise UserError("bad_reader", "a reader's name has 1 to 64 letters, digits, _ . or -, no . or - first")
        path = os.path.realpath(folder)
        digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
        self._home = os.path.join(client_dir, "readers", f"{os.path.basename(path)}-{digest}")
        self._path = os.path.join(self._home, reader)
        self._warn = warn
        self.seq = 0
        self._beyond: set[int] = set()

    @property
    def exists(self) -> bool:
        """Whether this reader was ever here."""
        return os.path.exists(self._path)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other readers of this name out, so that each line is consumed by one of them; reads it anew."""
        atomic.private_folder(self._home)
        fd = os.open(os.path.join(self._home, ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            self.load()
            yield
        finally:
            os.close(fd)

    def load(self) -> None:
        """Read it; one that is not there or cannot be read is at the beginning."""
        data = atomic.read_small(self._path)
        self.seq, self._beyond = 0, set()
        if data is None:
            return
        if not _CONTENT.fullmatch(data):
            self._warn("the bookmark could not be read; beginning at the first line")
            return
        self.seq, *beyond = map(int, data.split())
        self._beyond = set(beyond)

    def fits(self, end: int) -> None:
        """Begin again where the inbox ends before the bookmark: it is another one. `end` 0: it was only moved away."""
        if end and end < self.seq:
            self._warn(f"the bookmark is at line {self.seq}, but the inbox ends at {end}; beginning at its first line")
            self.seq, self._beyond = 0, set()

    def has(self, seq: int) -> bool:
        """Whether a line was consumed."""
        return seq <= self.seq or seq in self._beyond

    def consume(self, seqs: Iterable[int] = (), *, upto: int = 0) -> None:
        """Remember, durably, that these lines were consumed, and everything up to line `upto`."""
        self._beyond |= set(seqs)
        self.seq = max(self.seq, upto)
        while self.seq + 1 in self._beyond:
            self.seq += 1
        self._beyond = {seq for seq in self._beyond if seq > self.seq}
        if len(self._beyond) > _MOST:
            self._beyond = set(sorted(self._beyond)[-_MOST:])
        numbers = (self.seq, *sorted(self._beyond))
        atomic.private_folder(self._home)
        atomic.replace(self._path, " ".join(map(str, numbers)).encode() + b"\n")


def slowest(client_dir: str, folder: str) -> int | None:
    """The line up to which all readers of an inbox have come; None where it has no reader."""
    return min(_places(client_dir, folder), default=None)


def furthest(client_dir: str, folder: str) -> int:
    """The highest line up to which any reader of an inbox has come; 0 where it has no reader."""
    return max(_places(client_dir, folder), default=0)


def _places(client_dir: str, folder: str) -> list[int]:
    found = []
    home = os.path.dirname(Bookmark(client_dir, folder, "any")._path)  # noqa: SLF001 - the one place that knows it
    for name in os.listdir(home) if os.path.isdir(home) else ():
        if READER.fullmatch(name):
            bookmark = Bookmark(client_dir, folder, name)
            bookmark.load()
            found.append(bookmark.seq)
    return found
