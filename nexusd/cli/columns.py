"""Text cut to columns of a terminal. Nothing in it, whoever wrote it, can be anything but letters."""

from __future__ import annotations

import unicodedata

from nexusd import jsontext


def plain(text: object) -> str:
    """A word or a text of somebody's, on one line: control, bidirectional and invisible characters are escapes."""
    return jsontext.escaped(str(text).replace("\n", " ").replace("\t", " "))


def columns(text: str) -> int:
    """How many columns it takes, wide characters counted twice and those that lie over another not at all."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def cut(text: str, width: int) -> str:
    """At most so many columns of it, with `~` at its end where something is missing."""
    if len(text) <= width and columns(text) <= width:
        return text
    kept = []
    used = 0
    for char in text:
        used += _columns(char)
        if used > width - 1:
            break
        kept.append(char)
    return ("".join(kept) + "~") if width > 0 else ""


def fitted(text: str, width: int, *, right: bool = False) -> str:
    """Exactly so many columns of it."""
    shown = cut(text, width)
    room = " " * (width - columns(shown))
    return room + shown if right else shown + room


def wrapped(text: str, width: int, most: int) -> list[str]:
    """Its lines of at most `width` columns, at most so many of them; broken between words where that is near."""
    lines: list[str] = []
    line = ""
    for char in text:
        if columns(line) + _columns(char) <= width:
            line += char
            continue
        if len(lines) == most - 1:
            return [*lines, cut(line + "~~", width)]
        space = line.rfind(" ")
        kept = line[: space + 1] if space > width // 2 and char != " " else line
        lines.append(kept.rstrip(" "))
        line = (line[len(kept) :] + char).lstrip(" ")
    return [*lines, line]


def _columns(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1
