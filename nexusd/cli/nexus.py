"""`nexus`: the protocol by hand, and reading what the daemon received."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

from nexusd import __version__
from nexusd.cli import output
from nexusd.cli.hand.parser import Parser, command_of
from nexusd.errors import UserError

if TYPE_CHECKING:
    from argparse import ArgumentParser

# command -> its module in nexusd.cli.hand, and what it does. A verb is a function named like the command.
COMMANDS = {
    "create": ("sessions", "create a session; --join-as ID --pair makes it ready for a second agent in one go"),
    "status": ("sessions", "what the server says of a session"),
    "join": ("sessions", "enter a session"),
    "renew": ("sessions", "reset a session's time to live"),
    "leave": ("leaving", "leave a session and forget it here"),
    "pair": ("pairing", "make a pairing code for a session"),
    "claim": ("pairing", "enter a session with a pairing code or its link"),
    "pair-status": ("pairing", "whether a pairing code is pending, claimed or expired"),
    "send": ("sending", "send a message: through the daemon's outbox where one serves the session"),
    "poll": ("polling", "fetch new messages and move on"),
    "poll-all": ("polling_all", "fetch the new messages of all sessions"),
    "poll-daemon": ("streaming", "keep polling for a time; messages come as JSON lines"),
    "heartbeat": ("streaming", "keep polling until stopped; messages come as JSON lines"),
    "poll-status": ("streaming", "which polling commands run"),
    "read": ("reading", "unread lines of an inbox that a daemon fills"),
    "wait": ("waiting", "wait for something unread in an inbox"),
    "ask": ("waiting", "send through the daemon and wait for the first answer"),
    "tail": ("tailing", "the last lines of inboxes, with -f also those to come"),
    "alias": ("naming", "give a session a short name"),
    "unalias": ("naming", "take a short name away"),
    "ls": ("listing", "the sessions known here"),
    "config": ("naming", "the default server: set-url URL, show, unset"),
    "bind": ("naming", "note on which server a session lives, after asking it"),
    "doctor": ("examining", "check every session and server"),
    "skill": ("teaching", "the page that teaches an agent to use all this"),
}


def parser(command: str | None = None) -> ArgumentParser:
    """The parser of one command, importing no other's module; or of the whole program, for completion and manual."""
    if command is not None:
        return _declare(command, Parser(prog=f"nexus {command}", description=f"{_sentence(COMMANDS[command][1])}"))
    whole = Parser(
        prog="nexus",
        description="NexusMessaging from the command line. stdout is JSON, stderr is for people.",
        epilog="A session is given by its id, its alias, its folder (name or path), or - to read the id from stdin.",
    )
    whole.add_argument("--version", action="store_true", help="print the version as JSON")
    commands = whole.add_subparsers(metavar="COMMAND", parser_class=Parser)
    for name, (_, summary) in COMMANDS.items():
        _declare(name, commands.add_parser(name, help=summary, description=_sentence(summary)))
    return whole


def run(argv: list[str]) -> int:
    """Run one command; errors are raised."""
    command, rest = command_of(argv)
    if command == "help":
        command, rest = next((word for word in rest if word in COMMANDS), None), ["--help"]
    if command is None:
        return _without_command(rest)
    if command not in COMMANDS:
        raise UserError("unknown_command", f"there is no command {command[:40]!r}{_nearest(command)}", exit_status=2)
    args = parser(command).parse_intermixed_args(rest)
    return output.show(getattr(_module(command), command.replace("-", "_"))(args))


def main() -> NoReturn:
    """The program `nexus`. Ends the process."""
    output.end(output.run(lambda: run(sys.argv[1:])))


def _declare(command: str, into: ArgumentParser) -> ArgumentParser:
    getattr(_module(command), command.replace("-", "_") + "_arguments")(into)
    into.add_argument("--url", metavar="URL", help="server to ask (else the session's own, $NEXUS_URL, config)")
    into.add_argument("--agent-id", metavar="ID", help="who we are (else what was kept on joining)")
    return into


def _module(command: str) -> object:
    return import_module(f"nexusd.cli.hand.{COMMANDS[command][0]}")


def _without_command(rest: list[str]) -> int:
    if "--version" in rest:
        output.document({"nexus": __version__})
        return 0
    strange = next((word for word in rest if word not in ("-h", "--help")), None)
    if strange is not None:
        raise UserError("usage", f"{strange[:40]!r} without a command; see nexus --help", exit_status=2)
    parser().print_help()
    return 0


def _nearest(command: str) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - only for a typing error

    near = get_close_matches(command, COMMANDS, n=1)
    return f"; did you mean {near[0]}?" if near else "; see nexus --help"


def _sentence(summary: str) -> str:
    return summary[0].upper() + summary[1:] + "."


if __name__ == "__main__":
    main()
