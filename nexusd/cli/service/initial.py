"""init: a configuration to look at and change, and the folders. Asks nothing, overwrites nothing."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from nexusd import shipped
from nexusd.cli.output import say
from nexusd.cli.service.running import config_argument
from nexusd.config.load import config_file, load
from nexusd.root import forget, recognise, remember
from nexusd.spool import atomic

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from nexusd.cli.output import Verb


def init_arguments(parser: ArgumentParser) -> None:
    """Declare what `init` takes."""
    config_argument(parser)
    parser.add_argument(
        "--new-root",
        action="store_true",
        help="begin anew in what is at the root's path now, although another folder was served from there",
    )


def init(args: Namespace) -> Verb:
    """Write the configuration if there is none, make what folders are missing, say what to do next."""
    path = config_file(args.config)
    written = _written(path)
    config = load(args.config)  # one that was there may be broken, or name other folders
    if args.new_root:
        forget(config.root, config.client_dir)
        remember(config.root, config.client_dir)
    recognise(config.root, config.client_dir)
    for folder in (config.root, config.sessions_folder, config.client_dir):
        atomic.private_folder(folder)
    yield {
        "config": path,
        "written": written,
        "root": config.root,
        "sessionsFolder": config.sessions_folder,
        "clientDir": config.client_dir,
        "sessions": [session.name for session in config.sessions],
    }
    named = f" --config {args.config}" if args.config else ""
    how = "lists every key with its default; change what you like" if written else "was there and stays as it is"
    say(f"{path} {how}")
    if not config.sessions:
        say(f"next, open a conversation:   nexusd add friend --create{named}   (prints a link for the other side)")
        say(f"or enter one with its link:  nexusd add friend --code LINK{named}")
    say(f"then run the daemon:         nexusd run{named}   (as a service: nexusd unit --help)")
    say("and for your agent:          nexus skill")
    return 0


def _written(path: str) -> bool:
    """Put the page there, whole, unless something is there already; whether it was written."""
    if os.path.lexists(path):
        return False
    atomic.private_folder(os.path.dirname(path))
    aside = os.path.join(os.path.dirname(path), f".{os.urandom(8).hex()}.tmp")
    atomic.replace(aside, shipped.page(shipped.EXAMPLE))
    try:
        os.link(aside, path)  # a rename would overwrite one that came in between
    except FileExistsError:
        return False
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
    atomic.fsync_folder(os.path.dirname(path))
    return True
