"""The terminal of `nexusd top`: taken over on entering, given back as it was on whatever way out."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
from typing import TYPE_CHECKING, NoReturn, Self

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType, TracebackType

# Another page, no cursor, no wrapping: a width that we count otherwise than the terminal moves nothing.
_ENTER, _LEAVE = b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[H\x1b[2J", b"\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
_REST = 0.05  # seconds in which the rest of an escape sequence has come
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT)


class Ended(BaseException):
    """A signal said to end. `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Screen:
    """A terminal for drawing. Use as a context, in the main thread."""

    def __init__(self) -> None:
        self._in, self._out = sys.stdin.fileno(), sys.stdout.fileno()
        self._encoding = sys.stdout.encoding or "ascii"
        self._before = termios.tcgetattr(self._in)
        self._drawn: list[bytes] = []
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._handlers: dict[int, object] = {}

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._handlers[number] = signal.signal(number, self._signalled)
        self._take()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        for each in (*_SIGNALS, signal.SIGINT):
            signal.signal(each, signal.SIG_IGN)  # nothing may come between us and giving it back
        self._give_back()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.close(self._woken)
        os.close(self._wake)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows, at least one of each."""
        try:
            found = os.get_terminal_size(self._out)
        except OSError:
            return 80, 24
        return max(1, found.columns or 80), max(1, found.lines or 24)

    def draw(self, lines: Sequence[str]) -> None:
        """Show these lines; only those that have changed are written."""
        coded = [line.encode(self._encoding, "backslashreplace") for line in lines]
        changed = [
            b"\x1b[%d;1H\x1b[2K%s" % (n, line)  # not behind it: in the last column that would erase a letter
            for n, line in enumerate(coded, 1)
            if n > len(self._drawn) or self._drawn[n - 1] != line
        ]
        if changed:
            self._write(b"".join(changed))
        self._drawn = coded

    def pressed(self, timeout: float) -> bytes:
        """What was typed, or nothing once the time (seconds) is over or the size has changed. EOFError at the end."""
        ready, _, _ = select.select([self._in, self._woken], [], [], timeout)
        if self._woken in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._woken, 4096)
            self._drawn = []
            self._write(b"\x1b[2J")
        if self._in not in ready:
            return b""
        data = self._read()
        if data.endswith((b"\x1b", b"\x1b[", b"\x1bO")) and select.select([self._in], [], [], _REST)[0]:
            data += self._read()
        return data

    def _read(self) -> bytes:
        data = os.read(self._in, 4096)
        if not data:
            raise EOFError
        return data

    def _take(self) -> None:
        after = [*self._before[:6], [*self._before[6]]]
        after[3] &= ~(termios.ICANON | termios.ECHO)
        after[6][termios.VMIN], after[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._in, termios.TCSAFLUSH, after)
        self._drawn = []
        self._write(_ENTER)

    def _give_back(self) -> None:
        with contextlib.suppress(OSError, termios.error):
            termios.tcflow(self._out, termios.TCOON)  # a Ctrl-S must not keep us here
            self._write(_LEAVE)
        with contextlib.suppress(OSError, termios.error):
            termios.tcsetattr(self._in, termios.TCSANOW, self._before)

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._out, data) :]

    def _signalled(self, number: int, _: FrameType | None) -> None:
        if number in (signal.SIGTERM, signal.SIGHUP):
            self._end(number)
        if number == signal.SIGTSTP:
            self._give_back()
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTSTP)  # here we sleep
            signal.signal(signal.SIGTSTP, self._signalled)
            self._take()
        with contextlib.suppress(OSError):
            os.write(self._wake, b"!")

    def _end(self, number: int) -> NoReturn:
        raise Ended(number)
