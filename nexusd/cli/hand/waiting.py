"""wait: until something unread is there. ask: send, then wait for the answer."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from nexusd.cli.hand import given, inboxes
from nexusd.cli.hand.desk import Desk
from nexusd.cli.hand.reading import unread, whole
from nexusd.cli.output import say
from nexusd.errors import UserError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterator

    from nexusd.cli.output import Verb
    from nexusd.spool.bookmark import Bookmark
    from nexusd.spool.reading import Inbox, Line

TIMED_OUT = 124
_LOOK, _LATER_LOOK, _LATER = 0.01, 0.025, 10.0  # seconds between two looks, at first and after 10 s


def wait_arguments(parser: ArgumentParser) -> None:
    """Declare what `wait` takes."""
    parser.add_argument("session", metavar="NAME")
    parser.add_argument("--from", dest="sender", metavar="AGENT", help="only messages of this agent")
    parser.add_argument("--timeout", metavar="D", help="give up after this time with exit status 124 (never)")
    parser.add_argument("--text", action="store_true", help="for reading, instead of JSON lines")
    inboxes.reader_argument(parser)


def wait(args: Namespace) -> Verb:
    """Show what is unread, as soon as there is something; only what is shown counts as read."""
    timeout = given.wait(args.timeout, "timeout")
    desk = Desk(args)
    session = desk.session(args.session)
    folder = inboxes.folder_of(desk, session)
    inbox, bookmark = inboxes.opened(folder), inboxes.bookmark(desk, folder, args.reader)
    _say_if_alone(desk, session)
    for _ in _looks(inbox, timeout):
        with bookmark.held():
            bookmark.fits(inbox.end())
            lines = [line for line in unread(inbox, bookmark) if _is_from(line, args.sender)]
            if lines:
                yield _shown(lines, text=args.text)
                if args.sender is None:
                    bookmark.consume(upto=lines[-1].seq)
                else:
                    bookmark.consume(line.seq for line in lines)
                return 0
    yield {"error": "timed_out", "message": f"nothing came within {timeout:g} s"}
    return TIMED_OUT


def ask_arguments(parser: ArgumentParser) -> None:
    """Declare what `ask` takes."""
    parser.add_argument("session", metavar="NAME")
    parser.add_argument("text", metavar="TEXT", nargs="+", help="the text; - reads it from stdin, @FILE from a file")
    parser.add_argument("--timeout", metavar="D", help="give up after this time with exit status 124 (never)")
    inboxes.reader_argument(parser)


def ask(args: Namespace) -> Verb:
    """Send through the daemon; show the receipt and the first message of another agent after it, in one document."""
    from nexusd.cli import stopping  # noqa: PLC0415 - `wait` sends nothing
    from nexusd.cli.hand import dropping  # noqa: PLC0415
    from nexusd.cli.hand.sending import PATIENCE  # noqa: PLC0415

    timeout = given.wait(args.timeout, "timeout")
    deadline = None if timeout is None else time.monotonic() + timeout
    text = given.text(args.text)
    if not text:
        raise UserError("nothing_to_send", "there is nothing to send: give a text")
    desk = Desk(args)
    session = desk.session(args.session)
    folder = inboxes.folder_of(desk, session)
    if not _is_served(desk, session):
        raise UserError("no_daemon", "no daemon serves this session now: start nexusd run, or use nexus send and poll")
    inbox, bookmark = inboxes.opened(folder), inboxes.bookmark(desk, folder, args.reader)
    before = inbox.last()
    own = desk.state.agent(session)
    found = None
    with stopping.Held() as held:  # until it is known what to say: nothing is printed in here, which might block
        outcome = dropping.deliver(held, folder, text, None, PATIENCE if timeout is None else timeout)
        if not outcome.status:
            if outcome.sentence:
                say(outcome.sentence)
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            found = _answer(inbox, before, _answers(outcome.shown, own), left, held.pause)
    if outcome.status:
        if outcome.sentence:
            say(outcome.sentence)
        yield outcome.shown
        return outcome.status  # never 124: whoever waits on must know that the question is out
    if found is not None:
        with bookmark.held():
            unread_left = _unread_messages(inbox, bookmark, own) - (not bookmark.has(found.seq))
            receipt = json.dumps(outcome.shown)
            yield f'{{"receipt":{receipt},"reply":{found.data.decode().strip()},"unread":{unread_left}}}'
            bookmark.consume([found.seq])
        _say_what_is_unread(unread_left)
        return 0
    with bookmark.held():
        unread_left = _unread_messages(inbox, bookmark, own)
    error, why = ("timed_out", "in time") if held.status is None else ("interrupted", f"before {held.name}")
    is_where = "the daemon has it" if outcome.shown.get("status") == "queued" else "it was sent"
    message = f"{is_where}, but no answer came {why}"
    say(f"nexus: {message}; wait on with: nexus wait NAME")
    _say_what_is_unread(unread_left)
    yield {"receipt": outcome.shown, "reply": None, "unread": unread_left, "error": error, "message": message}
    return held.status or TIMED_OUT


def _answer(
    inbox: Inbox,
    before: int,
    is_answer: Callable[[Line], bool],
    timeout: float | None,
    pause: Callable[[float], bool],
) -> Line | None:
    """The first answer behind line `before`, or None when the time is over or `pause` says that it is."""
    for _ in _looks(inbox, timeout, pause):
        found = next(filter(is_answer, inbox.after(before)), None)
        if found is not None:
            return found
    return None


def _unread_messages(inbox: Inbox, bookmark: Bookmark, own: str | None) -> int:
    return sum(_is_others(line, own) for line in unread(inbox, bookmark))


def _is_others(line: Line, own: str | None) -> bool:
    return line.value.get("kind") == "message" and line.value.get("agentId") not in (None, own)


def _say_what_is_unread(count: int) -> None:
    """It came before the question: perhaps it is what is being waited for."""
    if count:
        say(f"nexus: {count} unread message{'s' * (count != 1)} besides, from before; see: nexus read NAME")


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def _looks(inbox: Inbox, timeout: float | None, sleep: Callable[[float], bool] = _sleep) -> Iterator[None]:
    """One look now and one each time the inbox has grown, until the time is over or `sleep` says that it is."""
    begun = time.monotonic()
    seen = inbox.mark()
    yield
    while timeout is None or time.monotonic() - begun < timeout:
        pause = _LOOK if time.monotonic() - begun < _LATER else _LATER_LOOK
        if timeout is not None:
            pause = max(0.0, min(pause, timeout - (time.monotonic() - begun)))
        if sleep(pause):
            return
        mark = inbox.mark()
        if mark != seen:
            seen = mark
            yield


def _is_from(line: Line, sender: str | None) -> bool:
    return sender is None or (line.value.get("kind") == "message" and line.value.get("agentId") == sender)


def _answers(receipt: dict[str, Any], own: str | None) -> Callable[[Line], bool]:
    """Whether a line is an answer: another agent's message behind ours, by the cursor where both have one."""
    mine = str(receipt.get("cursor") or "")

    def is_answer(line: Line) -> bool:
        if not _is_others(line, own):
            return False
        theirs = str(line.value.get("cursor") or "")
        return not (mine.isdigit() and theirs.isdigit()) or int(theirs) > int(mine)

    return is_answer


def _shown(lines: list[Line], *, text: bool) -> bytes:
    if not text:
        return whole(lines)
    from nexusd.cli.hand import plain  # noqa: PLC0415 - JSON lines need none of it

    return plain.text(lines)


def _is_served(desk: Desk, session: str) -> bool:
    from nexusd.serving import is_served  # noqa: PLC0415

    return is_served(desk.state, session)


def _say_if_alone(desk: Desk, session: str) -> None:
    if not _is_served(desk, session):
        say("warning: no daemon serves this session now, so nothing can arrive; start it with: nexusd run")
