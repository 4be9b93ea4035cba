"""Dropping a message into an outbox from outside, and what became of it. Any process may; no HTTP here."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any, NamedTuple

_FIRST, _LONGEST = 0.002, 0.05  # seconds between two looks


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

    def settled(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for one of the two; whether there is one."""
        deadline = time.monotonic() + timeout
        pause = _FIRST
        while self.receipt() is None and self.error() is None:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(pause, left))
            pause = min(pause * 1.2, _LONGEST)
        return True

    def take_back(self) -> bool:
        """Cancel it, if nobody has claimed it yet; whether that was so."""
        try:
            os.unlink(os.path.join(self.folder, "outbox", self.name))
        except FileNotFoundError:
            return False
        return True

    def _note(self, place: str, suffix: str) -> dict[str, Any] | None:
        try:
            with open(os.path.join(self.folder, place, self.name + suffix), "rb") as file:
                value = json.load(file)
        except (FileNotFoundError, ValueError):
            return None
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
    unique = f"{time.time_ns():x}-{os.urandom(4).hex()}"  # sorts by time
    if payload is None:
        if not text:
            raise ValueError("there is nothing to send: give a text, a payload, or both")
        # The daemon drops one newline at the end of a text.
        name, data = f"{unique}.txt", f"{text}\n"
    elif text is None:
        name, data = f"{unique}.json", _json(payload)
    else:
        name, data = f"{unique}.msg.json", _json({"text": text, "json": payload})
    folder = os.path.expanduser(folder)
    outbox = os.path.join(folder, "outbox")
    aside = os.path.join(outbox, f".{name}.tmp")
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(data.encode())
            file.flush()
            os.fsync(fd)
        os.rename(aside, os.path.join(outbox, name))
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
        raise
    return Drop(os.fspath(folder), name)


def _json(value: Any) -> str:
    # ASCII: lone surrogates stay what they are.
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
