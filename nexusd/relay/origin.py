"""Which address this relay is reached at, from what a client claims in its Host header."""

from __future__ import annotations

import re

_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


def origin(scheme: str, host: str | None, fallback: str) -> str:
    """Build `scheme://host` from a request's own words, or give `fallback` (the bound address) where they are odd.

    What passes is made of letters, digits, dots, hyphens, colons and brackets: it is safe in HTML, in Markdown and in
    a shell command.
    """
    if host is None or scheme not in ("http", "https") or not _HOST.fullmatch(host):
        return fallback
    return f"{scheme}://{host}"
