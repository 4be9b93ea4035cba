"""Looking at the files for `nexusd top`: nobody is asked, so it works while the daemon hangs or is gone."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

from nexusd.cli.service.overview import age, overview
from nexusd.cli.service.top_cells import Shown
from nexusd.cli.service.troubles import troubles
from nexusd.spool import layout
from nexusd.spool.reading import Inbox

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nexusd.cli.service.top_place import Place

NEWEST = 200  # lines of an opened session
RATED = 60.0  # seconds over which requests are counted


class Eyes:
    """One look after the other; what has not changed is not read again."""

    def __init__(self, config: str | None) -> None:
        self._config = config
        self._seen: dict[str, Any] = {}
        self._troubles: list[str] = []
        self._tails: dict[tuple[str, int], tuple[tuple[int, int], list[dict[str, Any]]]] = {}
        self._sent: dict[str, tuple[int, int]] = {}
        self._requests: dict[str, list[tuple[float, int]]] = {}
        self.names: list[str] = []

    def look(self) -> None:
        """Look at everything. OSError where the disk does not answer."""
        self._seen = overview(self._config)
        self._seen["sessions"].sort(key=lambda session: session["session"])
        self._troubles = troubles(self._seen)
        self.names = [session["session"] for session in self._seen["sessions"]]
        for server, budget in (self._seen["servers"] or {}).items():
            counted = self._requests.setdefault(server, [])
            if not counted or counted[-1][1] != budget.get("requests"):
                counted.append((time.monotonic(), int(budget.get("requests") or 0)))
            while len(counted) > 2 and counted[-1][0] - counted[0][0] > RATED:
                counted.pop(0)

    def shown(self, place: Place, room: int) -> Shown:
        """All that is to be drawn at a place."""
        sessions = self._seen["sessions"]
        last: dict[str, Mapping[str, Any]] = {}
        for session in sessions[place.first : place.first + room]:
            lines = self._tail(session["folder"], 1)
            if lines:
                last[session["session"]] = lines[-1]
            session["sent"] = self._count_sent(session["folder"])
            session["expiresIn"] = _left(session)
        lines = []
        for session in sessions:
            if session["session"] == place.opened:
                lines = self._tail(session["folder"], NEWEST)
                session["expiresIn"] = _left(session)
        rate = {server: _rate(counted) for server, counted in self._requests.items()}
        return Shown(self._seen, last, lines, self._troubles, rate, time.time(), age)

    def _tail(self, folder: str, count: int) -> list[dict[str, Any]]:
        inbox = Inbox(folder)
        mark = inbox.mark()
        known = self._tails.get((folder, count))
        if known is not None and known[0] == mark:
            return known[1]
        lines: list[dict[str, Any]] = []
        with contextlib.suppress(OSError):
            lines = [line.value for line in inbox.newest(count)]
        if len(self._tails) > 1000:
            self._tails.clear()
        self._tails[folder, count] = (mark, lines)
        return lines

    def _count_sent(self, folder: str) -> int:
        path = os.path.join(folder, "sent")
        try:
            mark = os.stat(path).st_mtime_ns
            known = self._sent.get(path)
            if known is None or known[0] != mark:
                count = sum(1 for name in os.listdir(path) if not name.endswith(layout.RECEIPT))
                known = self._sent[path] = (mark, count)
        except OSError:
            return 0
        return known[1]


def _left(session: Mapping[str, Any]) -> int | None:
    passed = age(session.get("expiresAt"))
    return None if passed is None else round(-passed)


def _rate(counted: Sequence[tuple[float, int]]) -> float | None:
    """Requests a minute, of the last minute or so; None until it can be told."""
    if len(counted) < 2 or counted[-1][0] - counted[0][0] < 1:
        return None
    return max(0.0, (counted[-1][1] - counted[0][1]) * 60 / (counted[-1][0] - counted[0][0]))
