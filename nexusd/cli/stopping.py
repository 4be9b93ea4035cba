"""Signals that end a command: held back while it has something out that must be taken back, kept, or at least said.

A signal that was ignored when we were started (nohup) stays ignored.
"""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from nexusd.cli.output import say

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Held:
    """Holds those signals back from here to the end of the block. Only `pause` lets one in, and only as `number`.

    Blocked and not handled: no handler can raise between a drop and the line that would take it back. For the end of a
    command: what comes behind the last `pause` is forgotten.
    """

    def __init__(self) -> None:
        self.number: int | None = None  # the signal that came
        self._signals = _heeded()
        self._before: set[int] = set()

    def __enter__(self) -> Self:
        self._before = set(signal.pthread_sigmask(signal.SIG_BLOCK, self._signals))
        return self

    def __exit__(self, *_: object) -> None:
        # One that came too late to change anything, or a second one, must not end us before that is said.
        while signal.sigtimedwait(self._signals, 0):
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)

    def pause(self, seconds: float) -> bool:
        """Sleep for so long, or until one of the signals comes; whether one has come."""
        if self.number is None and (found := signal.sigtimedwait(self._signals, max(0.0, seconds))):
            self.number = found.si_signo
        return self.number is not None

    @property
    def name(self) -> str:
        """The signal that came, in words."""
        return signal.Signals(self.number).name if self.number is not None else ""

    @property
    def status(self) -> int | None:
        """The exit status that says so, as a shell has it, or None."""
        return 128 + self.number if self.number is not None else None


@contextmanager
def finishing(what: str) -> Iterator[None]:
    """Let what was begun come to its end: a first signal takes effect behind the block, a second one at once.

    `what` must not be lost, in words: it stands in the sentence that the first one gets.
    """
    came: list[int] = []

    def note(number: int, _: object) -> None:
        came.append(number)
        if len(came) > 1:
            restore()
            signal.raise_signal(number)
        else:
            say(f"{signal.Signals(number).name}: waiting for {what}; once more ends it at once")

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, note) for number in _heeded()}
    try:
        yield
    finally:
        restore()
        if came:
            signal.raise_signal(came[0])


def _heeded() -> set[signal.Signals]:
    return {number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN}
