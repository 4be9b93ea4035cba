"""read: unread lines of an inbox, each once for each reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexusd.cli.hand import given, inboxes
from nexusd.cli.hand.desk import Desk
from nexusd.cli.output import say

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterable, Iterator

    from nexusd.cli.output import Verb
    from nexusd.spool.bookmark import Bookmark
    from nexusd.spool.reading import Inbox, Line

BATCH = 1 << 20  # bytes that are printed before the bookmark moves


def read_arguments(parser: ArgumentParser) -> None:
    """Declare what `read` takes."""
    parser.add_argument("session", metavar="NAME")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--all", action="store_true", help="from the first line; the bookmark stays")
    where.add_argument("--since", metavar="SEQ", help="lines after this number; the bookmark stays")
    parser.add_argument("--peek", action="store_true", help="do not move the bookmark")
    parser.add_argument("--limit", metavar="N", help="at most N lines")
    parser.add_argument("--max-bytes", metavar="N", help="at most N bytes, whole lines only")
    parser.add_argument("--text", action="store_true", help="for reading, instead of JSON lines")
    inboxes.reader_argument(parser)


def read(args: Namespace) -> Verb:
    """Show unread lines; the bookmark moves once they are printed."""
    since, limit = given.number(args.since, "since"), given.number(args.limit, "limit")
    room = given.amount(args.max_bytes, "max-bytes")
    desk = Desk(args)
    session = desk.session(args.session)
    folder = inboxes.folder_of(desk, session)
    inbox, shown = inboxes.opened(folder), _shown(args)
    if args.all or since is not None:
        cut = _Cut(inbox.after(since or 0), limit, room)
        for batch in batches(cut):
            yield shown(batch)
    else:
        bookmark = inboxes.bookmark(desk, folder, args.reader)
        with bookmark.held():
            bookmark.fits(inbox.end())
            cut = _Cut(unread(inbox, bookmark), limit, room)
            for batch in batches(cut):
                yield shown(batch)
                if not args.peek:
                    bookmark.consume(upto=batch[-1].seq)
    _say_what_is_left(cut, inbox, desk.label(session) or "NAME")
    return 0


def unread(inbox: Inbox, bookmark: Bookmark) -> Iterator[Line]:
    """The lines that a reader has not consumed."""
    return (line for line in inbox.after(bookmark.seq) if not bookmark.has(line.seq))


def batches(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """Lines in handfuls of about a megabyte."""
    batch: list[Line] = []
    size = 0
    for line in lines:
        batch.append(line)
        size += len(line.data)
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def whole(lines: list[Line]) -> bytes:
    """Lines as they are in the inbox."""
    return b"".join(line.data for line in lines)


class _Cut:
    """At most so many lines and bytes of a reading, whole lines only. `next`: the first line that was held back."""

    def __init__(self, lines: Iterator[Line], limit: int | None, room: int | None) -> None:
        self._lines, self._limit, self._room = lines, limit, room
        self.next: Line | None = None

    def __iter__(self) -> Iterator[Line]:
        count = size = 0
        for line in self._lines:
            count, size = count + 1, size + len(line.data)
            if (self._limit is not None and count > self._limit) or (self._room is not None and size > self._room):
                self.next = line
                return
            yield line


def _say_what_is_left(cut: _Cut, inbox: Inbox, name: str) -> None:
    if cut.next is not None:
        left = max(1, inbox.last() - cut.next.seq + 1)
        say(f"{left} more line(s) are left, the next of {len(cut.next.data)} bytes; go on with: nexus read {name}")


def _shown(args: Namespace) -> Callable[[list[Line]], bytes]:
    if not args.text:
        return whole
    from nexusd.cli.hand import plain  # noqa: PLC0415 - JSON lines need none of it

    return plain.text
