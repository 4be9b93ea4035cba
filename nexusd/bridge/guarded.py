"""The secret guard between a dropped file and the server, and a person's word against it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nexusd import guard
from nexusd.errors import Refusal

if TYPE_CHECKING:
    from nexusd.bridge.outgoing import Outgoing
    from nexusd.bridge.session import Session
    from nexusd.spool.released import Word
    from nexusd.spool.sending import Claimed


async def check(session: Session, claimed: Claimed, message: Outgoing, word: Word | None) -> None:
    """Refusal `held_secret` where the message seems to hold a secret and no `word` lets it pass; or only a warning.

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
    elif word is not None:
        session.log.info("outbox.secret", file=claimed.name, rule=rule, released=True)
    else:
        raise Refusal(
            "held_secret",
            f"it looks as if it held a secret ({rule})",
            f"take that out, or send it all the same: nexusd release {session.name} {claimed.name}",
        )
