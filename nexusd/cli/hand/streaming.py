"""Commands that keep polling: poll-daemon for a time, heartbeat until stopped; poll-status says which run."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from nexusd.cli.hand import given, polling
from nexusd.cli.hand.desk import Desk
from nexusd.cli.output import say
from nexusd.errors import Fate, RequestError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from nexusd.cli.output import Verb

_BRIEF = 1.0  # seconds; the shortest pause between two polls that an interval may ask for


def poll_daemon_arguments(parser: ArgumentParser) -> None:
    """Declare what `poll-daemon` takes."""
    parser.add_argument("session", metavar="SESSION")
    parser.add_argument("--interval", metavar="D", default="30", help="pause between polls (30s)")
    parser.add_argument("--ttl", metavar="D", default="3600", help="stop after this time (1h)")


def poll_daemon(args: Namespace) -> Verb:
    """Poll for a time; each message is a JSON line."""
    interval, ttl = given.wait(args.interval, "interval") or 0.0, given.wait(args.ttl, "ttl") or 0.0
    if sys.stdin is not None and sys.stdin.isatty() and not _agreed(interval, ttl):
        say("nothing was polled")
        return 0
    return (yield from _stream(args, interval, ttl))


def heartbeat_arguments(parser: ArgumentParser) -> None:
    """Declare what `heartbeat` takes."""
    parser.add_argument("session", metavar="SESSION")
    parser.add_argument("--interval", metavar="D", default="60", help="pause between polls (60s)")


def heartbeat(args: Namespace) -> Verb:
    """Poll until stopped; each message is a JSON line. It does not keep the session alive: `nexus renew` does."""
    return (yield from _stream(args, given.wait(args.interval, "interval") or 0.0, None))


def poll_status_arguments(parser: ArgumentParser) -> None:
    """`poll-status` takes nothing of its own."""


def poll_status(args: Namespace) -> Verb:
    """Which processes of this account poll, and when each session's cursor last moved."""
    desk = Desk(args)
    sessions = []
    for session in desk.state.sessions():
        try:
            moved = os.stat(os.path.join(desk.state.path, "sessions", session, "cursor")).st_mtime
        except FileNotFoundError:
            continue
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moved))
        sessions.append({"sessionId": session, "alias": desk.label(session), "lastMessageAt": at})
    running = _running()
    yield {"processes": running, "sessions": sessions}
    say(f"{len(running)} polling command(s) running" if running else "no polling command is running")
    return 0


def _stream(args: Namespace, interval: float, ttl: float | None) -> Verb:
    desk = Desk(args)
    session = desk.session(args.session)
    agent, server = desk.agent(session), desk.server(session)
    end = None if ttl is None else time.monotonic() + ttl
    pause = max(interval, _BRIEF)
    signal.signal(signal.SIGTERM, _stop)
    say(f"polling every {pause:g} s; Ctrl-C stops it")
    try:
        while True:
            wait = pause
            try:
                saved = desk.state.cursor(session)
                found = polling.fetch(desk, server, session, agent, after=saved)
            except RequestError as fault:
                if fault.fate in (Fate.REFUSED, Fate.GONE):
                    raise
                wait = max(pause, fault.retry_after or 0.0)
                say(f"warning: {fault}; trying again in {wait:g} s")
            else:
                for message in found.messages:
                    yield _shown(message)
                if found.cursor is not None and found.cursor != saved:
                    desk.state.save(session, cursor=found.cursor)
                desk.adopt(session, server)
            if end is not None and (left := end - time.monotonic()) <= wait:
                time.sleep(max(0.0, left))
                say("its time is over; stopped")
                return 0
            time.sleep(wait)
    except KeyboardInterrupt:
        say("stopped")
        return 0


def _shown(message: Any) -> dict[str, Any] | str:
    return message if isinstance(message, dict | str) else {"raw": str(message)}


def _agreed(interval: float, ttl: float) -> bool:
    say(f"Poll every {interval:g} s for the next {ttl:g} s? (y/n)")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _stop(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _running() -> list[dict[str, Any]]:
    """Polling commands of this account, by process; their arguments hold session ids and are not shown."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else ()):
        try:
            if os.stat(f"/proc/{pid}").st_uid != os.geteuid() or int(pid) == os.getpid():
                continue
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read(8192).decode(errors="replace").split("\0")
        except OSError:
            continue
        command = next((w for w in words if w in ("poll-daemon", "heartbeat")), None)
        if command and any("nexus" in os.path.basename(w) for w in words[:4]):
            found.append({"pid": int(pid), "command": command})
    return found
