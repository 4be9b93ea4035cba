"""Finding an inbox by name, and a reader's place in it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nexusd.cli.output import say
from nexusd.errors import UserError
from nexusd.spool.bookmark import Bookmark
from nexusd.spool.reading import Inbox

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from nexusd.cli.hand.desk import Desk

READER = "default"


def folder_of(desk: Desk, session: str) -> str:
    """The folder that a session's inbox is in; UserError where no daemon has served that session."""
    folder = desk.folder(session)
    if folder is None:
        raise UserError(
            "no_inbox",
            "no daemon serves this session: it was not added yet (nexusd add, or use nexus poll), or it was left; "
            "then what came before stands in its folder's inbox.jsonl, and nexusd status NAME says where that is",
        )
    if not os.path.isdir(folder):
        raise UserError("no_inbox", f"its folder {folder} is not there any more; nexusd run makes it again")
    return folder


def opened(folder: str) -> Inbox:
    """The inbox in a folder; what is odd in it is said on stderr."""
    return Inbox(folder, warn=lambda sentence: say(f"note: {sentence}"))


def bookmark(desk: Desk, folder: str, reader: str | None) -> Bookmark:
    """A reader's place in the inbox of a folder."""
    return Bookmark(desk.state.path, folder, reader or READER, warn=lambda sentence: say(f"note: {sentence}"))


def reader_argument(parser: ArgumentParser) -> None:
    """Declare `--as`."""
    parser.add_argument("--as", dest="reader", metavar="READER", help="whose bookmark to use (default: default)")
