"""Files that cannot be moved out of the outbox, though others can: they wait, and those behind them go on."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nexusd.bridge.session import Session

AGAIN = 30.0  # seconds until they are tried again
OUTBOX = "outbox"  # beside the lanes: what is wrong with files in it
_ONE_FILES = (errno.EPERM, errno.EACCES, errno.EBUSY)


class Stuck:
    """Those of one look at the outbox."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def takes(self, name: str, fault: OSError, outbox: str) -> bool:
        """Whether it is this file that cannot be moved: not a folder that lets nothing out of it, or be made in it."""
        moving = fault.filename2 is not None
        if not moving or fault.errno not in _ONE_FILES or not os.access(outbox, os.W_OK | os.X_OK):
            return False
        self.names.append(name)
        return True

    def say(self, session: Session) -> None:
        """Where people look: which they are; or nothing any more."""
        if not self.names:
            session.standing.cleared(OUTBOX)
            return
        path = os.path.join(session.folder.outbox, self.names[0])
        more = f" (and {len(self.names) - 1} more)" if self.names[1:] else ""
        session.standing.blocked(
            OUTBOX,
            f"{path}{more}: it cannot be moved, so it waits, and what is behind it is sent; "
            f"it may be immutable (lsattr {path}; chattr -i {path}) or a mount (umount {path})",
        )
