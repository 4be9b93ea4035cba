"""The server's request limit, kept before the server has to say so."""

from __future__ import annotations

import asyncio
import enum
import time
from collections import deque
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

URGENT = 1.0  # what a renewal is worth that cannot wait: a quarter of the time to live is left
RELOOK = 5.0  # seconds between two looks at whether a waiting renewal has become urgent
BUCKET = 10.0  # requests that may go at once; small, so that a restart cannot spend a minute's worth again


class Turn(enum.IntEnum):
    """What a request is for, most urgent first."""

    RENEW = 0
    SEND = 1
    POLL = 2


class _Ticket:
    """A turn's first request; unspent at its end it goes back into the bucket."""

    __slots__ = ("spent",)

    def __init__(self) -> None:
        self.spent = False


@dataclass(eq=False, slots=True)
class _Waiting:
    """One who waits for a turn."""

    given: asyncio.Future[None]
    worth: Callable[[], float]


_ticket: ContextVar[_Ticket | None] = ContextVar("ticket", default=None)


class Budget:
    """One server's requests, shared by all its sessions: a bucket of 10 that fills at `per_minute` (0: no limit).

    Renewals first; then sends, though at most two of three while a poll waits; then polls. A session waits with one of
    a kind at a time, so first come first served is round robin by session. A renewal that is urgent waits for no pause.
    """

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_minute / 60.0
        self._clock = clock
        self._tokens = BUCKET
        self._filled_at = clock()
        self._paused_until = 0.0
        self._waiting: tuple[deque[_Waiting], ...] = (deque(), deque(), deque())
        self._sends_in_a_row = 0
        self._timer: asyncio.TimerHandle | None = None
        self.used = 0

    def set_rate(self, per_minute: float) -> None:
        """Another limit from now on."""
        self._fill()
        self._rate = per_minute / 60.0
        self._admit()

    @asynccontextmanager
    async def turn(self, kind: Turn, worth: Callable[[], float] = lambda: 0.0) -> AsyncIterator[None]:
        """Wait until a request of this kind may go; inside, the first one is paid for.

        `worth` is asked each time a turn is given: of polls the one worth most goes first, else who came first. A
        renewal worth more than 1 is urgent.
        """
        urgent = kind is Turn.RENEW and worth() >= URGENT and self._short() <= 0
        if not urgent and (any(self._waiting) or self._delay() > 0):
            mine = _Waiting(asyncio.get_running_loop().create_future(), worth)
            self._waiting[kind].append(mine)
            self._arm()
            try:
                await mine.given
            except asyncio.CancelledError:
                if mine.given.done() and not mine.given.cancelled():
                    self._tokens += 1.0  # it was our turn: pass it on
                    self._admit()
                raise
        else:
            self._take()
        ticket = _Ticket()
        token = _ticket.set(ticket)
        try:
            yield
        finally:
            _ticket.reset(token)
            if not ticket.spent:
                self._tokens += 1.0
                self._admit()

    def debit(self) -> None:
        """One request goes now. Those behind a turn's first (a second look, a rejoin) overdraw the bucket."""
        self.used += 1
        ticket = _ticket.get()
        if ticket is not None and not ticket.spent:
            ticket.spent = True
        else:
            self._take()

    def pause(self, seconds: float) -> None:
        """The server said 429: nothing goes before this time is over."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)
        self._tokens = min(self._tokens, 1.0)

    @property
    def paused_for(self) -> float:
        """Seconds until the server may be asked again."""
        return max(0.0, self._paused_until - self._clock())

    @property
    def left(self) -> float | None:
        """Requests that may go at once, below 0 when overdrawn; None: there is no limit."""
        if not self._rate:
            return None
        self._fill()
        return self._tokens

    def _take(self) -> None:
        self._fill()
        if self._rate:
            self._tokens -= 1.0

    def _fill(self) -> None:
        now = self._clock()
        self._tokens = min(BUCKET, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now

    def _delay(self) -> float:
        """Seconds until one more request may go."""
        return max(self._short(), self.paused_for)

    def _short(self) -> float:
        """Seconds until the bucket has one more request, whatever pause there is."""
        self._fill()
        return (1.0 - self._tokens) / self._rate if self._rate and self._tokens < 1.0 else 0.0

    def _arm(self) -> None:
        if self._timer is None and any(self._waiting):
            delay = self._delay()
            if self._waiting[Turn.RENEW]:
                delay = min(delay, RELOOK)  # one of them may become urgent
            self._timer = asyncio.get_running_loop().call_later(delay, self._admit)

    def _admit(self) -> None:
        """Give out the turns that are due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for waiting in [w for w in self._waiting[Turn.RENEW] if not w.given.done() and w.worth() >= URGENT]:
            if self._short() > 0:
                break
            self._waiting[Turn.RENEW].remove(waiting)
            self._take()
            waiting.given.set_result(None)
        while self._delay() <= 0 and (chosen := self._next()) is not None:
            self._take()
            chosen.given.set_result(None)
        self._arm()

    def _next(self) -> _Waiting | None:
        for queue in self._waiting:
            while queue and queue[0].given.done():
                queue.popleft()
        renewals, sends, polls = self._waiting
        if renewals:
            return renewals.popleft()
        if sends and not (polls and self._sends_in_a_row >= 2):
            self._sends_in_a_row += 1
            return sends.popleft()
        self._sends_in_a_row = 0
        chosen = max((poll for poll in polls if not poll.given.done()), key=lambda poll: poll.worth(), default=None)
        if chosen is not None:
            polls.remove(chosen)
        return chosen
