"""status: how the daemon and its sessions are, from files alone."""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from nexusd.cli.output import safe, say
from nexusd.cli.service.overview import age, overview
from nexusd.cli.service.running import config_argument
from nexusd.cli.service.troubles import span, troubles
from nexusd.config.concealed import Ids
from nexusd.errors import UserError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from nexusd.cli.output import Verb

EVERY = 1.0  # seconds between two looks of --watch
_HOME, _CLEAR_LINE, _CLEAR_REST = b"\x1b[H", b"\x1b[K", b"\x1b[J"
_COLUMNS = ("SESSION", "STATE", "EXPIRES", "POLLED", "MESSAGE", "UNSENT", "FAILED")


def status_arguments(parser: ArgumentParser) -> None:
    """Declare what `status` takes."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="one session only")
    parser.add_argument("--watch", action="store_true", help="go on: a table on a terminal, else a JSON line a change")
    config_argument(parser)
    parser.epilog = (
        "Exit status 0 when all is well; 1 when something needs a person: the daemon is not running or stuck, its "
        "configuration was rejected, a session is skipped, blocked, expired, evicted, left, stopped or soon to expire, "
        "a server was not reached or a file not sent for ten minutes, a file waits where no session is, or one came to "
        "failed/ within a day."
    )


def status(args: Namespace) -> Verb:
    """Say how it goes; exit status 0 when all is well."""
    seen = _look(args)
    if args.watch:
        yield from _watched(args)
    yield seen
    for line in _table(seen) if sys.stderr.isatty() else ():
        say(line)
    for trouble in seen["troubles"]:
        say(f"nexusd: {trouble}")
    return 0 if seen["ok"] else 1


def _look(args: Namespace) -> dict[str, Any]:
    seen = overview(args.config)
    if args.name is not None:
        names = [session["session"] for session in seen["sessions"]]
        if args.name not in names:
            near = difflib.get_close_matches(args.name, names, n=3, cutoff=0.5)
            known = f"did you mean {' or '.join(near)}?" if near else "see nexusd status for what there is"
            shown = Ids(None).concealed(args.name)[:80]
            raise UserError("unknown_session", f"no session is called {shown!r}; {known}", exit_status=2)
        seen["sessions"] = [session for session in seen["sessions"] if session["session"] == args.name]
        seen["unserved"] = []
    seen["troubles"] = troubles(seen)
    return {"ok": not seen["troubles"], **seen}


def _watched(args: Namespace) -> Verb:
    """Look again and again, until interrupted."""
    terminal = sys.stdout.isatty()
    last = None
    while True:
        with contextlib.suppress(UserError):  # the session was removed: what was seen last stays
            seen = _look(args)
        if terminal:
            yield _frame([*_table(seen), "", *seen["troubles"]])
        elif (steady := _without_ages(seen)) != last:
            last = steady
            yield seen
        time.sleep(EVERY)


def _frame(lines: list[str]) -> bytes:
    """One picture over the last one, cut to the terminal."""
    size = os.get_terminal_size(sys.stdout.fileno())
    columns, rows = size.columns or 80, size.lines or 24  # some say that they have none
    if len(lines) >= rows:
        lines = [*lines[: rows - 2], f"... and {len(lines) - rows + 2} lines more"]
    shown = b"".join(safe(line)[:columns].encode(errors="replace") + _CLEAR_LINE + b"\n" for line in lines)
    return _HOME + shown + _CLEAR_REST


def _without_ages(seen: dict[str, Any]) -> dict[str, Any]:
    """What changes only when something happens, and not because time passes."""
    ages = {"expiresIn", "oldestUnsent", "oldestFailed", "newestFailed", "silentFor", "reportedAt", "troubles"}

    def steady(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: steady(inner) for name, inner in value.items() if name not in ages}
        return [steady(inner) for inner in value] if isinstance(value, list) else value

    found: dict[str, Any] = steady(seen)
    return found


def _table(seen: dict[str, Any]) -> list[str]:
    daemon = seen["daemon"]
    how = "not running" if not daemon["running"] else "stuck" if daemon["stuck"] else f"since {daemon['since']}"
    rows = [_COLUMNS, *(_row(session) for session in seen["sessions"])]
    widths = [max(len(row[n]) for row in rows) for n in range(len(_COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    pid = f", pid {daemon['pid']}" if daemon["pid"] else ""
    return [f"nexusd on {seen['root']}: {how}{pid}", "", *lines]


def _row(session: dict[str, Any]) -> tuple[str, ...]:
    def ago(seconds: float | None) -> str:
        return "-" if seconds is None else span(max(0.0, seconds))

    waiting, failed = session["oldestUnsent"], session["oldestFailed"]
    return (
        session["session"],
        session["state"],
        ago(session["expiresIn"]),
        ago(age(session.get("lastPollAt"))),
        ago(age(session.get("lastMessageAt"))),
        f"{session['unsent']} ({span(waiting)})" if waiting is not None else "0",
        f"{session['failed']} ({span(failed)})" if failed is not None else "0",
    )
