"""When a file is tried no longer: the reasons for failed/ that are no refusal in the protocol's words."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from nexusd.bridge.link import now
from nexusd.errors import Fate, Refusal, RequestError
from nexusd.wire.budget import Turn

if TYPE_CHECKING:
    from nexusd.bridge.delivery import Delivery
    from nexusd.bridge.session import Session

FOREIGN = 600.0  # seconds, in which polls succeed, for which a refusal not in the protocol's words is tried again
TRIES = 3  # of a file, with which we fail in a way that we do not understand


class ForeignRefusals:
    """Refusals of one file by something that does not speak the protocol: a gateway, a firewall.

    It may change its mind. Time counts while this session's polls succeed: else it is not about this file.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._heard_for = 0.0  # seconds
        self._heard_at: float | None = None

    def enough(self, fault: RequestError) -> Refusal | None:
        """Take note of one more failure; the refusal once it has been heard for long enough."""
        if fault.fate is not Fate.NOT_SENT or fault.status is None or not 400 <= fault.status < 500:
            self._heard_at = None
            return None
        if self._heard_at is not None and self._session.standing.answered_since(Turn.POLL, self._heard_at):
            self._heard_for += now() - self._heard_at
        self._heard_at = now()
        if self._heard_for < FOREIGN:
            return None
        why = f"something before the server takes polls and refuses this file, for {FOREIGN / 60:.0f} minutes: {fault}"
        return Refusal("refused", why, "change what it says, or ask who runs the server", status=fault.status)


def overdue(session: Session, delivery: Delivery, failing_since: float) -> Refusal | None:
    """The refusal of a file that could not be sent for `give_up_after`, whatever the reason."""
    waited = now() - max(failing_since, delivery.since)
    if delivery.inherited:  # only the wall clock goes on over lives
        waited = max(waited, time.time() - delivery.claimed.claimed_at)
    if waited <= session.settings.give_up_after:
        return None
    why = f"it could not be sent for {waited:.0f} s; last: {session.standing.last_error}"
    return Refusal("gave_up", why, "when the cause is gone: nexusd release NAME FILE")


def internal(fault: Exception) -> Refusal:
    """The refusal of a file with which nexusd itself fails: it must not block the queue."""
    why = f"nexusd failed with it {TRIES} times ({type(fault).__name__})"
    return Refusal("internal", why, "tell the makers of nexusd, and drop what it says in another form")
