"""Dropping a message into an outbox from outside, and what became of it. Any process may; no HTTP here."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_FIRST, _LONGEST = 0.002, 0.05  # seconds between two looks
_OWN = re.compile(r"([0-9a-f]{16})-[0-9a-f]{18,}\.(?:txt|json|msg\.json)")
_FRESH = 60_000_000_000  # ns between the last write of an own drop and its rename; a slow disk takes its time

Place = Literal["outbox", "sending", "sent", "failed"]


class Drop(NamedTuple):
    """A dropped file: the session's folder and the file's name."""

    folder: str
    name: str

    def receipt(self) -> dict[str, Any] | None:
        """What the server said (`sent/NAME.receipt.json`), or None as long as there is no such thing."""
        return self._note("sent", ".receipt.json")

    def error(self) -> dict[str, Any] | None:
        """Why it will not be sent (`failed/NAME.error.json`), or None as long as there is no such thing."""
        return self._note("failed", ".error.json")

    def settled(self, timeout: float, pause: Callable[[float], bool] | None = None) -> bool:
        """Wait at most `timeout` seconds for one of the two; whether there is one. False at once if it was cancelled.

        `pause` is what waits between two looks, for so many seconds, instead of `time.sleep`; True from it ends all.
        """
        deadline = time.monotonic() + timeout
        span = _FIRST
        while self.receipt() is None and self.error() is None:
            left = deadline - time.monotonic()
            if left <= 0 or self.cancelled():
                return False
            if pause is None:
                time.sleep(min(span, left))
            elif pause(min(span, left)):
                return False
            span = min(span * 1.2, _LONGEST)
        return True

    def place(self) -> Place | None:
        """Where the file is: in `outbox/`, claimed, or at its end in `sent/` or `failed/`. None: somebody deleted it.

        Asked in the direction in which a file is moved, so that one on its way is met.
        """
        if self._is_in("outbox"):
            return "outbox"
        sending = os.path.join(self.folder, ".nexusd", "sending")
        try:
            claims = os.listdir(sending)
        except OSError:
            # A folder that is the daemon's alone, or a root that is not mounted now: a file may well be there.
            return "sending"
        if any(self._is_in(".nexusd", "sending", claim) for claim in claims):
            return "sending"
        ends: tuple[Place, ...] = ("sent", "failed")
        if (found := next((place for place in ends if self._is_in(place)), None)) is not None:
            return found
        seen = all(os.access(os.path.join(self.folder, place), os.X_OK) for place in ends)
        return None if seen else "sending"

    def cancelled(self) -> bool:
        """Whether somebody deleted the file before it came to its end, so that nothing will become of it."""
        # Twice: where an older file of this name stands aside for this one, there is neither for a moment.
        return all(self.place() is None and self.receipt() is None and self.error() is None for _ in range(2))

    def take_back(self) -> bool:
        """Cancel it, if nobody has claimed it yet; whether that was so."""
        try:
            os.unlink(os.path.join(self.folder, "outbox", self.name))
        except FileNotFoundError:
            return False
        return True

    def _is_in(self, *place: str) -> bool:
        return os.path.lexists(os.path.join(self.folder, *place, self.name))

    def _note(self, place: str, suffix: str) -> dict[str, Any] | None:
        try:
            with open(os.path.join(self.folder, place, self.name + suffix), "rb") as file:
                value = json.load(file)
        except (OSError, ValueError):
            return None  # also where it may not be read now: what is there is not known
        return value if isinstance(value, dict) else None


def drop(folder: str | os.PathLike[str], text: str | None = None, payload: Any = None) -> Drop:
    """Put a message into the outbox of a session's folder: a text, a JSON payload, or both.

    It is there whole or not at all: written aside, flushed to the disk, then renamed. ValueError without a text and a
    payload, or for a payload that is no JSON; OSError where nothing can be dropped.

    >>> dropped = drop(FOLDER, "Hello Bob!")
    >>> dropped.settled(timeout=30)
    True
    >>> dropped.receipt()["confirmed"]
    'answer'
    """
    if payload is None:
        if not text:
            raise ValueError("there is nothing to send: give a text, a payload, or both")
        # The daemon drops one newline at the end of a text.
        ending, data = ".txt", f"{text}\n"
    elif text is None:
        ending, data = ".json", _json(payload)
    else:
        ending, data = ".msg.json", _json({"text": text, "json": payload})
    folder = os.path.expanduser(folder)
    outbox = os.path.join(folder, "outbox")
    aside = os.path.join(outbox, f".{os.urandom(8).hex()}.tmp")
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(data.encode())
            file.flush()
            os.fsync(fd)
            name = _own_name(os.fstat(fd).st_mtime_ns) + ending
        os.rename(aside, os.path.join(outbox, name))
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
        raise
    return Drop(os.fspath(folder), name)


def is_own(name: str, status: os.stat_result) -> bool:
    """Whether a file in the outbox was put there whole by `drop`, and is as it was then.

    Its name says its modification time to the nanosecond, which no other writer's can: a name is chosen before the last
    write, and ours after it. Whoever edits it gives it another time; a copy that keeps the time counts for a minute
    only. All that it says is that the file needs no quiet time, so one that is not recognised waits and is sent too.
    """
    own = _OWN.fullmatch(name)
    return (
        own is not None
        and int(own[1], 16) == status.st_mtime_ns
        and status.st_nlink == 1
        and status.st_ctime_ns - status.st_mtime_ns < _FRESH
    )


def _own_name(mtime: int) -> str:
    """The modification time, then how long ago it was: in the order of the drops also within a tick of file times."""
    return f"{mtime:016x}-{max(0, time.time_ns() - mtime):010x}{os.urandom(4).hex()}"


def _json(value: Any) -> str:
    # ASCII: lone surrogates stay what they are.
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
