"""run: the daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from nexusd.cli.output import Verb


def config_argument(parser: ArgumentParser) -> None:
    """Declare --config, which most commands take."""
    parser.add_argument("--config", metavar="FILE", help="the configuration (else $NEXUSD_CONFIG, ~/.config/nexusd)")


def run_arguments(parser: ArgumentParser) -> None:
    """Declare what `run` takes."""
    config_argument(parser)
    parser.add_argument("--once", action="store_true", help="one pass over every session, then end")


def run(args: Namespace) -> Verb:
    """Serve all sessions until told to stop."""
    from nexusd import daemon  # noqa: PLC0415 - httpx and all that, only for the daemon

    yield from ()
    return daemon.run(args.config, once=args.once)
