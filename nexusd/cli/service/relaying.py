"""relay: a server of one's own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nexusd.errors import UserError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from nexusd.cli.output import Verb

MISSING = "the relay needs two more packages; run: pip install 'nexusd[relay]'"


def relay_arguments(parser: ArgumentParser) -> None:
    """Declare what `relay` takes."""
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=3000, help="the port, 0: any free one (3000)")
    parser.add_argument("--data-dir", metavar="DIR", help="keep sessions over a restart; messages are never kept")
    parser.add_argument(
        "--rate-limit", type=int, default=100, metavar="N", help="requests in 60 s by address, 0: any (100)"
    )


def relay(args: Namespace) -> Verb:
    """Serve until told to stop."""
    try:
        from nexusd.relay.serve import serve  # noqa: PLC0415 - an extra
    except ImportError:
        raise UserError("relay_not_installed", MISSING) from None
    yield from ()
    data_dir = os.path.expanduser(args.data_dir) if args.data_dir else None
    return serve(args.host, args.port, data_dir, args.rate_limit)
