"""How a session stands: its state, what its lanes fail with, and how long each of them holds off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexusd.bridge.link import now
from nexusd.bridge.states import ENDED, Event, Status, after
from nexusd.wire.backoff import Backoff
from nexusd.wire.budget import Turn

if TYPE_CHECKING:
    from collections.abc import Callable

    import structlog

    from nexusd.secrets import Secrets


class Standing:
    """One session's. `on_change` is called when something of it that is shown has changed."""

    def __init__(
        self, secrets: Secrets, log: structlog.typing.FilteringBoundLogger, on_change: Callable[[], None]
    ) -> None:
        self.status = Status.JOINING
        self.last_error: str | None = None
        self.gone_since: float | None = None  # when a first answer said that it is over; a second is believed
        self.on_recovery: Callable[[], None] = lambda: None  # a lane that had failed succeeded: others may try again
        self._secrets = secrets
        self._log = log
        self._on_change = on_change
        self._backoffs = {lane: Backoff() for lane in Turn}
        self._troubles: dict[Turn, str] = {}  # what a lane's last request failed with
        self._held_until: dict[Turn, float] = {}

    @property
    def ended(self) -> bool:
        """Whether no more requests are made."""
        return self.status in ENDED

    def happened(self, event: Event, error: str | None = None) -> None:
        """Move to the next state; said in the log only when it changes something."""
        self._move((event,), error)

    def answered(self, lane: Turn) -> None:
        """A lane's request succeeded. What another one still fails with stays the session's trouble."""
        failures = self._backoffs[lane].failures
        self._backoffs[lane].succeeded()
        self.gone_since = None
        self._troubles.pop(lane, None)
        if self._troubles:
            self._move((Event.ANSWERED, Event.FAILED), next(iter(self._troubles.values())))
        else:
            self._move((Event.ANSWERED,), None, after_failures=failures)
        if failures:
            self._held_until.clear()
            self.on_recovery()

    def failing(self, lane: Turn, error: str, event: Event = Event.FAILED, seconds: float | None = None) -> float:
        """A lane's request failed in a way that may pass; it holds off for `seconds`, by default its backoff."""
        self._troubles[lane] = error
        self._move((event,), error)
        delay = self._backoffs[lane].failed()
        delay = delay if seconds is None else seconds
        self.hold(lane, delay)
        return delay

    def hold(self, lane: Turn, seconds: float) -> None:
        """Let a lane hold off for so long, whatever wakes it."""
        self._held_until[lane] = now() + seconds

    def held_for(self, lane: Turn) -> float:
        """Seconds for which a lane still holds off."""
        return max(0.0, self._held_until.get(lane, 0.0) - now())

    def _move(self, events: tuple[Event, ...], error: str | None, *, after_failures: int = 0) -> None:
        before = self.status
        for event in events:
            self.status = after(self.status, event)
        error = self._secrets.removed(error) if error else None
        if before is self.status and error == self.last_error:
            return
        if error or before is not self.status:
            said = {"error": error} if error else {"after_failures": after_failures} if after_failures else {}
            log = self._log.warning if error else self._log.info
            log(f"session.{self.status.value}", **said)
        self.last_error = error
        self._on_change()
