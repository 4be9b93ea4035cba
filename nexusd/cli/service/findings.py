"""What `nexusd doctor` finds, one by one: how good it is, what it is about, and the command that mends it."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

Level = Literal["ok", "warn", "bad"]


class Finding(NamedTuple):
    """One thing looked at. `remedy` is a command where one mends it, else what to do in words."""

    level: Level
    what: str
    finding: str
    remedy: str | None = None

    def shown(self) -> dict[str, Any]:
        """As it is printed."""
        return self._asdict()


def ok(what: str, finding: str) -> Finding:
    """As it should be."""
    return Finding("ok", what, finding)


def warn(what: str, finding: str, remedy: str) -> Finding:
    """It works, but not as well or not for ever."""
    return Finding("warn", what, finding, remedy)


def bad(what: str, finding: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding("bad", what, finding, remedy)
