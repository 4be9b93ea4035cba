"""remove: a session is served no longer; with --leave it is also left."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import time
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from nexusd.cli.output import say
from nexusd.cli.service.overview import read
from nexusd.cli.service.running import config_argument
from nexusd.clientdir import ClientDir
from nexusd.config.concealed import Ids
from nexusd.config.load import config_file, load
from nexusd.config.names import Names
from nexusd.errors import ConfigError, UserError
from nexusd.serving import is_served
from nexusd.spool import atomic
from nexusd.spool.layout import NAME, SessionFolder

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from nexusd.cli.output import Shown, Verb
    from nexusd.config.records import Config, SessionConfig

PATIENCE = 10.0  # seconds for the daemon to let go: it notices at once, and requests under way get 3 s


def remove_arguments(parser: ArgumentParser) -> None:
    """Declare what `remove` takes."""
    parser.add_argument("name", metavar="NAME", help="the session's name")
    parser.add_argument("--leave", action="store_true", help="also leave it on the server, and forget its secrets")
    config_argument(parser)


def remove(args: Namespace) -> Verb:
    """Take a session out of the configuration; its folder with all messages stays."""
    file = os.path.join(os.path.dirname(config_file(args.config)), "sessions.d", f"{args.name}.toml")
    try:
        config = load(args.config)
    except ConfigError:
        # A broken file of one session must not keep it from being removed; for leaving, its id is needed.
        if args.leave or not NAME.fullmatch(args.name) or not os.path.lexists(file):
            raise
        _unlink(file)
        yield {"session": args.name, "removed": True, "left": False}
        say(f"{file} is removed; the configuration had faults: see nexusd check")
        return 0
    state = ClientDir(config.client_dir, warn=say)
    if args.name in config.skipped and os.path.lexists(file):
        return (yield from _skipped(args, config, state, file))
    session = _found(config, args.name, file)
    folder = SessionFolder(config.root, args.name)
    _unlink(file)
    _forget_alias(state, args.name, session.id)
    waiting = read(folder.view).get("unsent")
    if not args.leave:
        yield {"session": args.name, "removed": True, "left": False, "folder": folder.path, "unsent": waiting}
        say(f"{args.name} is served no longer; its folder with all messages stays: {folder.path}")
        if waiting:
            say(f"files in it that are not sent yet: {waiting}; they go out when it is served again")
        if state.agent(session.id) is None:
            say("you are not in it: it was left before, or never entered from here")
            return 0
        say(f"you are still in it; nexus leave {args.name} leaves it")
        say(f"to have it served again: nexusd add {args.name} --alias {args.name}")
        return 0
    _wait_until_free(state, session)
    status, refused = _left(config, session, state)
    yield {"session": args.name, "removed": True, "left": status == 0, "folder": folder.path, **refused}
    if status:
        say(f"{args.name} is served no longer, but not left; to try again: nexus leave {args.name}")
    else:
        say(f"its folder with all messages stays: {folder.path}")
    return status


def _skipped(args: Namespace, config: Config, state: ClientDir, file: str) -> Verb:
    """Remove a file that is not served: a broken one, or a copy of one that is served and must not be left."""
    if args.leave:
        raise UserError(
            "not_served",
            f"{args.name} is not served, so it cannot be left under this name: {config.skipped[args.name]}; "
            f"remove it without --leave, then leave the session by its own name: nexus leave",
        )
    session = None
    with contextlib.suppress(UserError):
        session = Names(args.config).id_of(args.name)
    _unlink(file)
    if session is not None:
        _forget_alias(state, args.name, session)
    yield {"session": args.name, "removed": True, "left": False}
    say(f"{file} is removed; it was not served: {config.skipped[args.name]}")
    return 0


def _forget_alias(state: ClientDir, name: str, session: str) -> None:
    """Take away the alias that `add` set, if it means this session: the name is free for another one."""
    try:
        if state.aliases().get(name) == session:
            state.set_alias(name, None)
    except OSError as fault:
        say(f"warning: the alias {name} stays ({state.path}: {fault.strerror}); later run: nexus unalias {name}")


def _found(config: Config, name: str, file: str) -> SessionConfig:
    """The session, if it is ours to remove: one in a person's own file is shown to that person."""
    session = next((s for s in config.sessions if s.name == name), None)
    if session is None and name in config.skipped:
        raise UserError("in_config", f"{name} is written in {config.file}, which is yours: {config.skipped[name]}")
    if session is None:
        near = difflib.get_close_matches(name, [s.name for s in config.sessions], n=3, cutoff=0.5)
        known = f"did you mean {' or '.join(near)}?" if near else "nexusd status shows what there is"
        shown = Ids(ClientDir(config.client_dir)).concealed(name)[:80]
        raise UserError("unknown_session", f"no session is called {shown!r}; {known}")
    if not os.path.lexists(file):
        where = _lines(config.file or "", name)
        raise UserError("in_config", f"{name} is written in {config.file}, which is yours: delete {where} there")
    return session


def _lines(path: str, name: str) -> str:
    """Where the session's table stands in a person's file."""
    header = re.compile(rf"""\s*\[\s*sessions\s*\.\s*(["']?){re.escape(name)}\1\s*\]""")
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    first = next((n for n, line in enumerate(lines, 1) if header.match(line)), None)
    if first is None:
        return f"what belongs to sessions.{name}"
    following = (n for n, line in enumerate(lines[first:], first + 1) if line.lstrip().startswith("["))
    last = next(following, len(lines) + 1) - 1
    while last > first and not lines[last - 1].strip():
        last -= 1
    return f"lines {first} to {last}, [sessions.{name}]," if last > first else f"line {first}, [sessions.{name}],"


def _unlink(file: str) -> None:
    os.unlink(file)
    atomic.fsync_folder(os.path.dirname(file))


def _wait_until_free(state: ClientDir, session: SessionConfig) -> None:
    """Wait for the daemon to let go: else it would poll while we leave, and take us for evicted."""
    end = time.monotonic() + PATIENCE
    while is_served(state, session.id):
        if time.monotonic() > end:
            raise UserError(
                "still_served",
                f"{session.name} is taken out of the configuration, but the daemon has not let go of it within "
                f"{PATIENCE:.0f} s; see nexusd status, then run: nexus leave {session.name}",
            )
        time.sleep(0.05)


def _left(config: Config, session: SessionConfig, state: ClientDir) -> tuple[int, dict[str, Any]]:
    """Leave as `nexus leave` does, which also says how it went: the exit status, and the error if there was one."""
    from nexusd.cli.hand.leaving import leave  # noqa: PLC0415 - only with --leave

    if state.agent(session.id) is None:
        say("this session was never joined from here; what is kept of it is forgotten")
        state.forget(session.id)
        return 0, {}
    os.environ["NEXUS_CLIENT_DIR"] = config.client_dir
    if config.allow_insecure:
        os.environ["NEXUS_ALLOW_INSECURE"] = "1"
    url = None if state.server(session.id) else session.server or config.server
    verb = leave(Namespace(session=session.id, url=url, agent_id=None))
    answer: Shown = {}
    try:
        while True:
            answer = next(verb)
    except StopIteration as end:
        status = int(end.value or 0)
    except UserError as fault:
        say(f"nexusd: {fault}")
        return 1, {"error": fault.code, "message": str(fault)}
    if not status or not isinstance(answer, dict):
        return status, {}
    # The server's own words; only these two, and without the id that an answer may hold.
    told = [(name, answer.get(name)) for name in ("error", "message")]
    return status, {name: str(words).replace(session.id, "[secret]") for name, words in told if words}
