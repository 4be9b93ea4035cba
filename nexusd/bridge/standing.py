"""How a session stands: its state, what its lanes fail with, and how long each of them holds off."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nexusd.bridge.link import now
from nexusd.bridge.states import ENDED, Event, Status, after
from nexusd.wire.backoff import Backoff
from nexusd.wire.budget import Turn

if TYPE_CHECKING:
    from collections.abc import Callable

    import structlog

    from nexusd.secrets import Secrets

RECORD = "record"  # beside the lanes: the local record of our membership, which could not be written yet
_WORST_FIRST = (Event.BLOCKED, Event.PUT_OUT, Event.FAILED)


class _Trouble(NamedTuple):
    """What something fails with now."""

    event: Event
    error: str


class _Hold(NamedTuple):
    """Until when a lane holds off (link.now()). `told`: because the server said so, whatever else succeeds."""

    until: float
    told: bool


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
        self._troubles: dict[Turn | str, _Trouble] = {}
        self._holds: dict[Turn, _Hold] = {}
        self._answered_at: dict[Turn, float] = {}

    @property
    def ended(self) -> bool:
        """Whether no more requests are made, but to ask whether it is over."""
        return self.status in ENDED

    def answered_since(self, lane: Turn, at: float) -> bool:
        """Whether a request of this lane has succeeded since then (link.now())."""
        return self._answered_at.get(lane, -1.0) >= at

    def happened(self, event: Event, error: str | None = None) -> None:
        """Move to the next state; said in the log only when it changes something."""
        if event is not Event.PUT_OUT:
            self._troubles.clear()
        self._move((event,), error)

    def answered(self, lane: Turn) -> None:
        """A lane's request succeeded. What another one still fails with stays the session's trouble."""
        failures = self._backoffs[lane].failures
        self._backoffs[lane].succeeded()
        self._answered_at[lane] = now()
        self.gone_since = None
        if not self._troubles and self.status is Status.ACTIVE:
            return  # as ever: this is done for each poll
        self._troubles.pop(lane, None)
        self._show(after_failures=failures)
        if failures:
            self._holds = {other: hold for other, hold in self._holds.items() if hold.told}
            self.on_recovery()

    def member_again(self) -> None:
        """We are in: what failed because we were not, does not any more, and need not hold off."""
        out = {of for of, it in self._troubles.items() if it.event is Event.PUT_OUT}
        self._troubles = {of: it for of, it in self._troubles.items() if of not in out}
        self._holds = {lane: hold for lane, hold in self._holds.items() if hold.told and lane not in out}

    def failing(
        self,
        lane: Turn,
        error: str,
        event: Event = Event.FAILED,
        seconds: float | None = None,
        *,
        told: bool = False,
    ) -> float:
        """A lane's request failed in a way that may pass; it holds off for `seconds`, by default its backoff.

        `told`: the server named that time; no success of another lane shortens it.
        """
        before = self._troubles.get(lane)
        if event is Event.FAILED and before is not None and before.event is Event.PUT_OUT:
            event = Event.PUT_OUT  # coming back fails: we are still out
        self._troubles[lane] = _Trouble(event, error)
        self._show()
        delay = self._backoffs[lane].failed()
        delay = delay if seconds is None else seconds
        self.hold(lane, delay, told=told)
        return delay

    def blocked(self, what: str, error: str) -> None:
        """Something beside the lanes fails on this machine; they go on meanwhile."""
        self._troubles[what] = _Trouble(Event.BLOCKED, error)
        self._show()

    def cleared(self, what: Turn | str) -> None:
        """It does not any more."""
        if self._troubles.pop(what, None) is not None:
            self._show()

    def hold(self, lane: Turn, seconds: float, *, told: bool = False) -> None:
        """Let a lane hold off for so long, whatever wakes it."""
        self._holds[lane] = _Hold(now() + seconds, told)

    def held_for(self, lane: Turn) -> float:
        """Seconds for which a lane still holds off."""
        return max(0.0, self._holds[lane].until - now()) if lane in self._holds else 0.0

    def _show(self, *, after_failures: int = 0) -> None:
        """The state is that of the worst trouble that is left."""
        for event in _WORST_FIRST:
            error = next((it.error for it in self._troubles.values() if it.event is event), None)
            if error is not None:
                self._move((Event.ANSWERED, event), error)
                return
        self._move((Event.ANSWERED,), None, after_failures=after_failures)

    def _move(self, events: tuple[Event, ...], error: str | None, *, after_failures: int = 0) -> None:
        before = self.status
        for event in events:
            self.status = after(self.status, event)
        error = self._secrets.removed(error) if error else None
        if self.ended and before is self.status:
            return  # why it ended is what is to be read
        if before is self.status and error == self.last_error:
            return
        if error or before is not self.status:
            said = {"error": error} if error else {"after_failures": after_failures} if after_failures else {}
            log = self._log.warning if error else self._log.info
            log(f"session.{self.status.value}", **said)
        self.last_error = error
        self._on_change()
