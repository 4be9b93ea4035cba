"""How a server's request limit is shared between sessions, worked out without asking anyone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nexusd.config.records import Settings

SENDING = 3  # while files wait to be sent, one request of three at least is a poll


@dataclass(frozen=True, slots=True)
class Share:
    """One server's sessions. Rates are requests a minute, times seconds; `limit` None: no limit."""

    limit: float | None
    wanted: float  # polls at rest
    wanted_active: float  # polls just after a message in every session
    intervals: dict[str, float]  # what comes of it for each session at rest
    within: float  # at rest every session is polled within that time
    at_worst: float  # the same while all are active and there is always something to send

    def shown(self) -> dict[str, Any]:
        """As `check` prints it."""
        return {
            "sessions": len(self.intervals),
            "requestsPerMinute": self.limit,
            "wanted": round(self.wanted, 1),
            "wantedActive": round(self.wanted_active, 1),
            "polledWithin": round(self.within, 1),
            "polledWithinAtWorst": round(self.at_worst, 1),
        }


def shared(sessions: Mapping[str, Settings], limit: float) -> Share:
    """What becomes of these sessions' intervals under a limit (requests a minute, 0: none).

    Where it is short, all intervals are stretched by one factor (nexusd.bridge.pace.worth).
    """
    wanted = sum(60.0 / settings.poll_interval for settings in sessions.values())
    active = sum(60.0 / settings.active_poll_interval for settings in sessions.values())
    stretch = max(1.0, wanted / limit) if limit else 1.0
    longest = max((settings.poll_interval for settings in sessions.values()), default=0.0)
    return Share(
        limit=limit or None,
        wanted=wanted,
        wanted_active=active,
        intervals={name: round(settings.poll_interval * stretch, 1) for name, settings in sessions.items()},
        within=longest * stretch,
        at_worst=longest * max(1.0, SENDING * active / limit) if limit else longest,
    )
