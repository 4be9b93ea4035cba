"""A file descriptor in reserve: where all others are in use, what is wrong can still be written down."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_kept: list[int] = []


def keep() -> None:
    """Put one aside, where none is. OSError is no fault: it is tried again after the next need."""
    if not _kept:
        with contextlib.suppress(OSError):
            _kept.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


@contextlib.contextmanager
def lent() -> Iterator[bool]:
    """One may be opened inside, if it gives True; what is opened there is closed there, too."""
    found = bool(_kept)
    if found:
        os.close(_kept.pop())
    try:
        yield found
    finally:
        if found:
            keep()
