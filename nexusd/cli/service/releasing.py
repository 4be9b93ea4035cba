"""release: a file goes back from `failed/` into the queue."""

from __future__ import annotations

import contextlib
import difflib
import errno
import itertools
import os
import re
from typing import TYPE_CHECKING

from nexusd.cli.output import say
from nexusd.cli.service.overview import read
from nexusd.cli.service.running import config_argument
from nexusd.clientdir import ClientDir
from nexusd.config.concealed import Ids
from nexusd.config.load import load
from nexusd.errors import UserError
from nexusd.spool import atomic, released
from nexusd.spool.layout import ERROR, NAME, SessionFolder, is_unfinished
from nexusd.spool.outbox import refuse
from nexusd.spool.released import Word

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from nexusd.cli.output import Verb
    from nexusd.config.records import Config

HELD = "held_secret"  # what a person's word overrules
_NUMBERED = re.compile(r"(?P<name>.+\.json)\.[0-9]+", re.DOTALL)


def release_arguments(parser: ArgumentParser) -> None:
    """Declare what `release` takes."""
    parser.add_argument("name", metavar="NAME", help="the session's name")
    parser.add_argument("file", metavar="FILE", help="the file's name in failed/")
    config_argument(parser)


def release(args: Namespace) -> Verb:
    """Put a failed file back into the outbox; never over another one."""
    config = load(args.config)
    folder = _folder(config, args.name)
    failed = os.path.join(folder.failed, args.file)
    _check(folder, args.file)
    error = read(failed + ERROR)
    reason = str(error.get("error") or "unknown")
    doubtful = reason == "ambiguous" or "may have arrived" in str(error.get("message"))
    name = _released(folder, failed, args.file, Word(doubtful=doubtful) if doubtful or reason == HELD else None)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(failed + ERROR)
    atomic.fsync_folder(folder.failed)
    yield {"session": args.name, "file": args.file, "released": name, "was": reason}
    say(f"{args.file} is in the outbox again" + ("" if name == args.file else f", as {name}"))
    if doubtful:
        say("warning: it may have arrived before; then the other side gets it twice")
    state = read(folder.view).get("state")
    if args.name not in [session.name for session in config.sessions]:
        say(f"but {args.name} is not configured, so nobody will send it: nexusd add {args.name} ...")
    elif state in ("expired", "left", "stopped"):
        say(f"but the session's last state was {state}; see nexusd status {args.name}")
    return 0


def _folder(config: Config, name: str) -> SessionFolder:
    folder = SessionFolder(config.root, name)
    if not NAME.fullmatch(name) or not os.path.isdir(folder.failed):
        known = [session.name for session in config.sessions]
        if name in known:
            raise UserError(
                "no_folder", f"the folder of {name} is not there: {folder.path}; see nexusd status {name} for why"
            )
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "nexusd status shows what there is"
        shown = Ids(ClientDir(config.client_dir)).concealed(name)[:80]
        raise UserError("unknown_session", f"no session is called {shown!r} in {config.root}; {hint}")
    return folder


def _check(folder: SessionFolder, file: str) -> None:
    """UserError for what is not there, or would only come back."""
    if "/" in file or file in ("", ".", "..") or file.endswith(ERROR):
        raise UserError("usage", f"give the name of a file in {folder.failed}, nothing else", exit_status=2)
    try:
        status = os.lstat(os.path.join(folder.failed, file))
    except FileNotFoundError:
        there = [name for name in os.listdir(folder.failed) if not name.endswith(ERROR)]
        near = difflib.get_close_matches(file, there, n=3, cutoff=0.5)
        known = f"did you mean {' or '.join(near)}?" if near else f"{len(there)} files are there"
        raise UserError("no_such_file", f"there is no {file[:200]!r} in {folder.failed}; {known}") from None
    refusal = refuse(file, status)
    if refusal is not None:
        raise UserError(refusal.code, f"{file} would be refused again: {refusal}; {refusal.remedy}")
    if is_unfinished(file):
        raise UserError("unfinished_name", f"{file} has a name that is left alone in an outbox; rename it there")


def _released(folder: SessionFolder, failed: str, file: str, word: Word | None) -> str:
    """Move it under the first free name; the name.

    A link and an unlink, because a rename would overwrite. A file that has both names for a moment is not taken yet,
    and one that keeps them because we die in between goes to `failed/` again: it is never sent twice.
    """
    atomic.private_folder(folder.outbox)
    for name in _names(file):
        target = os.path.join(folder.outbox, name)
        if os.path.lexists(target):
            continue  # before anything is said of it: what was said of that file stays
        if word is not None:
            released.say(folder, name, word)
        try:
            _move(failed, target)
        except FileExistsError:
            if word is not None:
                released.forget(folder, name)
            continue
        atomic.fsync_folder(folder.outbox)
        return name
    raise AssertionError("unreachable")


def _move(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as fault:
        if fault.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS):
            raise
        if os.path.lexists(target):  # a file system without hard links
            raise FileExistsError(target) from None
        os.rename(source, target)
    else:
        os.unlink(source)


def _names(file: str) -> Iterator[str]:
    """Its name, then others that are sent in the same way: what it is, its ending says.

    `x.json.1` was `x.json`, and stepped aside for a later one.
    """
    numbered = _NUMBERED.fullmatch(file)
    name = numbered["name"] if numbered else file
    yield name
    ending = next((e for e in (".msg.json", ".json") if name.endswith(e)), os.path.splitext(name)[1])
    stem = name.removesuffix(ending)
    for number in itertools.count(2):
        yield f"{stem}-{number}{ending}"
