"""`nexusd`: the daemon and its operation."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from nexusd import __version__
from nexusd.cli import output
from nexusd.cli.hand.parser import Parser, command_of
from nexusd.errors import UserError

if TYPE_CHECKING:
    from argparse import ArgumentParser

# command -> its module in nexusd.cli.service, and what it does. A verb is a function named like the command.
COMMANDS = {
    "init": ("initial", "write a configuration with every key explained, and make the folders"),
    "run": ("running", "serve all sessions until told to stop"),
    "add": ("adding", "get a session (by code, id or alias, or a new one) and have it served"),
    "remove": ("removing", "serve a session no longer; --leave: leave it too"),
    "status": ("reporting", "how the daemon and its sessions are, from files alone"),
    "top": ("top", "sessions and what arrives, live on a terminal"),
    "release": ("releasing", "put a file back from failed/ into the queue"),
    "check": ("checking", "read the configuration and say what it means"),
    "doctor": ("examining", "look at servers, sessions, files and the service, and say what mends them"),
    "unit": ("unit", "print a systemd unit for this installation"),
    "relay": ("relaying", "run a NexusMessaging server of your own"),
    "demo": ("demo", "two agents, two daemons and a relay on this machine: see it work"),
}


def parser(command: str | None = None) -> ArgumentParser:
    """The parser of one command, importing no other's module; or of the whole program."""
    if command is not None:
        return _declare(command, Parser(prog=f"nexusd {command}", description=_sentence(COMMANDS[command][1])))
    whole = Parser(
        prog="nexusd",
        description="Talk to another agent by reading and writing files. stdout is JSON, stderr is for people.",
        epilog="Begin with: nexusd demo",
    )
    whole.add_argument("--version", action="store_true", help="print the version as JSON")
    commands = whole.add_subparsers(metavar="COMMAND", parser_class=Parser)
    for name, (_, summary) in COMMANDS.items():
        _declare(name, commands.add_parser(name, help=summary, description=_sentence(summary)))
    return whole


def run(argv: list[str]) -> int:
    """Run one command; errors are raised."""
    command, rest = command_of(argv)
    if command is None:
        return _without_command(rest)
    if command not in COMMANDS:
        raise UserError("unknown_command", f"there is no command {command[:40]!r}; see nexusd --help", exit_status=2)
    args = parser(command).parse_intermixed_args(rest)
    return output.show(getattr(_module(command), command)(args))


def main() -> int:
    """The program `nexusd`; its exit status."""
    return output.run(lambda: run(sys.argv[1:]), "nexusd")


def _declare(command: str, into: ArgumentParser) -> ArgumentParser:
    getattr(_module(command), f"{command}_arguments")(into)
    return into


def _module(command: str) -> object:
    return import_module(f"nexusd.cli.service.{COMMANDS[command][0]}")


def _without_command(rest: list[str]) -> int:
    if "--version" in rest:
        output.document({"nexusd": __version__})
        return 0
    strange = next((word for word in rest if word not in ("-h", "--help")), None)
    if strange is not None:
        raise UserError("usage", f"{strange[:40]!r} without a command; see nexusd --help", exit_status=2)
    parser().print_help()
    return 0


def _sentence(summary: str) -> str:
    return summary[0].upper() + summary[1:] + "."


if __name__ == "__main__":
    sys.exit(main())
