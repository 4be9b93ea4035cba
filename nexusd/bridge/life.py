"""One configured session, open for as long as it is configured and can be.

There is one path for the start, a reload, a take-over from another daemon, a volume that is mounted late, and whatever
we do not understand: open the session from its files; where that fails, say why and try again. What survives kill -9
can be restarted without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexusd.bridge.lane import Lane
from nexusd.bridge.link import now
from nexusd.bridge.states import Status
from nexusd.errors import NexusError
from nexusd.local_fault import said
from nexusd.wire.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable

    import structlog

    from nexusd.bridge.runner import Runner
    from nexusd.config.records import SessionConfig

LONGEST = 30.0  # seconds between two attempts to open it
STEADY = 60.0  # seconds after which a session that was opened counts as well
RECORD = 60.0  # seconds between two looks at the local record of a session that has ended


class Life:
    """Keeps one session open. `opened` gives the runner of a session just opened, or raises.

    `on_change` is called when it was opened or closed; `error` says why it is not open, in words for a person.
    """

    def __init__(
        self,
        config: SessionConfig,
        opened: Callable[[Life], Runner],
        on_change: Callable[[Life], None],
        log: structlog.typing.FilteringBoundLogger,
        root: str,
    ) -> None:
        self.config = config
        self.runner: Runner | None = None
        self.error: str | None = None
        self.seq = 0  # lines that are known to have been written, whatever the folder says
        self._opened = opened
        self._on_change = on_change
        self._log = log
        self._root = root
        self._backoff = Backoff(longest=LONGEST)
        self._broken = self._pause = False
        self._opened_at = 0.0
        self._start = True
        self._lane = Lane(self._step, self._fault)

    @property
    def name(self) -> str:
        """The session's."""
        return self.config.name

    @property
    def status(self) -> Status:
        """Its state; `blocked` while it cannot be opened, `joining` before that was tried and after it was closed."""
        if self.runner is None or self._broken:
            return Status.JOINING if self.error is None else Status.BLOCKED
        return self.runner.session.shown[0]

    @property
    def last_error(self) -> str | None:
        """What is wrong with it now."""
        return self.error if self.runner is None or self._broken else self.runner.session.shown[1]

    @property
    def last_seq(self) -> int:
        """The last line's."""
        return self.seq if self.runner is None else self.runner.session.state.seq

    def begin(self, delay: float = 0.0, *, start: bool = True) -> None:
        """Open it, and try again for as long as that fails; its lanes begin in `delay` seconds, or never."""
        self._start = start
        again_in = self._open(delay)
        if again_in is not None and start:
            self._lane.wake(again_in)

    def retry(self) -> None:
        """Try at once what would be tried later."""
        if self.runner is None or self._broken:
            self._lane.wake()

    def apply(self, config: SessionConfig) -> None:
        """Another configuration from now on; nothing under way is disturbed. One that has ended is opened anew.

        So is one whose table names another agent: whether that is who we are is asked when it is opened.
        """
        before, self.config = self.config, config
        if self.runner is not None:
            self.runner.apply(config.settings)
            if config.agent != before.agent or self.runner.session.standing.status is Status.STOPPED:
                self.broken("its configuration was changed")
        else:
            self.retry()

    def broken(self, why: str, *, ours: bool = False) -> None:
        """It cannot go on as it is: it is closed and opened anew from its files.

        `ours`: by a fault of nexusd's, which may come again at once: then with a pause.
        """
        if self.runner is None or self._broken:
            return
        if now() - self._opened_at > STEADY:
            self._backoff.succeeded()
        self._broken, self.error, self._pause = True, why, ours
        self.seq = max(self.seq, self.runner.session.state.seq)
        self._log.warning("session.reopening", session=self.name, why=why)
        self._on_change(self)
        self._lane.wake()

    def ended(self) -> None:
        """The session has ended: from now on its local record is looked at, now and then."""
        self._lane.wake(RECORD)

    async def close(self, patience: float) -> None:
        """End it; what is under way gets `patience` seconds."""
        await self._lane.close()
        runner, self.runner = self.runner, None
        if runner is not None:
            await (runner.abandon() if self._broken else runner.close(patience))
            self.seq = max(self.seq, runner.session.state.seq)  # the last report has it, too
        self._on_change(self)

    async def _step(self) -> float | None:
        if self.runner is not None:
            if not self._broken:
                return self._record_changed()
            runner, self.runner = self.runner, None
            await runner.abandon()
            self._broken = False
            self._on_change(self)
            if self._pause:
                return self._backoff.failed()
        return self._open(0.0)

    def _open(self, delay: float) -> float | None:
        """One attempt; the seconds until the next, or None."""
        try:
            runner = self._opened(self)
        except Exception as fault:
            return self._fault(fault)
        self.runner, self.error, self._opened_at = runner, None, now()
        self._on_change(self)
        if self._start:
            runner.start(delay)
        return RECORD if runner.session.standing.ended else None

    def _fault(self, fault: Exception) -> float:
        """Why it cannot be opened; the seconds until the next attempt. No fault here is anybody else's."""
        error = said(fault, self._root)
        if not isinstance(fault, OSError | NexusError):
            self._log.error("session.fault", session=self.name, exc_info=fault)
        if error != self.error:
            self._log.error("session.blocked", session=self.name, error=error)
        self.error = error
        self._on_change(self)
        return self._backoff.failed()

    def _record_changed(self) -> float | None:
        """The user may have entered an ended session again with the client: then it is opened anew."""
        runner = self.runner
        if runner is None or not runner.session.standing.ended:
            return None
        session = runner.session
        if session.client_dir.agent(session.id) not in (None, session.agent):
            self.broken("its local record was changed")
        return RECORD
