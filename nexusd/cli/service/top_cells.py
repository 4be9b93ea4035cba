"""What the views of `nexusd top` are made of: rows, and how things are said in them. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from nexusd.cli.columns import plain
from nexusd.cli.service.troubles import span

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_SHOWN = 8000  # characters of a message that are looked at
_COLOURS = {"good": "32", "doubtful": "33", "bad": "31", "soft": "2", "head": "1", "mark": "7", "": ""}


class Row(NamedTuple):
    """One row: its text, already no wider than the terminal, and how it is meant."""

    text: str
    style: str = ""


class Shown(NamedTuple):
    """All that is drawn: an overview, the last line of each inbox, the lines of the opened one, requests a minute."""

    seen: Mapping[str, Any]
    last: Mapping[str, Mapping[str, Any]]
    lines: Sequence[Mapping[str, Any]]
    troubles: Sequence[str]
    rate: Mapping[str, float | None]
    now: float
    age: Callable[[object], float | None]


def painted(row: Row, *, colour: bool) -> str:
    """The row for the terminal. What is marked is in reverse video, which is no colour."""
    code = _COLOURS[row.style] if colour or row.style == "mark" else ""
    return f"\x1b[{code}m{row.text}\x1b[0m" if code and row.text else row.text


def expires(session: Mapping[str, Any]) -> str:
    """The time that it has left."""
    left = session["expiresIn"]
    if left is None:
        return "-"
    return (
        "over"
        if left <= 0
        else f"{left // 3600}h{left // 60 % 60:02}m"
        if left >= 6000
        else f"{left // 60}:{left % 60:02}"
    )


def sender(line: Mapping[str, Any]) -> str:
    """Whose line it is."""
    if line.get("kind") == "notice":
        return f"notice {plain(line.get('notice'))}"
    return plain(line.get("agentId") or line.get("kind") or "?")[:128]


def content(line: Mapping[str, Any]) -> str:
    """What it says, on one line."""
    parts = [line[name] for name in ("text", "raw") if isinstance(line.get(name), str)]
    if "json" in line:
        try:
            parts.append(json.dumps(line["json"], ensure_ascii=False))
        except RecursionError:
            parts.append("(JSON, nested deeply)")
    return plain(" ".join(parts)[:_SHOWN])


def ago(shown: Shown, line: Mapping[str, Any]) -> str:
    """How long ago it came."""
    seconds = shown.age(line.get("receivedAt"))
    return "?" if seconds is None else span(max(0.0, seconds))
