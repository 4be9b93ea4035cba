"""When a session is asked next: decided without a clock of its own.

Conversations come in bursts. The longer nothing was heard, the less likely is something the next moment, so the
interval grows in proportion to the silence, from `active_poll_interval` to `poll_interval`.
"""

from __future__ import annotations

SHARE = 0.25  # of the silence so far


def interval(silence: float, quick: float, rest: float) -> float:
    """Seconds between polls after `silence` seconds without a message either way."""
    return min(rest, max(quick, silence * SHARE))


def worth(waited: float, wanted: float) -> float:
    """What a poll is worth when the budget is short: how long it has not been asked, by how soon it wanted to be.

    It grows without bound, so each gets its turn: at worst all intervals are stretched by one factor, the requests that
    all of them want over those that the budget has.
    """
    return waited / wanted
