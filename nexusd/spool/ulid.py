"""Names that sort by time and never meet (github.com/ulid/spec)."""

from __future__ import annotations

import os
import time

_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def ulid() -> str:
    """26 characters: 48 bits of Unix milliseconds, 80 of chance."""
    number = (time.time_ns() // 1_000_000 << 80) | int.from_bytes(os.urandom(10))
    return "".join(_DIGITS[number >> shift & 31] for shift in range(125, -1, -5))


def is_ulid(name: str) -> bool:
    """Whether the name is one."""
    return len(name) == 26 and set(name) <= set(_DIGITS)


def born(name: str) -> float:
    """The time in a ulid (Unix seconds); ValueError."""
    number = 0
    for digit in name[:10]:
        number = number << 5 | _DIGITS.index(digit)
    return number / 1000
