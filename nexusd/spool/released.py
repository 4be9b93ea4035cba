"""What a person said by `nexusd release` of a file: `.nexusd/released/NAME`, empty or one word.

It counts for what was dropped before it was said, so that a later file of the same name is looked at anew, and it is
taken away when the file is settled.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nexusd.spool import atomic

if TYPE_CHECKING:
    from nexusd.spool.layout import SessionFolder

_DOUBTFUL = b"doubtful\n"


@dataclass(frozen=True, slots=True)
class Word:
    """It is to be sent, whatever it seems to hold. `doubtful`: a post of it may have arrived earlier."""

    doubtful: bool = False


def say(folder: SessionFolder, name: str, word: Word) -> None:
    """Before the file is in the outbox. OSError."""
    path = _path(folder, name)
    atomic.private_folder(os.path.dirname(path))
    atomic.replace(path, _DOUBTFUL if word.doubtful else b"")


def said(folder: SessionFolder, name: str, dropped_at: float) -> Word | None:
    """The word that was given for a file that was dropped at `dropped_at` (Unix seconds)."""
    path = _path(folder, name)
    try:
        if os.lstat(path).st_mtime < dropped_at:
            return None
        return Word(doubtful=atomic.read_small(path, len(_DOUBTFUL)) == _DOUBTFUL)
    except OSError:
        return None


def forget(folder: SessionFolder, name: str) -> None:
    """The word was for one file, and that is done with."""
    with contextlib.suppress(OSError):
        os.unlink(_path(folder, name))


def _path(folder: SessionFolder, name: str) -> str:
    return os.path.join(folder.released, name)
