"""Where a person is in `nexusd top`, and where a key leads: pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_KEYS = {
    b"\x1b[A": "up", b"\x1bOA": "up", b"k": "up",
    b"\x1b[B": "down", b"\x1bOB": "down", b"j": "down",
    b"\x1b[5~": "page up", b"\x02": "page up",
    b"\x1b[6~": "page down", b"\x06": "page down", b" ": "page down",
    b"\x1b[H": "first", b"\x1bOH": "first", b"\x1b[1~": "first", b"g": "first",
    b"\x1b[F": "last", b"\x1bOF": "last", b"\x1b[4~": "last", b"G": "last",
    b"\r": "open", b"\n": "open", b"\x1b[C": "open", b"l": "open",
    b"\x1b": "back", b"b": "back", b"h": "back", b"\x7f": "back", b"\x1b[D": "back",
    b"q": "quit", b"Q": "quit", b"\x03": "quit", b"\x04": "quit",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """The marked session, the first one shown, the opened one, and how many lines of it are below what is shown."""

    marked: str | None = None
    first: int = 0
    opened: str | None = None
    below: int = 0


def keys(data: bytes) -> list[str]:
    """What was pressed. An escape sequence that nobody knows is nothing; an escape alone means back."""
    found = []
    at = 0
    while at < len(data):
        end = _end(data, at)
        name = _KEYS.get(data[at:end])
        if name:
            found.append(name)
        at = end
    return found


def moved(place: Place, key: str, names: Sequence[str], room: int) -> Place | None:
    """The place after a key; None: it was the key to quit. `room`: how many rows are shown at once."""
    if key == "quit":
        return None
    page = max(1, room - 1)
    step = {"up": -1, "down": 1, "page up": -page, "page down": page, "first": -(10**9), "last": 10**9}.get(key, 0)
    if place.opened is not None:
        if key == "back":
            return replace(place, opened=None, below=0)
        return replace(place, below=max(0, place.below - step))
    if not names:
        return place
    at = _position(place, names)
    if key == "open":
        return replace(place, marked=names[at], opened=names[at], below=0)
    return settled(replace(place, marked=names[min(max(0, at + step), len(names) - 1)]), names, room)


def settled(place: Place, names: Sequence[str], room: int) -> Place:
    """The place in what there is now: the mark on a session that exists, and among those that are shown."""
    if not names:
        return replace(place, marked=None, first=0, opened=None)
    at, room = _position(place, names), max(1, room)
    first = min(max(place.first, at - room + 1), at, max(0, len(names) - room))
    first = max(first, at - room + 1)
    opened = place.opened if place.opened in names else None
    return replace(place, marked=names[at], first=first, opened=opened)


def _position(place: Place, names: Sequence[str]) -> int:
    """Where the mark is; where its session is gone, on the one that took its place in the alphabet."""
    if place.marked in names:
        return names.index(place.marked)
    later = (n for n, name in enumerate(names) if place.marked is not None and name > place.marked)
    return next(later, 0 if place.marked is None else len(names) - 1)


def _end(data: bytes, at: int) -> int:
    """The end of the key that begins at `at`."""
    if data[at : at + 1] != b"\x1b" or at + 1 == len(data):
        return at + 1
    if data[at + 1 : at + 2] == b"O":
        return min(at + 3, len(data))
    if data[at + 1 : at + 2] != b"[":
        return at + 1
    end = at + 2
    while end < len(data) and not 0x40 <= data[end] <= 0x7E:
        end += 1
    return min(end + 1, len(data))
