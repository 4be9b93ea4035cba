"""What must never be seen: session ids, session keys and pairing codes."""

from __future__ import annotations

import urllib.parse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SHORTEST = 6  # characters; less would tear holes into ordinary words


class Secrets:
    """The secrets of this process; asked by the log and before anything is sent.

    They are kept by how they begin, so that the time a text takes does not grow with the number of sessions.
    """

    def __init__(self) -> None:
        self._values: dict[str, list[str]] = {}

    def add(self, *values: str | None) -> None:
        """Know these from now on, also as they look inside a URL."""
        for value in values:
            if value and len(value) >= SHORTEST:
                for form in (value, urllib.parse.quote(value, safe="")):
                    alike = self._values.setdefault(form[:SHORTEST], [])
                    if form not in alike:
                        alike.append(form)
                        alike.sort(key=len, reverse=True)  # of two that begin alike, the longer

    def inside(self, text: str) -> bool:
        """Whether the text holds one of them."""
        return next(self._places(text), None) is not None

    def removed(self, text: str) -> str:
        """The text without them."""
        kept, behind = [], 0
        for start, end in self._places(text):
            kept.append(text[behind:start])
            behind = end
        return "[secret]".join([*kept, text[behind:]])

    def _places(self, text: str) -> Iterator[tuple[int, int]]:
        behind = 0
        for at in range(len(text) - SHORTEST + 1):
            if at >= behind and (alike := self._values.get(text[at : at + SHORTEST])):
                found = next((value for value in alike if text.startswith(value, at)), None)
                if found is not None:
                    behind = at + len(found)
                    yield at, behind
