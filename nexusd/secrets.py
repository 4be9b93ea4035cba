"""What must never be seen: session ids, session keys and pairing codes."""

from __future__ import annotations

import json
import re
import string
import urllib.parse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SHORTEST = 6  # characters; less would tear holes into ordinary words
_SMALL = {ord(letter): letter.lower() for letter in string.ascii_uppercase}  # a server may write them its own way
_RUN = re.compile(r"[A-Za-z0-9._~-]{16,}")  # what no form of escaping changes; long enough to be no ordinary word


class Secrets:
    """The secrets of this process; asked by the log and before anything is sent.

    They are kept by how they begin, so that the time a text takes does not grow with the number of sessions.
    """

    def __init__(self) -> None:
        self._values: dict[str, list[str]] = {}

    def add(self, *values: str | None) -> None:
        """Know these from now on, also escaped: inside a URL, a JSON text or what a library's error quotes."""
        for value in values:
            if value and len(value) >= SHORTEST:
                for form in {form.translate(_SMALL) for form in _forms(value)}:
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
        behind, text = 0, text.translate(_SMALL)
        for at in range(len(text) - SHORTEST + 1):
            if at >= behind and (alike := self._values.get(text[at : at + SHORTEST])):
                found = next((value for value in alike if text.startswith(value, at)), None)
                if found is not None:
                    behind = at + len(found)
                    yield at, behind


def _forms(value: str) -> set[str]:
    """The value as it may stand in a text: as it is, quoted for a URL, escaped by JSON or by Python.

    Escapes can be escaped again, and a message can quote a part: a long plain run inside the value is one by itself.
    """
    data = value.encode(errors="surrogatepass")
    forms = {
        value,
        urllib.parse.quote(data, safe=""),
        urllib.parse.quote(data, safe="/"),
        urllib.parse.quote_plus(data),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
        repr(data)[2:-1],
        *_RUN.findall(value),
    }
    return {form for form in forms if len(form) >= SHORTEST}
