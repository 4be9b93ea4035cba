"""Where sessions are written down, as the deciding code sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nexusd.relay.session import Member, Session


class Ledger(Protocol):
    """Where sessions outlive the process. Each call is durable when it returns, and comes before anybody sees it."""

    def sessions(self) -> Iterable[Session]:
        """Everything written so far, without messages."""

    def opened(self, session: Session) -> None:
        """A session was created, with its creator if it has one."""

    def joined(self, session_id: str, agent_id: str, member: Member) -> None:
        """An agent came in."""

    def left(self, session_id: str, agent_ids: list[str]) -> None:
        """Agents left or were removed."""

    def renewed(self, session_id: str, ttl: int, expires_at: float) -> None:
        """The session lives until `expires_at`."""

    def ended(self, session_ids: list[str]) -> None:
        """Sessions are over."""


class NoLedger:
    """The ledger of a relay that keeps nothing."""

    def sessions(self) -> Iterable[Session]:
        """Nothing."""
        return ()

    def opened(self, session: Session) -> None:
        """Keep nothing."""

    def joined(self, session_id: str, agent_id: str, member: Member) -> None:
        """Keep nothing."""

    def left(self, session_id: str, agent_ids: list[str]) -> None:
        """Keep nothing."""

    def renewed(self, session_id: str, ttl: int, expires_at: float) -> None:
        """Keep nothing."""

    def ended(self, session_ids: list[str]) -> None:
        """Keep nothing."""
