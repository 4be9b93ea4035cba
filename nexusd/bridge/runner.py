"""One session's three lanes, wired: poll, send, renew. A fault in one stays in it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nexusd.bridge.lane import Lane
from nexusd.bridge.poller import Poller
from nexusd.bridge.renewer import Renewer
from nexusd.bridge.sender import Sender
from nexusd.bridge.states import Event
from nexusd.errors import NexusError

if TYPE_CHECKING:
    from random import Random

    from nexusd.bridge.session import Session
    from nexusd.config.records import Settings

MOST_STEPS = 10_000  # of one `once`: a bound, not a plan


class Runner:
    """Runs one session."""

    def __init__(self, session: Session, rng: Random) -> None:
        self.session = session
        self._poller = Poller(session, rng, on_ready=self._ready)
        self._sender = Sender(session, on_sent=self._sent)
        self._renewer = Renewer(session)
        self.poll = Lane(self._poller.step, self._fault)
        self.send = Lane(self._sender.step, self._fault)
        self.renew = Lane(self._renewer.step, self._fault)
        session.on_restart = self.poll.wake
        session.on_active = self._active

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """In the order in which they matter."""
        return self.renew, self.send, self.poll

    def start(self) -> None:
        """Begin."""
        self.session.touch()
        for lane in self.lanes:
            lane.wake()

    def resettle(self, settings: Settings) -> None:
        """Other settings from now on; nothing under way is disturbed."""
        self.session.settings = settings
        self.session.inbox.rotate_at = settings.inbox_max_bytes
        for lane in self.lanes:
            lane.wake()

    async def once(self) -> bool:
        """One full pass: poll, send what is there, renew if due. Whether all went well."""
        session = self.session
        for step in (self._poller.step, self._drained, self._renewer.step):
            try:
                await step()
            except Exception as fault:
                self._fault(fault)
        return session.last_error is None and (not session.ended or session.state.ended != "")

    async def close(self, patience: float) -> None:
        """Begin nothing more, let what is under way finish for `patience` seconds, write the state down."""
        for lane in self.lanes:
            lane.stop()
        await asyncio.gather(*(lane.close(patience) for lane in self.lanes))
        self.session.close()

    async def _drained(self) -> None:
        for _ in range(MOST_STEPS):
            delay = await self._sender.step()
            if self._sender.idle or self.session.last_error is not None:
                return
            if delay:
                await asyncio.sleep(delay)

    def _ready(self) -> None:
        self.send.wake()
        self.renew.wake()

    def _sent(self) -> None:
        self._poller.stir()
        self.poll.wake(self.session.settings.active_poll_interval)

    def _active(self) -> None:
        if self.session.ended:
            self.send.wake()
        self.renew.wake()

    def _fault(self, fault: Exception) -> float:
        session = self.session
        delay = session.backoff.failed()
        if isinstance(fault, OSError | NexusError):
            session.happened(Event.FAILED, f"{type(fault).__name__}: {fault}")
        else:
            session.log.error("session.fault", exc_info=fault)
            session.happened(Event.FAILED, f"a fault in nexusd: {type(fault).__name__}")
        return delay
