"""How many files wait in a session's folder, and since when: counted where they are, whoever serves it."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from nexusd.spool import layout

if TYPE_CHECKING:
    from collections.abc import Iterator


def unsent(folder: layout.SessionFolder) -> list[float]:
    """When each file was dropped that is not at its end yet (Unix seconds)."""
    return [*_times(folder.outbox), *_claimed(folder.sending)]


def failed(folder: layout.SessionFolder) -> list[float]:
    """When each file came to `failed/` (Unix seconds)."""
    return list(_times(folder.failed, layout.ERROR))


def oldest(times: list[float]) -> int | None:
    """The age of the oldest (seconds)."""
    return round(time.time() - min(times)) if times else None


def _times(path: str, note: str | None = None) -> Iterator[float]:
    """When each file was dropped; with `note` (what its name ends in) when that was written beside it."""
    try:
        names = os.listdir(path)
    except OSError:
        return
    for name in names:
        if layout.is_unfinished(name) or (note and name.endswith(note)):
            continue
        with contextlib.suppress(OSError):
            dropped = os.lstat(os.path.join(path, name))
            yield dropped.st_mtime if note is None else _noted(os.path.join(path, name + note), dropped.st_ctime)


def _noted(path: str, otherwise: float) -> float:
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return otherwise


def _claimed(sending: str) -> Iterator[float]:
    with contextlib.suppress(OSError):
        for unique in os.listdir(sending):
            yield from _times(os.path.join(sending, unique))
