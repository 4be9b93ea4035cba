"""One session in `nexusd top`: how it is, and its last lines. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexusd.cli.columns import plain, wrapped
from nexusd.cli.service.top_cells import Row, Shown, ago, content, expires, sender
from nexusd.cli.service.troubles import span

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nexusd.cli.service.top_place import Place

_LONGEST = 8  # rows that one message gets


def rows(shown: Shown, place: Place, width: int, height: int) -> list[Row]:
    """What is known of it, then as many rows of its last lines as there is room for."""
    session = next(s for s in shown.seen["sessions"] if s["session"] == place.opened)
    head = [*_head(shown, session)[: max(1, height - 6)], Row("-" * width, "soft")]
    found = _messages(shown, width)
    here = max(1, height - len(head))
    below = min(place.below, max(0, len(found) - here))
    messages = found[max(0, len(found) - here - below) : len(found) - below]
    return [*head, *(messages or [Row("nothing has come yet", "soft")])]


def furthest(shown: Shown, width: int) -> int:
    """How many rows one can go up."""
    return max(0, len(_messages(shown, width)) - 1)


def _head(shown: Shown, session: Mapping[str, Any]) -> list[Row]:
    head = [
        Row(f"{plain(session['session'])}: {plain(session['state'])}, expires in {expires(session)}", "head"),
        Row(f"we are {plain(session.get('agentId') or '?')} on {plain(session.get('server') or '?')}"),
        Row(f"members: {', '.join(_member(shown, m) for m in session.get('members') or []) or 'not known'}"),
        Row(f"unsent {session['unsent']}, failed {session['failed']}; {plain(session['folder'])}"),
    ]
    if error := session.get("lastError"):
        head.append(Row(f"trouble: {plain(error)}", "doubtful"))
    return head


def _messages(shown: Shown, width: int) -> list[Row]:
    found: list[Row] = []
    for line in shown.lines:
        style = "doubtful" if line.get("kind") == "notice" else "soft" if line.get("kind") == "system" else ""
        mark = "" if line.get("verified") is True or line.get("kind") != "message" else " (not verified)"
        found.append(Row(f"{line.get('seq')}  {sender(line)}{mark}, {ago(shown, line)} ago", "head"))
        indent = "  " if width > 40 else ""
        text = wrapped(content(line), max(1, width - len(indent)), _LONGEST)
        found += [Row(indent + part, style) for part in text]
    return found


def _member(shown: Shown, member: Any) -> str:
    if not isinstance(member, dict):
        return plain(member)
    seen = shown.age(member.get("lastSeenAt"))
    return plain(member.get("agentId")) + ("" if seen is None else f" ({span(max(0.0, seen))} ago)")
