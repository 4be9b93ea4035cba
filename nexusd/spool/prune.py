"""What is kept for how long: only files that are done with, and parts of the inbox that were put aside."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import stat
from typing import TYPE_CHECKING, Literal

from nexusd.spool.layout import ERROR, RECEIPT

if TYPE_CHECKING:
    from nexusd.spool.layout import SessionFolder

_ROTATED = re.compile(r"inbox-([0-9]{1,18})\.jsonl")
Keep = float | Literal["always"]


def prune_done(folder: str, suffix: str, keep: Keep, now: float) -> int:
    """Remove files of `sent/` or `failed/` whose note is older than `keep` seconds, with their notes; how many."""
    if keep == "always":
        return 0
    removed = 0
    for name in {name.removesuffix(suffix) for name in os.listdir(folder)}:
        path = os.path.join(folder, name)
        note = path + suffix
        with contextlib.suppress(FileNotFoundError):
            done_at = os.lstat(note).st_mtime if os.path.lexists(note) else os.lstat(path).st_ctime
            if now - done_at > keep:
                for done in (path, note):
                    with contextlib.suppress(FileNotFoundError):
                        _remove(done)
                removed += 1
    return removed


def prune(folder: SessionFolder, *, keep_sent: Keep, keep_failed: Keep, now: float) -> int:
    """Remove what is done and old; how many files. `now` in Unix seconds."""
    sent = prune_done(folder.sent, RECEIPT, keep_sent, now)
    return sent + prune_done(folder.failed, ERROR, keep_failed, now)


def prune_inbox(folder: SessionFolder, keep: Keep, *, read_up_to: int, now: float) -> int:
    """Remove parts of the inbox last written to more than `keep` seconds ago, if every reader has passed them."""
    if keep == "always":
        return 0
    firsts = sorted(int(m[1]) for m in map(_ROTATED.fullmatch, os.listdir(folder.path)) if m)
    removed = 0
    for first, following in itertools.pairwise(firsts):
        path = folder.rotated_inbox(first)
        if following - 1 <= read_up_to and now - os.lstat(path).st_mtime > keep:
            os.unlink(path)
            removed += 1
    return removed


def _remove(path: str) -> None:
    if stat.S_ISDIR(os.lstat(path).st_mode):
        shutil.rmtree(path)
    else:
        os.unlink(path)
