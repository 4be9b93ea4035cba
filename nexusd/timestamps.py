"""Times as the protocol writes them: ISO 8601, UTC, with milliseconds and a `Z`."""

from __future__ import annotations

import time
from datetime import UTC, datetime

LONGEST = 100 * 365 * 86_400.0  # seconds; a time farther away than this from now is no time that anybody meant


def stamp(at: float | None = None) -> str:
    """A time (Unix seconds, default now) as text. ValueError, OverflowError or OSError beyond the calendar."""
    moment = datetime.now(UTC) if at is None else datetime.fromtimestamp(at, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def stamp_if_known(at: float | None) -> str | None:
    """The same for a time that a server or a file names: None where it is not known, or more than 100 years away."""
    return None if known(at) is None else stamp(at)


def known(at: float | None) -> float | None:
    """A time (Unix seconds) within 100 years of now, or None: calendars and timers overflow beyond."""
    return at if at is not None and abs(at - time.time()) < LONGEST else None


def timestamp(value: object) -> float | None:
    """A text's time in Unix seconds, in any form of ISO 8601 that names its zone; None for anything else.

    A time more than 100 years away from now is None too.
    """
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        return known(moment.timestamp()) if moment is not None and moment.tzinfo is not None else None
    except (ValueError, OverflowError, OSError):
        return None
