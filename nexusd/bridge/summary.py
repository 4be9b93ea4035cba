"""All sessions together, as `daemon.json`, systemd's status line and the metrics tell of them. No secret is in it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from nexusd.bridge.states import Status

if TYPE_CHECKING:
    from nexusd.bridge.supervisor import Supervisor


def line(supervisor: Supervisor) -> str:
    """One line: how many sessions, how many files wait, and how many sessions are not as they should be."""
    sessions = [runner.session for runner in supervisor.runners.values()]
    count = len(supervisor.lives)
    parts = [f"{count} session{'s' * (count != 1)}", f"{sum(s.unsent for s in sessions)} unsent"]
    statuses = Counter(life.status for life in supervisor.lives.values())
    parts += [f"{count} {status.value}" for status, count in sorted(statuses.items()) if status is not Status.ACTIVE]
    if supervisor.config.skipped:
        parts.append(f"{len(supervisor.config.skipped)} skipped")
    return ", ".join(parts)


def sessions(supervisor: Supervisor) -> dict[str, dict[str, Any]]:
    """By name: a session's state, what is wrong with it, and its last line's `seq`."""
    skipped = {
        name: {"state": "skipped", "lastError": supervisor.secrets.removed(why)}
        for name, why in supervisor.config.skipped.items()
    }
    return skipped | {
        name: {"state": life.status.value, "lastError": life.last_error, "lastSeq": life.last_seq}
        for name, life in supervisor.lives.items()
    }


def servers(supervisor: Supervisor) -> dict[str, dict[str, float | None]]:
    """By server: requests so far, the limit, how many may go at once, and seconds it is paused for."""
    told = {}
    for link in supervisor.links:
        left = link.budget.left
        told[link.server] = {
            "requests": link.budget.used,
            "perMinute": supervisor.config.requests_per_minute or None,
            "left": None if left is None else round(left, 1),
            "pausedFor": round(link.budget.paused_for, 1),
        }
    return told
