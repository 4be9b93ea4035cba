"""What of a session's files need not be kept any longer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from nexusd.spool import prune as spool_prune
from nexusd.spool.bookmark import slowest

if TYPE_CHECKING:
    from nexusd.bridge.session import Session

AGREED = 3600.0  # seconds within which the server's clock must agree with ours


def prune(session: Session) -> int:
    """Remove files that are done with and old, but nothing that a reader or the hook has not read; how many.

    Nothing while our clock is not vouched for: one that is off by years would make all old. OSError; FolderChanged
    where the folder is not the one that was opened.
    """
    session.journal.check()
    settings, folder, at = session.settings, session.folder, time.time()
    told = session.link.client.server_time
    if told is None or abs(told - at) > AGREED:
        return 0
    removed = spool_prune.prune(folder, keep_sent=settings.keep_sent, keep_failed=settings.keep_failed, now=at)
    read = slowest(session.client_dir.path, folder.path)
    read_up_to = session.state.seq if read is None else read
    removed += spool_prune.prune_inbox(folder, settings.keep_inbox, read_up_to=read_up_to, now=at)
    session.count_failed()
    return removed
