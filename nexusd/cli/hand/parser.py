"""The parser's own ways: help goes to stderr, a wrong usage is an error like any other, options stand anywhere."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from nexusd.errors import UserError

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

# Options of either program that take a value: where one stands before the command, the next word is not the command.
# The parsers know them, but making all would cost each command more time than it needs.
VALUED = frozenset(
    {
        "--after",
        "--agent-id",
        "--alias",
        "--as",
        "--code",
        "--config",
        "--creator-agent-id",
        "--data-dir",
        "--from",
        "--greeting",
        "--host",
        "--id",
        "--interval",
        "--join-as",
        "--json",
        "--limit",
        "--lines",
        "--max-agents",
        "--max-bytes",
        "--port",
        "--rate-limit",
        "--server",
        "--since",
        "--timeout",
        "--ttl",
        "--url",
        "-n",
    }
)


def _formatter(prog: str) -> argparse.HelpFormatter:
    # With a width given, argparse need not import shutil: it makes a formatter for each option that is declared.
    return argparse.HelpFormatter(prog, width=_width(), max_help_position=28)


def _width() -> int:
    given = os.environ.get("COLUMNS", "")
    try:
        columns = int(given) if given.isdecimal() else os.get_terminal_size(2).columns
    except (OSError, ValueError):
        return 100
    return max(40, min(columns, 120) - 2)


class Parser(argparse.ArgumentParser):
    """An argument parser that never exits by itself but for help."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_formatter, **kwargs)

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """Help is for people: stderr."""
        super().print_help(file or sys.stderr)

    def error(self, message: str) -> NoReturn:
        """UserError `usage`, exit status 2."""
        raise UserError("usage", f"{message}; see {self.prog} --help", exit_status=2)


def command_of(argv: list[str]) -> tuple[str | None, list[str]]:
    """The command, which is the first word that is no option nor an option's value, and all the rest."""
    at = 0
    while at < len(argv):
        word = argv[at]
        if not word.startswith("-"):
            return word, [*argv[:at], *argv[at + 1 :]]
        at += 2 if word in VALUED else 1
    return None, argv
