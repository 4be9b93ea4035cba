"""Reading an inbox from outside: any process may, at any time, while the daemon appends and rotates.

Only whole lines count, those that end in a newline. `seq` counts them without holes across all parts of the inbox
(`inbox-<first seq>.jsonl`, then `inbox.jsonl`), so a reader needs to remember nothing but numbers.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from typing import IO, TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BLOCK = 65_536  # bytes; below it a part is read through, above it halved
_ROTATED = re.compile(r"inbox-([0-9]{1,18})\.jsonl")


class Line(NamedTuple):
    """One line: its number, the bytes with their newline, and the object in it."""

    seq: int
    data: bytes
    value: dict[str, Any]


class Inbox:
    """The inbox in a session's folder. `warn` gets a sentence about lines that are broken, foreign or missing.

    >>> inbox = Inbox(FOLDER)
    >>> inbox.last()
    1
    >>> [line.value["text"] for line in inbox.newest(10)]
    ['Use main.']
    >>> list(inbox.after(1))
    []
    """

    def __init__(self, folder: str | os.PathLike[str], warn: Callable[[str], None] = lambda _: None) -> None:
        self._folder = os.path.expanduser(folder)
        self._warn = warn

    def after(self, seq: int) -> Iterator[Line]:
        """Every line with a higher number, in order, as of now. OSError where the inbox cannot be read.

        Nothing is read of what lies before it but a few blocks: each part is sorted by `seq`, so it is halved.
        """
        expected = seq + 1 if seq else None
        with contextlib.ExitStack() as stack:
            for file in self._parts(stack, seq):
                for line in self._lines(file, _offset(file, seq)):
                    if line.seq <= seq:
                        continue
                    if expected is not None and line.seq > expected:
                        gone = (
                            f"line {expected} is"
                            if line.seq == expected + 1
                            else f"lines {expected} to {line.seq - 1} are"
                        )
                        self._warn(f"{gone} not in the inbox any more")
                    seq, expected = line.seq, line.seq + 1
                    yield line

    def last(self) -> int:
        """The highest number there is; 0 in an empty inbox."""
        with contextlib.ExitStack() as stack:
            for file in reversed(self._parts(stack, 0)):
                if seq := _last(file):
                    return seq
        return 0

    def end(self) -> int:
        """The highest number in the current part; 0 where that is empty, or moved away, and so says nothing."""
        with contextlib.ExitStack() as stack:
            file = _open(os.path.join(self._folder, "inbox.jsonl"), stack)
            return _last(file) if file else 0

    def newest(self, count: int) -> list[Line]:
        """The last `count` lines, in order."""
        last = self.last()
        lines: list[Line] = []
        before = max(0, last - count)
        if count:
            lines = list(self.after(before))
        return lines[-count:] if count else []

    def mark(self) -> tuple[int, int]:
        """Something that changes whenever lines are added: cheap enough to be asked a hundred times a second."""
        try:
            found = os.stat(os.path.join(self._folder, "inbox.jsonl"))
        except FileNotFoundError:
            return (0, 0)
        return (found.st_ino, found.st_size)

    def _parts(self, stack: contextlib.ExitStack, seq: int) -> list[IO[bytes]]:
        """The parts that can hold lines after `seq`, opened, oldest first.

        The current part is opened before the folder is listed: should it be rotated in between, it is found twice and
        read once.
        """
        current = _open(os.path.join(self._folder, "inbox.jsonl"), stack)
        known = os.fstat(current.fileno()).st_ino if current else None
        firsts = sorted(int(m[1]) for m in map(_ROTATED.fullmatch, os.listdir(self._folder)) if m)
        parts = []
        for at, first in enumerate(firsts):
            if at + 1 < len(firsts) and firsts[at + 1] <= seq + 1:
                continue
            file = _open(os.path.join(self._folder, f"inbox-{first}.jsonl"), stack)
            if file and os.fstat(file.fileno()).st_ino != known:
                parts.append(file)
        return [*parts, current] if current else parts

    def _lines(self, file: IO[bytes], offset: int) -> Iterator[Line]:
        file.seek(offset)
        skipped = 0
        for data in file:
            if not data.endswith(b"\n"):
                break  # still being written, or torn: it does not count yet
            line = parse(data)
            if line is None:
                skipped += 1
            else:
                yield line
        if skipped:
            self._warn(f"{skipped} line(s) of the inbox are not the daemon's and were skipped")


def parse(data: bytes) -> Line | None:
    """A line of the daemon's, or None for anything else."""
    try:
        value = json.loads(data)
        seq = value["seq"]
    except RecursionError:
        return _deep(data)
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(value, dict) or type(seq) is not int or seq < 1 or "kind" not in value:
        return None
    return Line(seq, data, value)


def _deep(data: bytes) -> Line | None:
    """A line nested too deeply to be decoded: what can be had of it without that."""
    from nexusd import jsontext  # noqa: PLC0415 - rare

    try:
        fields = dict(jsontext.split(data))
        seq = int(fields.get("seq", b"0"))
    except ValueError:
        return None
    plain = {name: jsontext.string(text) for name, text in fields.items() if name and text.startswith(b'"')}
    return Line(seq, data, {**plain, "seq": seq, "verified": fields.get("verified") == b"true"}) if seq > 0 else None


def _open(path: str, stack: contextlib.ExitStack) -> IO[bytes] | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    return stack.enter_context(open(fd, "rb"))


def _offset(file: IO[bytes], seq: int) -> int:
    """An offset at a line's beginning, before which every line has a number up to `seq`; at most a block too early."""
    low, high = 0, os.fstat(file.fileno()).st_size
    while seq and high - low > _BLOCK:
        middle = (low + high) // 2
        file.seek(middle)
        file.readline()  # the rest of a line that begins before the middle
        line = None
        while line is None and file.tell() < high and (data := file.readline()).endswith(b"\n"):
            line = parse(data)
        if line is not None and line.seq <= seq:
            low = file.tell()
        else:
            high = middle
    return low


def _last(file: IO[bytes]) -> int:
    """The number of a part's last whole line of the daemon's, read from its end; 0 without one."""
    begin = end = os.fstat(file.fileno()).st_size
    while begin > 0:
        begin = max(0, begin - max(_BLOCK, end - begin))
        file.seek(begin)
        block = file.read(end - begin)
        first = 0 if begin == 0 else block.find(b"\n") + 1
        lines = block[first : block.rfind(b"\n") + 1].split(b"\n") if first or begin == 0 else []
        found = next((line for line in map(parse, reversed(lines)) if line), None)
        if found:
            return found.seq
    return 0
