"""Which messages are ours, where a poll does not say `verified`: the server took them, so we know their ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

    from nexusd.bridge.session import Session
    from nexusd.spool.state import State
    from nexusd.wire.batch import Message

KEPT = 1_000  # of those that nothing else tells of, over lives
REMEMBERED = 10_000  # of this life


class Own:
    """The ids of one session's messages that are certainly ours, oldest first."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._ids: dict[str, None] = {}

    @property
    def ids(self) -> AbstractSet[str]:
        """All that are remembered."""
        return self._ids.keys()

    def recall(self) -> None:
        """Those of earlier lives."""
        self._ids |= dict.fromkeys(self._session.state.unverified)

    async def accepted(self, message_id: str) -> None:
        """The server took this message of ours. Durably where nothing else may tell in a later life. OSError."""
        self._ids[message_id] = None
        if self._session.sending_key is None or not self._session.state.verifies:

            def change(state: State) -> None:
                state.unverified = [*state.unverified, message_id][-KEPT:]

            await self._session.commit([], change)
        while len(self._ids) > REMEMBERED:
            del self._ids[next(iter(self._ids))]

    def shown(self, own: list[Message]) -> Callable[[State], None]:
        """What a poll shows of our messages tells whether they are known by `verified`; the change of the state."""
        verified = [message.verified for message in own if message.id in self._ids]

        def change(state: State) -> None:
            if verified and not all(verified) and state.verifies:  # not any more: from now on only their ids tell
                state.unverified = list(self._ids)[-KEPT:]
            state.verifies = all(verified) if verified else state.verifies

        return change
