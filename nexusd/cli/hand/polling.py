"""poll: fetch what is new, show it, and only then move on."""

from __future__ import annotations

import json
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

from nexusd.cli.hand.desk import Desk
from nexusd.cli.output import say
from nexusd.errors import UserError
from nexusd.wire import calls

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from nexusd.cli.output import Verb
    from nexusd.wire.batch import Message
    from nexusd.wire.fate import Answer


class Polled(NamedTuple):
    """A poll's answer. `cursor`: where the next poll goes on, None where nothing new came."""

    text: str
    messages: list[Any]
    members: list[Any] | None
    cursor: str | None


def poll_arguments(parser: ArgumentParser) -> None:
    """Declare what `poll` takes."""
    parser.add_argument("session", metavar="SESSION")
    parser.add_argument(
        "--after", metavar="CURSOR", help="look back: from there on, 0 from the beginning; moves nothing"
    )
    parser.add_argument("--members", action="store_true", help="also who is in the session")


def poll(args: Namespace) -> Verb:
    """Fetch new messages; the cursor moves once they are printed."""
    after = checked_cursor(args.after)
    desk = Desk(args)
    session = desk.session(args.session)
    agent, server = desk.agent(session), desk.server(session)
    saved = desk.state.cursor(session)
    # To the server `after=0` means: without the greeting. To a person it means from the beginning.
    begin = saved if after is None else after if int(after) else None
    found = fetch(desk, server, session, agent, after=begin, members=args.members)
    yield found.text
    if after is None and found.cursor is not None and found.cursor != saved:
        desk.state.save(session, cursor=found.cursor)
    desk.adopt(session, server)
    _say_what_came(found, desk.label(session) if found.messages else None)
    return 0


def fetch(desk: Desk, server: str, session: str, agent: str, *, after: str | None, members: bool = False) -> Polled:
    """One poll; without `after` from the very first message, greeting included."""
    from nexusd.wire.direct import LARGE  # noqa: PLC0415

    call = calls.poll(session, agent, after=after, members=members)
    return read(call, desk.direct(server).ask(call, limit=LARGE))


def read(call: calls.Call, answer: Answer) -> Polled:
    """A poll's answer, read; one message that cannot be decoded hides no other."""
    text = answer.body.decode(errors="replace")
    try:
        raw = {} if answer.cut else json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        return _odd(call, answer)
    if not isinstance(raw, dict) or answer.cut:
        return _odd(call, answer)
    messages, members = raw.get("messages"), raw.get("members")
    messages = messages if isinstance(messages, list) else []
    cursors = [m.get("cursor") if isinstance(m, dict) else None for m in messages]
    return Polled(text, messages, members if isinstance(members, list) else None, _next(cursors, raw.get("nextCursor")))


def checked_cursor(cursor: str | None) -> str | None:
    """A cursor as the protocol knows it: digits."""
    if cursor is not None and not calls.CURSOR.fullmatch(cursor):
        raise UserError("bad_after", f"--after takes a cursor, which is a number, not {cursor[:40]!r}")
    return cursor


def _odd(call: calls.Call, answer: Answer) -> Polled:
    """An answer that is cut, or with a message that cannot be decoded: taken apart without decoding it."""
    from nexusd.wire import batch  # noqa: PLC0415

    found = batch.read(call, answer)
    texts = [_object(message) for message in found.messages]
    cursors: list[object] = [message.cursor for message in found.messages]
    cursor = _next(cursors, None if found.cut else found.next_cursor)
    text = f'{{"messages":[{",".join(texts)}],"nextCursor":{json.dumps(cursor)}}}'
    return Polled(text, list(texts), found.members, cursor)


def _object(message: Message) -> str:
    if message.raw is None:
        return "{" + ",".join(f"{json.dumps(name)}:{value.decode()}" for name, value in message.fields.items()) + "}"
    cursor = None if message.cursor is None else str(message.cursor)
    return json.dumps({"id": message.id, "cursor": cursor, "raw": message.raw.decode(errors="replace")})


def _refuse(name: str) -> None:
    raise ValueError(name)


def _finite(digits: str) -> float | str:
    """A number; one beyond any float stays the digits, for Infinity is not JSON."""
    value = float(digits)
    return value if isfinite(value) else digits


def _next(cursors: list[object], said: object) -> str | None:
    """Where to go on: behind the highest cursor seen. `nextCursor` counts only with messages, and only forward.

    Without any it may be the old cursor, "0" or absent (protocol, What bites 3): then we stay where we are.
    """
    from nexusd.wire.records import cursor_number  # noqa: PLC0415

    numbers = [number for number in map(cursor_number, cursors) if number is not None]
    highest = max(numbers, default=None)
    after = cursor_number(said)
    if not cursors or (highest is None and after is None):
        return None
    return str(max(highest or 0, after or 0))


def _say_what_came(found: Polled, label: str | None) -> None:
    if found.messages:
        say(f"{len(found.messages)} message(s); answer with: nexus send {label or 'SESSION'} TEXT")
    structured = sum(isinstance(m, dict) and "json" in m for m in found.messages)
    if structured:
        say(f"{structured} of them with a JSON payload")
    for member in found.members or ():
        if isinstance(member, dict):
            say(f"member: {member.get('agentId')} (last seen: {member.get('lastSeenAt')})")
