"""Pairing codes: a few words that let one agent into one session once, for ten minutes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from nexusd.relay.refusal import Refusal
from nexusd.relay.words import WORDS

if TYPE_CHECKING:
    from collections.abc import Callable

LIFETIME = 600.0
"""Seconds that a code can be claimed in."""
REMEMBERED = 3600.0
"""Seconds that a code is known for in all, so that whoever comes late hears why."""
ALPHABET = "34679ACDEFGHJKMNPQRTVWXY"
"""No 0 O, 1 I L, 2 Z, 5 S, 8 B, U: nothing that is misread or misheard for another."""
TAIL = 5

State = Literal["pending", "claimed", "expired"]


@dataclass(slots=True)
class Offer:
    """A code, and the session it opens; None once it was claimed. Times are seconds since the epoch."""

    code: str
    session_id: str | None
    expires_at: float


class PairingBook:
    """All codes of a relay, in memory only. `entropy(n)` gives n unguessable bytes."""

    def __init__(self, clock: Callable[[], float], entropy: Callable[[int], bytes]) -> None:
        self._clock = clock
        self._entropy = entropy
        self._offers: dict[str, Offer] = {}

    def offer(self, session_id: str) -> Offer:
        """Make a code for a session."""
        self.sweep()
        code = self._invent()
        while code in self._offers:
            code = self._invent()
        offer = Offer(code, session_id, self._clock() + LIFETIME)
        self._offers[code] = offer
        return offer

    def find(self, code: str) -> Offer:
        """Find a code, also one that is over; 404 `code_not_found` for one that is not known (any more)."""
        self.sweep()
        offer = self._offers.get(code.upper())
        if offer is None:
            raise Refusal(404, "code_not_found", "there is no such pairing code")
        return offer

    def state(self, code: str) -> State:
        """Tell how a code stands; 404 `code_not_found`."""
        return self._state(self.find(code))

    def session_of(self, code: str) -> str:
        """Tell which session a code opens; 404 `code_expired_or_used` or `code_not_found` where it opens none."""
        offer = self.find(code)
        if offer.session_id is None or self._state(offer) != "pending":
            raise Refusal(404, "code_expired_or_used", "the pairing code has expired or was used; ask for a new one")
        return offer.session_id

    def burn(self, code: str) -> None:
        """Make a code useless: it was claimed."""
        self.find(code).session_id = None

    def sweep(self) -> None:
        """Forget the codes that are long over. All live equally long, so the oldest is the first."""
        limit = self._clock() - (REMEMBERED - LIFETIME)
        while self._offers:
            oldest = next(iter(self._offers.values()))
            if oldest.expires_at > limit:
                break
            del self._offers[oldest.code]

    def _state(self, offer: Offer) -> State:
        if offer.session_id is None:
            return "claimed"
        return "expired" if offer.expires_at <= self._clock() else "pending"

    def _invent(self) -> str:
        tail = "".join(self._pick(ALPHABET) for _ in range(TAIL))
        return f"{self._pick(WORDS)}-{self._pick(WORDS)}-{tail}"

    def _pick(self, choices: str | tuple[str, ...]) -> str:
        # 64 random bits over some hundred choices: the unevenness is below 2^-54.
        return choices[int.from_bytes(self._entropy(8), "big") % len(choices)]
