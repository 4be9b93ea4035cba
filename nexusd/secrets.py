"""What must never be seen: session ids, session keys and pairing codes."""

from __future__ import annotations

import urllib.parse

SHORTEST = 6  # characters; less would tear holes into ordinary words


class Secrets:
    """The secrets of this process; asked by the log and before anything is sent."""

    def __init__(self) -> None:
        self._values: dict[str, None] = {}

    def add(self, *values: str | None) -> None:
        """Know these from now on, also as they look inside a URL."""
        for value in values:
            if value and len(value) >= SHORTEST:
                self._values[value] = None
                self._values[urllib.parse.quote(value, safe="")] = None
        self._values = dict.fromkeys(sorted(self._values, key=len, reverse=True))  # of two that begin alike, the longer

    def inside(self, text: str) -> bool:
        """Whether the text holds one of them."""
        return any(value in text for value in self._values)

    def removed(self, text: str) -> str:
        """The text without them."""
        for value in self._values:
            if value in text:
                text = text.replace(value, "[secret]")
        return text
