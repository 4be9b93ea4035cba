"""What the files say of a daemon and its sessions. Nobody is asked: it works while the daemon hangs or is gone."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shlex
import time
import tomllib
from datetime import datetime
from typing import TYPE_CHECKING, Any

from nexusd.cli.service import counted
from nexusd.clientdir import ClientDir
from nexusd.config.keys import BY_NAME
from nexusd.config.load import config_file, load
from nexusd.errors import ConfigError, UserError
from nexusd.local_fault import said
from nexusd.root import has_sessions, recognise, second_report
from nexusd.serving import is_root_served
from nexusd.spool import atomic, layout, rootlock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nexusd.config.records import Config

SILENT = 90.0  # seconds without a report, which is made every 30, until a daemon counts as stuck
_ROOT_LINE = re.compile(r"""^\s*root\s*=\s*(["'])(?P<root>.+?)\1""", re.MULTILINE)


def overview(named: str | None) -> dict[str, Any]:
    """All there is to know, a broken configuration included; times as the protocol writes them, ages in seconds."""
    config, faults, root = _configuration(named)
    daemon, report = _daemon(root, config)
    place = _place(root, config) or (report.get("root") if daemon["running"] and not daemon["stuck"] else None)
    if daemon["running"]:
        faults = faults or [str(fault) for fault in report.get("rejected") or []]
    reported = report.get("sessions") if daemon["running"] and not daemon["stuck"] else None
    reported = reported if isinstance(reported, dict) else {}
    # With a rejected configuration, the daemon knows best what is in force.
    names = _names(None if faults and reported else config, report, root)
    return {
        "daemon": daemon,
        "config": {"file": config_file(named), "inForce": report.get("config"), "rejected": faults},
        "root": root,
        "rootError": place,
        "away": away(config) if config is not None and place is None and not faults else None,
        "servers": report.get("servers") if daemon["running"] else {},
        "sessions": [_session(root, name, reported.get(name), report.get("at"), place) for name in names],
        "unserved": list(_unserved(root, names)) if config is not None and place is None else [],
    }


def away(config: Config) -> str | None:
    """What is said where no session is configured, not even a folder for their files is there, and some were served."""
    folder = config.sessions_folder
    if config.sessions or config.skipped or os.path.lexists(folder) or not has_sessions(config.root):
        return None
    return (
        f"{folder} is not there, and {config.root} holds sessions that were served: none of them is now; "
        f"bring it back, or, if they are done with: mkdir -p -m 700 {shlex.quote(folder)}"
    )


def age(written: object) -> float | None:
    """Seconds since a time that was written down; None where there is none."""
    try:
        return time.time() - datetime.fromisoformat(str(written)).timestamp()
    except ValueError:
        return None


def _configuration(named: str | None) -> tuple[Config | None, list[str], str]:
    """The configuration, or what is wrong with it; and the root either way."""
    try:
        config = load(named)
    except ConfigError as fault:
        return None, fault.faults, _root_of(config_file(named))
    return config, [], config.root


def _root_of(path: str) -> str:
    """The root that a broken configuration means: what it says itself, if that much of it can be read."""
    data = b""
    with contextlib.suppress(OSError):
        data = atomic.read_small(path) or b""
    text = data.decode(errors="replace")
    try:
        given = tomllib.loads(text).get("root")
    except tomllib.TOMLDecodeError:
        line = _ROOT_LINE.search(text)
        given = line["root"] if line else None
    key = BY_NAME["root"]
    with contextlib.suppress(ValueError):
        if given is not None:
            return str(key.parse(given, os.path.dirname(path)))
    return str(key.parse(key.default, "/"))


def _place(root: str, config: Config | None) -> str | None:
    """Why nothing can be served from the root, whoever runs: seen here too, for the daemon cannot write it there."""
    try:
        if config is not None:
            recognise(root, config.client_dir)
        read_only = os.path.isdir(root) and os.statvfs(root).f_flag & os.ST_RDONLY
    except (OSError, UserError) as fault:
        return said(fault, root)
    return said(OSError(errno.EROFS, ""), root) if read_only else None


def _daemon(root: str, config: Config | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Whether a daemon runs and how it is, and its last report: below the root, or beside it where it cannot write."""
    report = read(layout.report_file(root))
    pid = rootlock.holder(root)
    if config is not None:
        second = read(second_report(root, config.client_dir))
        report = max(report, second, key=lambda one: str(one.get("at") or ""))
        if not pid and _is_served(root, config):  # it runs, and holds no lock that says who it is
            known = report.get("pid")
            pid = known if isinstance(known, int) and os.path.exists(f"/proc/{known}") else 0
    silent = None if pid is None else _silence(root, report, pid)
    halted = bool(pid) and _halted(pid or 0)
    return {
        "running": pid is not None,
        "stuck": halted or (silent is not None and silent > SILENT),
        "halted": halted,
        "pid": pid or None,
        "version": report.get("version"),
        "since": report.get("since"),
        "reportedAt": report.get("at"),
        "silentFor": None if silent is None else round(silent, 1),
        "says": report.get("status"),
    }, report


def _is_served(root: str, config: Config) -> bool:
    try:
        return is_root_served(ClientDir(config.client_dir), root)
    except OSError:
        return False


def _silence(root: str, report: dict[str, Any], pid: int) -> float:
    """Seconds since the daemon's last sign of life: its report, or its start where it has made none yet."""
    begun = 0.0
    with contextlib.suppress(OSError):
        begun = os.stat(layout.lock_file(root)).st_mtime
    reported = age(report.get("at")) if report.get("pid") == pid else None
    return max(0.0, time.time() - begun if reported is None else reported)


def _halted(pid: int) -> bool:
    """Whether the process has been stopped by a signal (SIGSTOP, a debugger)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[:1] in ([b"T"], [b"t"])
    except OSError:
        return False


def _names(config: Config | None, report: dict[str, Any], root: str) -> list[str]:
    """The sessions' names: the configuration's, else what the daemon said last, else whatever has a folder."""
    if config is not None:
        return sorted([*(session.name for session in config.sessions), *config.skipped])
    known = report.get("sessions")
    if isinstance(known, dict):
        return sorted(map(str, known))
    try:
        folders = os.listdir(root)
    except OSError:
        return []
    return sorted(name for name in folders if os.path.isdir(layout.SessionFolder(root, name).sending))


def _session(root: str, name: str, reported: object, report_at: object, place: str | None) -> dict[str, Any]:
    """One session: what the daemon or `session.json` said last, and what is really in its folders."""
    folder = layout.SessionFolder(root, name)
    view = read(folder.view)
    told = reported if isinstance(reported, dict) and _is_older(folder.view, report_at) else {}
    state, error = told.get("state") or view.get("state") or "unknown", told.get("lastError", view.get("lastError"))
    if place is not None:
        state, error = "blocked", place
    unsent, failed = counted.unsent(folder), counted.failed(folder)
    expires_in = age(view.get("expiresAt"))
    return {
        **view,
        "session": name,
        "state": state,
        "lastError": error,
        "folder": folder.path,
        "expiresIn": None if expires_in is None else round(-expires_in),
        "unsent": len(unsent),
        "oldestUnsent": counted.oldest(unsent),
        "failed": len(failed),
        "oldestFailed": counted.oldest(failed),
        "newestFailed": round(time.time() - max(failed)) if failed else None,
    }


def _unserved(root: str, names: list[str]) -> Iterator[dict[str, Any]]:
    """The folders below the root in which files wait, and which no session has: nobody sends those."""
    with contextlib.suppress(OSError):
        for name in sorted(set(os.listdir(root)) - set(names)):
            folder = layout.SessionFolder(root, name)
            if os.path.isdir(folder.own) and (waiting := counted.unsent(folder)):
                yield {"folder": folder.path, "unsent": len(waiting), "oldestUnsent": counted.oldest(waiting)}


def _is_older(path: str, report_at: object) -> bool:
    """Whether a file is older than the daemon's report, or not there."""
    reported, written = age(report_at), None
    with contextlib.suppress(OSError):
        written = time.time() - os.stat(path).st_mtime
    return written is None or reported is None or written > reported


def read(path: str) -> dict[str, Any]:
    """A JSON object from a file, or an empty one: such files are views, made anew anyway."""
    try:
        value = json.loads(atomic.read_small(path) or b"{}")
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
