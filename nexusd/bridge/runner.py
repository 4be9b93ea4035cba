"""One session's four lanes, wired: poll, send, renew, hook. A fault in one stays in it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from nexusd.bridge.hook import Hook
from nexusd.bridge.journal import FolderChanged
from nexusd.bridge.lane import Lane
from nexusd.bridge.listener import Listener
from nexusd.bridge.poller import Poller
from nexusd.bridge.renewer import Renewer
from nexusd.bridge.sender import Sender
from nexusd.bridge.states import Event
from nexusd.errors import NexusError, RequestError
from nexusd.local_fault import said
from nexusd.wire.budget import Turn

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from nexusd.bridge.session import Session
    from nexusd.config.records import Settings

STUCK = 300.0  # seconds; the longest step is a handful of requests with their deadlines
MOST_STEPS = 10_000  # of one `once`: a bound, not a plan
HOOK_AGAIN = 60.0  # seconds until a hook is tried again that failed for a reason of ours


class Runner(Listener):
    """Runs one session. `on_broken` is told why it cannot go on and must be opened anew, and if the fault is ours.

    `on_ended` is called when it has ended, `on_shown_change` when something changed that is shown of all sessions.
    """

    def __init__(
        self,
        session: Session,
        rng: Random,
        *,
        on_broken: Callable[[str, bool], None] = lambda *_: None,
        on_ended: Callable[[], None] = lambda: None,
        on_shown_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.session = session
        self._on_broken = on_broken
        self._on_ended = on_ended
        self._on_shown_change = on_shown_change
        self._poller = Poller(session, rng, on_ready=self._ready)
        self._sender = Sender(session, on_sent=self._sent)
        self._renewer = Renewer(session)
        self.poll = Lane(self._poller.step, partial(self._fault, Turn.POLL))
        self.send = Lane(self._sender.step, partial(self._fault, Turn.SEND))
        self.renew = Lane(self._renewer.step, partial(self._fault, Turn.RENEW))
        self._hook = Hook(session)
        self.hook = Lane(self._hook.step, self._hook_fault)
        self._broken = False
        session.listener = self
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

    def apply(self, settings: Settings) -> None:
        """Other settings from now on; nothing under way is disturbed."""
        self.session.settings = settings
        self.session.inbox.rotate_at = settings.inbox_max_bytes
        for lane in self.lanes:
            lane.wake()

    def heed_hand(self) -> None:
        """Somebody may have renewed the session by hand."""
        session = self.session
        if session.lifetime.heed_hand(session.client_dir, session.id):
            session.touch()
            self.renew.wake()

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
        if self._broken:
            return False
        return session.standing.last_error is None and (not session.standing.ended or session.state.ended != "")

    async def close(self, patience: float) -> None:
        """Begin nothing more, let what is under way finish for `patience` seconds, write the state down.

        What waits for its turn has not begun.
        """
        await self._end(patience)
        self.session.close()

    async def abandon(self) -> None:
        """End at once and write nothing down: what is in memory is not to be trusted, the files are."""
        self.session.view.cancel()
        await self._end(0.0)
        self.session.view.cancel()

    async def _end(self, patience: float) -> None:
        for lane in self.lanes:
            lane.stop()
        self._poller.hang_up()
        begun = {lane: kind not in self.session.waiting for lane, kind in self._kinds}
        await asyncio.gather(*(lane.close(patience if begun.get(lane, True) else 0.0) for lane in self.lanes))

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

    # ---- what the session tells

    def committed(self) -> None:
        """Lines were written to the inbox."""
        self.hook.wake()

    def activity(self) -> None:
        """A message went either way, or the session ended or goes on."""
        if self.session.standing.ended:
            self.send.wake()
            self._on_ended()
        self.renew.wake()

    def server_restarted(self) -> None:
        """What the server has must be read anew before anything is sent."""
        self._poller.hang_up()
        self.poll.wake()

    def shown_changed(self) -> None:
        """Something changed that is shown of all sessions together."""
        self._on_shown_change()

    def _ready(self) -> None:
        self.send.wake()
        self.renew.wake()

    def _sent(self) -> None:
        self._poller.stir()
        self.poll.wake(self.session.settings.active_poll_interval)

    def _recovered(self) -> None:
        """The server deals with us again: what held off after failures need not wait any longer."""
        for lane in (self.renew, self.send, self.poll):
            lane.wake()

    # ---- faults

    def _hook_fault(self, fault: Exception) -> float:
        self.session.log.error("hook.fault", error=f"{type(fault).__name__}: {fault}")
        return HOOK_AGAIN

    def _fault(self, lane: Turn, fault: Exception) -> float:
        """What a lane could not deal with itself; the seconds until it is worth trying again."""
        session = self.session
        if isinstance(fault, FolderChanged):
            self._break(str(fault))
            return HOOK_AGAIN
        if isinstance(fault, RequestError):
            return session.standing.failing(lane, f"{fault.code}: {fault}")
        if isinstance(fault, OSError | NexusError):
            return session.standing.failing(lane, said(fault, session.folder.path), Event.BLOCKED)
        session.log.error("session.fault", exc_info=fault)
        self._break(f"a fault in nexusd: {type(fault).__name__}; the session is opened anew", ours=True)
        return HOOK_AGAIN

    def _break(self, why: str, *, ours: bool = False) -> None:
        self._broken = True
        for lane in self.lanes:
            lane.stop()
        self.session.view.cancel()
        self._on_broken(why, ours)
