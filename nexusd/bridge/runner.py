"""One session's three lanes, wired: poll, send, renew. A fault in one stays in it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from nexusd.bridge.hook import Hook
from nexusd.bridge.lane import Lane
from nexusd.bridge.poller import Poller
from nexusd.bridge.renewer import Renewer
from nexusd.bridge.sender import Sender
from nexusd.errors import NexusError
from nexusd.wire.budget import Turn

if TYPE_CHECKING:
    from random import Random

    from nexusd.bridge.session import Session
    from nexusd.config.records import Settings

STUCK = 300.0  # seconds; the longest step is a handful of requests with their deadlines
MOST_STEPS = 10_000  # of one `once`: a bound, not a plan


class Runner:
    """Runs one session."""

    def __init__(self, session: Session, rng: Random) -> None:
        self.session = session
        self._poller = Poller(session, rng, on_ready=self._ready)
        self._sender = Sender(session, on_sent=self._sent)
        self._renewer = Renewer(session)
        self.poll = Lane(self._poller.step, partial(self._fault, Turn.POLL))
        self.send = Lane(self._sender.step, partial(self._fault, Turn.SEND))
        self.renew = Lane(self._renewer.step, partial(self._fault, Turn.RENEW))
        self._hook = Hook(session)
        self.hook = Lane(self._hook.step, self._hook_fault)
        session.on_restart = self._restarted
        session.on_commit = self.hook.wake
        session.on_active = self._active
        session.standing.on_recovery = self._recovered

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """In the order in which they matter."""
        return self.renew, self.send, self.poll, self.hook

    @property
    def stuck(self) -> bool:
        """Whether a lane has made no progress for longer than anything it does can take."""
        return any(lane.busy_for > STUCK and kind not in self.session.waiting for lane, kind in self._kinds)

    @property
    def _kinds(self) -> tuple[tuple[Lane, Turn], ...]:
        return (self.renew, Turn.RENEW), (self.send, Turn.SEND), (self.poll, Turn.POLL)

    def start(self, delay: float = 0.0) -> None:
        """Begin, in `delay` seconds."""
        self.session.touch()
        for lane in self.lanes:
            lane.wake(delay)

    def resettle(self, settings: Settings) -> None:
        """Other settings from now on; nothing under way is disturbed."""
        self.session.settings = settings
        self.session.inbox.rotate_at = settings.inbox_max_bytes
        for lane in self.lanes:
            lane.wake()

    async def once(self) -> bool:
        """One full pass: poll, send what is there, renew if due, run the hook. Whether all went well."""
        session = self.session
        for lane in self.lanes:
            lane.stop()  # a poll wakes the sends: a second step beside ours would take files out of turn, or twice
        steps = ((Turn.POLL, self._poller.step), (Turn.SEND, self._drained), (Turn.RENEW, self._renewer.step))
        for turn, step in steps:
            try:
                await step()
            except Exception as fault:
                self._fault(turn, fault)
        try:
            await self._hook.step()
        except Exception as fault:
            self._hook_fault(fault)
        return session.standing.last_error is None and (not session.standing.ended or session.state.ended != "")

    async def close(self, patience: float) -> None:
        """Begin nothing more, let what is under way finish for `patience` seconds, write the state down.

        What waits for its turn has not begun.
        """
        for lane in self.lanes:
            lane.stop()
        self._poller.hang_up()
        begun = {lane: kind not in self.session.waiting for lane, kind in self._kinds}
        await asyncio.gather(*(lane.close(patience if begun.get(lane, True) else 0.0) for lane in self.lanes))
        self.session.close()

    async def _drained(self) -> None:
        for _ in range(MOST_STEPS):
            delay = await self._sender.step()
            if self.session.state.reread and self.session.standing.last_error is None:
                await self._poller.step()
                continue
            if delay is None or self._sender.idle or self.session.standing.last_error is not None:
                return
            if delay:
                await asyncio.sleep(delay)

    def _ready(self) -> None:
        self.send.wake()
        self.renew.wake()

    def _sent(self) -> None:
        self._poller.stir()
        self.poll.wake(self.session.settings.active_poll_interval)

    def _restarted(self) -> None:
        self._poller.hang_up()
        self.poll.wake()

    def _active(self) -> None:
        if self.session.standing.ended:
            self.send.wake()
        self.renew.wake()

    def _recovered(self) -> None:
        """The server deals with us again: what held off after failures need not wait any longer."""
        for lane in (self.renew, self.send, self.poll):
            lane.wake()

    def _hook_fault(self, fault: Exception) -> float:
        self.session.log.error("hook.fault", error=f"{type(fault).__name__}: {fault}")
        return 60.0

    def _fault(self, lane: Turn, fault: Exception) -> float:
        session = self.session
        if isinstance(fault, OSError | NexusError):
            return session.standing.failing(lane, f"{type(fault).__name__}: {fault}")
        session.log.error("session.fault", exc_info=fault)
        return session.standing.failing(lane, f"a fault in nexusd: {type(fault).__name__}")
