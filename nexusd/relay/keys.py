"""Session keys: what proves that a message is an agent's own."""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

KEY_BYTES = 32


def issue(entropy: Callable[[int], bytes]) -> tuple[str, bytes]:
    """Make a key (64 hex characters, for the agent alone) and its digest (to be kept). `entropy(n)` gives n bytes."""
    key = entropy(KEY_BYTES).hex()
    return key, _digest(key)


def opens(digest: bytes, key: str) -> bool:
    """Tell whether `key` is the one that `digest` was kept of, in a time that says nothing about either."""
    return hmac.compare_digest(digest, _digest(key))


def _digest(key: str) -> bytes:
    # The key has 256 random bits: one round of a plain hash is enough.
    return sha256(key.encode("utf-8", "surrogatepass")).digest()
