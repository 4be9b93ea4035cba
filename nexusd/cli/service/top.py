"""top: sessions and what arrives, live on a terminal."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from nexusd.cli.service.running import config_argument
from nexusd.errors import UserError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from nexusd.cli.output import Verb
    from nexusd.cli.service.top_screen import Screen

EVERY = 1.0  # seconds between two looks
SHARE = 5  # a look that takes long is repeated after this many times as long


def top_arguments(parser: ArgumentParser) -> None:
    """Declare what `top` takes."""
    parser.epilog = "Keys: up, down, j, k, Page Up, Page Down, g, G move; Enter opens; b or Esc goes back; q quits."
    config_argument(parser)


def top(args: Namespace) -> Verb:
    """Show it until somebody quits. The one command that draws on the terminal by itself, behind `output`'s back."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM") == "dumb":
        raise UserError("no_terminal", "nexusd top draws on a terminal; without one use nexusd status [--watch]")
    from nexusd.cli.service.top_screen import Ended, Screen  # noqa: PLC0415 - only with a terminal

    yield from ()
    try:
        with Screen() as screen:
            _show(args.config, screen)
    except Ended as end:
        return 128 + end.number
    except (KeyboardInterrupt, EOFError):
        pass
    return 0


def _show(config: str | None, screen: Screen) -> None:
    from nexusd.cli.service import top_lines, top_opened, top_place  # noqa: PLC0415
    from nexusd.cli.service.top_cells import painted  # noqa: PLC0415
    from nexusd.cli.service.top_seen import Eyes  # noqa: PLC0415

    colour = "NO_COLOR" not in os.environ
    eyes = Eyes(config)
    place = top_place.Place()
    due = 0.0
    while True:
        if (began := time.monotonic()) >= due:
            eyes.look()
            due = time.monotonic() + max(EVERY, SHARE * (time.monotonic() - began))
        width, height = screen.size
        room = top_lines.room(height)
        place = top_place.settled(place, eyes.names, room)
        shown = eyes.shown(place, room)
        if place.opened is not None:
            place = replace(place, below=min(place.below, top_opened.furthest(shown, width)))
        rows = top_lines.rows(shown, place, width, height)
        screen.draw([painted(row, colour=colour) for row in rows])
        for key in top_place.keys(screen.pressed(max(0.0, min(EVERY, due - time.monotonic())))):
            after = top_place.moved(place, key, eyes.names, room)
            if after is None:
                return
            place = after
