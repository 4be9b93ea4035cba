"""The list of all sessions in `nexusd top`. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from nexusd.cli.columns import columns, cut, fitted, plain
from nexusd.cli.service.top_cells import Row, Shown, ago, content, expires, sender
from nexusd.cli.service.troubles import span

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nexusd.cli.service.top_place import Place

_STATES = {"active": "good", "joining": "doubtful", "backoff": "doubtful", "evicted": "bad"}


def rows(shown: Shown, place: Place, width: int, room: int) -> list[Row]:
    """Two lines about the whole, a head, and at most `room` sessions."""
    sessions = shown.seen["sessions"]
    found = [_headline(shown, width), _second(shown, width)]
    table = _columns_that_fit(sessions, width)
    if not sessions:
        return [*found, Row(""), Row("no sessions yet: nexusd add NAME --create, or --code LINK")]
    found.append(Row(" " + " ".join(fitted(c.title, c.width, right=c.right) for c in table), "head"))
    for session in sessions[place.first : place.first + room]:
        marked = session["session"] == place.marked
        cells = " ".join(fitted(plain(c.cell(shown, session)), c.width, right=c.right) for c in table)
        text = (">" if marked else " ") + cells
        style = "mark" if marked else _STATES.get(session["state"], "bad")
        found.append(Row(fitted(text, width) if marked else text.rstrip(), style))
    return found


def _headline(shown: Shown, width: int) -> Row:
    daemon, sessions = shown.seen["daemon"], shown.seen["sessions"]
    if not daemon["running"]:
        return Row("nexusd is NOT RUNNING; start it: nexusd run", "bad")
    how = "STUCK" if daemon["stuck"] else f"up {span(shown.age(daemon['since']) or 0)}"
    unsent, failed = (sum(session[what] for session in sessions) for what in ("unsent", "failed"))
    active = sum(session["state"] == "active" for session in sessions)
    parts = (
        f"nexusd {how}",
        f"{active} of {len(sessions)} active",
        f"{unsent} unsent, {failed} failed",
        f"pid {daemon['pid']}",
    )
    text = parts[0]
    for part in parts[1:]:
        if columns(text) + 3 + len(part) <= width:
            text += f" | {part}"
    return Row(text, "bad" if daemon["stuck"] else "head")


def _second(shown: Shown, width: int) -> Row:
    """The first trouble; else what goes to the servers."""
    others = [trouble for trouble in shown.troubles if not trouble.startswith("nexusd is not running")]
    if others and not int(shown.now) // 4 % 2:
        more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
        return Row(cut(plain(others[0]), max(1, width - len(more))) + more, "doubtful")
    budgets = []
    for server, budget in (shown.seen["servers"] or {}).items():
        rate = shown.rate.get(server)
        paused = budget.get("pausedFor") or 0
        said = "-" if rate is None else f"{rate:.0f}"
        wait = f", paused for {span(paused)}" if paused else ""
        budgets.append(f"{plain(server).partition('://')[2]} {said}/min{wait}")
    return Row("requests: " + ", ".join(budgets) if budgets else shown.seen["root"], "soft")


class _Column(NamedTuple):
    title: str
    width: int
    right: bool
    cell: Callable[[Shown, Mapping[str, Any]], object]


def _columns_that_fit(sessions: Sequence[Mapping[str, Any]], width: int) -> list[_Column]:
    """Name and state always; of the others what there is room for, the most telling first."""
    longest = max([7, *(len(str(session["session"])) for session in sessions)])
    name = min(longest, max(7, (width - 10) if width < 40 else width // 4))
    table = [_Column("SESSION", name, False, _name), _Column("STATE", 7, False, _state)]
    used = 1 + name + 1 + 7
    optional = (
        _Column("EXPIRES", 7, True, lambda _, s: expires(s)),
        _Column("UNSENT", 6, True, lambda _, s: s["unsent"] or ""),
        _Column("FAIL", 4, True, lambda _, s: s["failed"] or ""),
        _Column("IN", 6, True, lambda shown, s: shown.last.get(s["session"], {}).get("seq", "")),
        _Column("OUT", 6, True, lambda _, s: s.get("sent", "")),
    )
    for column in optional:
        if used + 1 + column.width <= width:
            table.append(column)
            used += 1 + column.width
    if width - used > 12:
        table.append(_Column("LAST MESSAGE", width - used - 1, False, _last))
    return table


def _name(_: Shown, session: Mapping[str, Any]) -> object:
    return session["session"]


def _state(_: Shown, session: Mapping[str, Any]) -> object:
    return session["state"]


def _last(shown: Shown, session: Mapping[str, Any]) -> object:
    line = shown.last.get(session["session"])
    if line is None:
        return ""
    return f"{ago(shown, line)} {sender(line)}: {content(line)[:400]}"
