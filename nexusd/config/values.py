"""Durations and sizes as people write them: "500ms", "30s", "7d"; "256KiB", "64MiB"; or a plain number."""

from __future__ import annotations

import math
import re

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
}
_WRITTEN = re.compile(r"([0-9]+(?:\.[0-9]+)?)[ ]?([A-Za-z]*)")
LONGEST = 100 * 365 * 86400.0  # seconds; beyond it clocks and timers overflow


def duration(value: str | float) -> float:
    """Seconds, from "500ms", "30s", "5m", "2h", "7d" or a number of seconds; ValueError says what would be right."""
    seconds = _number(value, _SECONDS, "s", 'a duration like "500ms", "30s", "5m" or "7d", or a number of seconds')
    if seconds > LONGEST:
        raise ValueError('a duration of at most 100 years, like "7d"')
    return seconds


def size(value: str | int) -> int:
    """Bytes, from "256KiB", "64MiB" or a whole number of bytes; ValueError says what would be right."""
    wanted = 'a size like "256KiB" or "64MiB", or a whole number of bytes'
    amount = _number(value, _BYTES, "B", wanted)
    if amount != int(amount) or amount >= 1 << 63:
        raise ValueError(wanted)
    return int(amount)


def _number(value: object, units: dict[str, float] | dict[str, int], plain: str, wanted: str) -> float:
    if isinstance(value, bool):
        raise ValueError(wanted)  # noqa: TRY004 - the value is wrong, not the caller
    if isinstance(value, int | float):
        if not 0 <= value < math.inf:  # NaN is not either
            raise ValueError(wanted)
        return value
    match = _WRITTEN.fullmatch(value.strip()) if isinstance(value, str) and len(value) <= 40 else None
    unit = units.get(match[2] or plain) if match else None
    if match is None or unit is None:
        raise ValueError(wanted)
    number = float(match[1]) if "." in match[1] else int(match[1])
    return number * unit
