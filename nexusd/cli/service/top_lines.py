"""What `nexusd top` shows, as lines for a terminal of a given size. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexusd.cli.columns import cut
from nexusd.cli.service import top_list, top_opened
from nexusd.cli.service.top_cells import Row

if TYPE_CHECKING:
    from nexusd.cli.service.top_cells import Shown
    from nexusd.cli.service.top_place import Place

_AROUND = 4  # rows that the list of sessions does not get: two lines above it, its head, and the keys below


def room(height: int) -> int:
    """How many sessions fit."""
    return max(1, height - _AROUND)


def rows(shown: Shown, place: Place, width: int, height: int) -> list[Row]:
    """Exactly `height` rows, none wider than `width` columns."""
    if place.opened is None:
        body = top_list.rows(shown, place, width, room(height))
        keys = "q quit  Enter open  j/k move"
    else:
        body = top_opened.rows(shown, place, width, height - 1)
        keys = "q quit  b back  j/k scroll"
    body = [Row(cut(row.text, width), row.style) for row in body[: max(0, height - 1)]]
    body += [Row("")] * (height - 1 - len(body))
    return [*body, Row(cut(keys, width), "soft")][:height]
