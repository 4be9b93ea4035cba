"""The secret guard between a dropped file and the server, and a person's word against it.

`.nexusd/released/NAME` is that word (`nexusd release`). It counts for what was dropped before it was given, so that a
later file of the same name is looked at again, and it is taken away when the file is settled.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

from nexusd import guard
from nexusd.errors import Refusal

if TYPE_CHECKING:
    from nexusd.bridge.outgoing import Outgoing
    from nexusd.bridge.session import Session
    from nexusd.spool.sending import Claimed


async def check(session: Session, claimed: Claimed, message: Outgoing) -> None:
    """Refusal `held_secret` where the message seems to hold a secret and nobody has let it pass; or only a warning.

    What was posted before has been looked at then: it must not be held while it may have arrived.
    """
    wanted = session.settings.secret_guard or ("hold" if guard.is_complete() else "off")
    if wanted == "off" or claimed.intent.attempts:
        return
    rule = await asyncio.to_thread(guard.found, message.text, message.payload)
    if rule is None:
        return
    if wanted == "warn":
        session.log.warning("outbox.secret", file=claimed.name, rule=rule)
    elif _is_released(session, claimed):
        session.log.info("outbox.secret", file=claimed.name, rule=rule, released=True)
    else:
        raise Refusal(
            "held_secret",
            f"it looks as if it held a secret ({rule})",
            f"take that out, or send it all the same: nexusd release {session.name} {claimed.name}",
        )


def settled(session: Session, claimed: Claimed) -> None:
    """The person's word was for this file, and this file is done with."""
    with contextlib.suppress(OSError):
        os.unlink(_mark(session, claimed))


def _is_released(session: Session, claimed: Claimed) -> bool:
    try:
        return os.lstat(_mark(session, claimed)).st_mtime >= claimed.dropped_at
    except OSError:
        return False


def _mark(session: Session, claimed: Claimed) -> str:
    return os.path.join(session.folder.released, claimed.name)
