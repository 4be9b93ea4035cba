"""One session under several names: which of them goes on."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from nexusd import serving

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nexusd.clientdir import ClientDir
    from nexusd.config.checked import Checker
    from nexusd.config.records import SessionConfig


def within(checker: Checker, path: str, sessions: Iterable[SessionConfig], server: str | None) -> None:
    """Two tables of the main file with one server and id are that file's fault: a person wrote both."""
    for group in _by_identity(sessions, server):
        first, *others = (session.name for session in group)
        for other in others:
            checker.fault(path, f"{first} and {other} are the same session; remove one")


def settled(
    main: Mapping[str, SessionConfig],
    dropins: Mapping[str, SessionConfig],
    skipped: dict[str, str],
    folder: str,
    server: str | None,
    client_dir: ClientDir | None,
) -> dict[str, SessionConfig]:
    """The sessions that go on; for each of the others `skipped` gets why it does not.

    The one that is recorded as served goes on, so that a stray copy, whatever its name sorts, takes nobody's inbox
    away, also not while the file of the recorded one is broken. Where none is recorded: the main file's before those
    of `sessions.d`, then by name.
    """
    going_on = {**dropins, **main}
    for group in _by_identity(going_on.values(), server):
        recorded = _recorded(client_dir, group[0].id)
        first, *others = sorted(group, key=lambda s: (s.name != recorded, s.name not in main, s.name))
        same = f"it is the same session as {first.name}, which is served"
        if recorded in skipped and first.name != recorded and first.name not in main:
            others = group
            same = f"it is served under the name {recorded}, whose file is broken; mend that one"
        for other in others:
            del going_on[other.name]
            if other.name in main:
                skipped[other.name] = f"sessions.{other.name}: {same}; take that table out of the main file"
            else:
                path = os.path.join(folder, f"{other.name}.toml")
                skipped[other.name] = f"{path}: {same}; run: nexusd remove {other.name}"
    return going_on


def _recorded(client_dir: ClientDir | None, session: str) -> str | None:
    """The name under which a session was served last."""
    with contextlib.suppress(OSError):
        if client_dir is not None and (folder := serving.folder(client_dir, session)):
            return os.path.basename(folder)
    return None


def _by_identity(sessions: Iterable[SessionConfig], server: str | None) -> list[list[SessionConfig]]:
    groups: dict[tuple[str, str], list[SessionConfig]] = {}
    for session in sessions:
        if session.id:
            groups.setdefault((session.server or server or "", session.id), []).append(session)
    return list(groups.values())
