"""Our own words for what a library says in words that quote what we gave it: headers and paths hold secrets.

Redaction knows a secret as it was given; an exception may show it escaped, cut or in pieces: none of it is passed on.
"""

from __future__ import annotations

MALFORMED = (
    "the request cannot be written as HTTP: the session's key, our agent id or the server's address holds a "
    "character that may not be in it; look at the session's local record"
)
BROKEN = "the connection was closed before the answer was whole, or what answered does not speak HTTP"
