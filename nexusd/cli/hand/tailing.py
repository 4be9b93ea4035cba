"""tail: the last lines of one inbox, several or all, and with -f those to come."""

from __future__ import annotations

import os
import sys
import time
import zlib
from typing import TYPE_CHECKING

from nexusd import jsontext, serving
from nexusd.cli.hand import given, inboxes
from nexusd.cli.hand.desk import Desk
from nexusd.cli.hand.reading import whole
from nexusd.cli.output import say

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from nexusd.cli.output import Verb
    from nexusd.spool.reading import Inbox, Line

_LOOK = 0.025  # seconds between two looks
_COLOURS = (36, 33, 32, 35, 34, 31)


def tail_arguments(parser: ArgumentParser) -> None:
    """Declare what `tail` takes."""
    parser.add_argument("sessions", metavar="NAME", nargs="*", help="whose inboxes (all)")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what comes, until Ctrl-C")
    parser.add_argument("-n", "--lines", metavar="N", default="10", help="how many of the last lines (10)")


def tail(args: Namespace) -> Verb:
    """Show the last lines: JSON lines, or on a terminal one short line a message, coloured by session."""
    desk = Desk(args)
    count = given.number(args.lines, "lines") or 0
    show = _rows if sys.stdout.isatty() else whole
    followed = [_Followed(inbox, count) for inbox in _inboxes(desk, args.sessions)]
    if not followed:
        say("there is no inbox yet; nexusd add gives the daemon a session to serve")
        return 0
    begun = [line for one in followed for line in one.begun]
    begun.sort(key=lambda line: str(line.value.get("receivedAt")))
    if begun:
        yield show(begun[-count:])
    while args.follow:
        for one in followed:
            if lines := one.grown():
                yield show(lines)
        time.sleep(_LOOK)
    return 0


class _Followed:
    """An inbox and how far it was shown."""

    def __init__(self, inbox: Inbox, count: int) -> None:
        self._inbox = inbox
        self._mark: tuple[int, int] | None = None
        self.begun = inbox.newest(count)
        self._last = self.begun[-1].seq if self.begun else inbox.last()

    def grown(self) -> list[Line]:
        """The lines that came since."""
        mark = self._inbox.mark()
        if mark == self._mark:
            return []
        self._mark = mark
        lines = list(self._inbox.after(self._last))
        if not lines and 0 < self._inbox.end() < self._last:  # another inbox in its place: it counts from 1 again
            lines = list(self._inbox.after(0))
        if lines:
            self._last = lines[-1].seq
        return lines


def _inboxes(desk: Desk, names: list[str]) -> list[Inbox]:
    if names:
        folders = [inboxes.folder_of(desk, desk.session(name)) for name in names]
    else:
        folders = sorted(path for path in serving.folders(desk.state).values() if os.path.isdir(path))
    return [inboxes.opened(folder) for folder in dict.fromkeys(folders)]


def _rows(lines: list[Line]) -> bytes:
    """A short line a message: whose inbox, who, and how the text begins."""
    from nexusd.cli import columns  # noqa: PLC0415 - only on a terminal
    from nexusd.cli.hand import plain  # noqa: PLC0415

    colour = "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    width = os.get_terminal_size(1).columns or 80
    rows = []
    for line in lines:
        value = line.value
        name = plain.clean(str(value.get("session", "?")))[:20]
        sender = plain.clean(str(value.get("agentId") or value.get("kind")))[:24]
        what = value.get("text") if isinstance(value.get("text"), str) else "(JSON)"
        row = columns.cut(f"{name}  {sender}: {jsontext.escaped(str(what)[:400])}", max(1, width - 1))
        if colour:
            code = _COLOURS[zlib.crc32(name.encode()) % len(_COLOURS)]
            row = f"\x1b[{code}m{row[: len(name)]}\x1b[0m{row[len(name) :]}"
        rows.append(row + "\n")
    return "".join(rows).encode()
