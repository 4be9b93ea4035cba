"""Session ids that may have got into a name or a sentence: a table can be named by one, a parser can quote it."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

from nexusd.clientdir import is_session_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nexusd.clientdir import ClientDir

SECRET = "[secret]"  # noqa: S105 - what stands in a secret's place
_LOOKS_LIKE_ONE = re.compile(r"[0-9A-Fa-f]{48,}")  # as servers make them today


class Ids:
    """The ids known on this account, and those that the configuration itself names."""

    def __init__(self, client_dir: ClientDir | None) -> None:
        self._known: set[str] = set()
        if client_dir is not None:
            with contextlib.suppress(OSError):
                self._known.update(client_dir.sessions())

    def learn(self, tables: Iterable[Any]) -> None:
        """Know the ids of these sessions' tables too."""
        for table in tables:
            value = table.get("id") if isinstance(table, dict) else None
            if isinstance(value, str) and is_session_id(value):
                self._known.add(value)

    def add(self, *ids: str) -> None:
        """Know these too."""
        self._known.update(ids)

    def within(self, name: str) -> bool:
        """Whether a name is or contains one. Names are lower case, so case does not count."""
        lower = name.lower()
        return bool(_LOOKS_LIKE_ONE.search(name)) or any(known.lower() in lower for known in self._known)

    def concealed(self, text: str) -> str:
        """The text without them, printable."""
        for known in sorted(self._known, key=len, reverse=True):
            text = re.sub(re.escape(known), SECRET, text, flags=re.IGNORECASE)
        text = _LOOKS_LIKE_ONE.sub(SECRET, text)
        return "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in text)
