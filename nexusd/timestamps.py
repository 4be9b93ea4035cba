"""Times as the protocol writes them: ISO 8601, UTC, with milliseconds and a `Z`."""

from __future__ import annotations

from datetime import UTC, datetime


def stamp(at: float | None = None) -> str:
    """A time (Unix seconds, default now) as text."""
    moment = datetime.now(UTC) if at is None else datetime.fromtimestamp(at, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def timestamp(value: object) -> float | None:
    """A text's time in Unix seconds, in any form of ISO 8601 that names its zone; None for anything else."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment.timestamp() if moment is not None and moment.tzinfo is not None else None
