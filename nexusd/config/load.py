"""TOML files to a Config.

A fault of the main file is everybody's: all of them are told at once, and nothing is in force. A fault of a file in
`sessions.d` is that one session's: it is skipped and said, and the others go on.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from nexusd.clientdir import ClientDir
from nexusd.config import twice
from nexusd.config.checked import Checker, Place
from nexusd.config.concealed import Ids
from nexusd.config.keys import BY_NAME
from nexusd.config.place import config_file, sessions_folder
from nexusd.config.records import Config, SessionConfig, Settings
from nexusd.errors import ConfigError
from nexusd.local_fault import sentence
from nexusd.spool.layout import NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["config_file", "load"]


def load(named: str | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """The configuration in force; ConfigError lists every fault of the main file with table, key and what is right.

    Faults of files in `sessions.d` never raise: they are in `skipped`.
    """
    path = config_file(named, environ)
    checker = Checker()
    if bool(named or environ.get("NEXUSD_CONFIG")) and not os.path.exists(path):
        checker.fault(path, "there is no such file; make it, or leave the option out to use the defaults")
    table = checker.read(path) if _may_be_there(path) else {}
    sessions = table.pop("sessions", {})
    top = checker.values(Place(path), table)
    checker.check_server(Place(path), top["server"], top)
    client_dir = ClientDir(top["client_dir"]) if top["client_dir"] else None
    ids = Ids(client_dir)
    main = _tables(checker, path, sessions, top, ids)
    twice.within(checker, path, main.values(), top["server"])
    folder = sessions_folder(path)
    dropins, skipped = _files(folder, main, top, ids)
    if checker.faults:
        raise ConfigError([ids.concealed(fault) for fault in (*checker.faults, *skipped.values())])
    served = twice.settled(main, dropins, skipped, folder, top["server"], client_dir)
    daemon = {f.name for f in fields(Config)} & BY_NAME.keys()
    return Config(
        file=path if os.path.exists(path) else None,
        sessions_folder=folder,
        defaults=Settings.of(top),
        sessions=tuple(served[name] for name in sorted(served)),
        skipped={ids.concealed(name): ids.concealed(skipped[name]) for name in sorted(skipped)},
        **{name: top[name] for name in daemon},
    )


def _may_be_there(path: str) -> bool:
    """Whether there is such a file, or nobody can tell: what may not be looked at is no reason for the defaults."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _tables(
    checker: Checker, path: str, sessions: object, top: Mapping[str, Any], ids: Ids
) -> dict[str, SessionConfig]:
    """The sessions of the main file; their faults are the main file's."""
    found: dict[str, SessionConfig] = {}
    if not isinstance(sessions, dict):
        checker.fault(path, "sessions: must be tables, one for each session: [sessions.NAME]")
        return found
    ids.learn(sessions.values())
    for name, given in sessions.items():
        session = checker.session(Place(path, f"sessions.{name}"), name, given, top, ids)
        if session is not None:
            found[name] = session
    if any(isinstance(given, dict) and "id" in given for given in sessions.values()):
        checker.check_private(path)
    return found


def _files(
    folder: str, main: Mapping[str, SessionConfig], top: Mapping[str, Any], ids: Ids
) -> tuple[dict[str, SessionConfig], dict[str, str]]:
    """The sessions of `sessions.d`, and for every file that is no good what is wrong with it."""
    found: dict[str, SessionConfig] = {}
    skipped: dict[str, str] = {}
    try:
        entries = sorted(entry for entry in os.listdir(folder) if entry.endswith(".toml") and entry[0] != ".")
    except FileNotFoundError:
        return found, skipped
    except OSError as fault:
        return found, {os.path.basename(folder): f"none of its sessions is served: {sentence(fault, folder)}"}
    read = {}
    for entry in entries:
        checker = Checker()
        path = os.path.join(folder, entry)
        checker.check_private(path)
        read[entry] = (checker, checker.read(path))
    ids.learn(table for _, table in read.values())
    for entry, (checker, table) in read.items():
        name, path = entry.removesuffix(".toml"), os.path.join(folder, entry)
        session = None
        if not checker.faults:  # of a file that is no TOML, no key is missed as well
            session = checker.session(Place(path), name, table, top, ids)
        if name in main and session is not None and not checker.faults:
            checker.fault(path, f"{name} is a session of the main file already; run: rm {shlex.quote(path)}")
        if checker.faults:
            skipped[_key(entry, name, main)] = "; ".join(checker.faults) + _remedy(checker.faults, path, name)
        elif session is not None:
            found[name] = session
    return found, skipped


def _key(entry: str, name: str, main: Mapping[str, SessionConfig]) -> str:
    """What a skipped file is called: its session's name, unless that one is served by another table."""
    return entry if name in main else name


def _remedy(faults: list[str], path: str, name: str) -> str:
    """What mends it, where the fault itself does not say so."""
    if any("; run: " in fault for fault in faults):
        return ""
    if not NAME.fullmatch(name):
        return f"; or run: rm {shlex.quote(path)}"
    return f"; mend it, or run: nexusd remove {name}"
