"""How many lines of an inbox were written for certain, where neither the inbox nor the state tells any more."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from nexusd.spool import atomic, layout
from nexusd.spool.bookmark import furthest

if TYPE_CHECKING:
    from nexusd.spool.layout import SessionFolder


def of(folder: SessionFolder, client_dir: str) -> int:
    """By the daemon's last report and by what readers have read; 0 where nothing tells."""
    reported = 0
    try:
        report = json.loads(atomic.read_small(layout.report_file(folder.root)) or b"{}")
        reported = report["sessions"][folder.name]["lastSeq"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        pass
    return max(reported if isinstance(reported, int) else 0, furthest(client_dir, folder.path))
