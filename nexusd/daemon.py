"""The daemon's life: start, signals, reload, stop. Everything is built and wired here."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
from typing import TYPE_CHECKING

import msgspec

from nexusd import __version__, guard, measuring, notify
from nexusd.bridge import summary
from nexusd.bridge.supervisor import Supervisor
from nexusd.bridge.watcher import Watcher
from nexusd.config.load import load
from nexusd.errors import RootLocked, UserError
from nexusd.local_fault import said
from nexusd.log import configure
from nexusd.reload import Reloader
from nexusd.root import Root
from nexusd.schedule import Schedule
from nexusd.secrets import Secrets
from nexusd.spool import spare
from nexusd.timestamps import stamp

if TYPE_CHECKING:
    import structlog

    from nexusd.config.records import Config

TICK = 1.0  # seconds
SLEPT = 5.0  # seconds that the machine must have slept to be worth a round of everything
DISK = 10.0  # seconds within which a look at the root must succeed
PRUNE = 3600.0  # seconds between looks for what need not be kept any longer
MEASURE = 15.0  # seconds between two metrics files
REPORT = 30.0  # seconds between reports for `nexusd status`


def run(named: str | None, *, once: bool = False) -> int:
    """`nexusd run`; the exit status. ConfigError, RootLocked, OSError before anything has begun."""
    if not once:  # until we listen for it: whatever it announces is read below
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    config = load(named)
    secrets = Secrets()
    log = configure(config.log_level, config.log_format, secrets)
    root = Root(config.root, config.client_dir)
    try:
        root.hold()
    except RootLocked:
        raise
    except (OSError, UserError) as fault:
        # A volume that comes later, a disk that is full for a moment: it is tried again for as long as we run.
        log.warning("root.not_served", error=said(fault, root.path))
    _more_descriptors()
    spare.keep()
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # a read lease was broken; by default that would kill us
    try:
        return asyncio.run(_live(Daemon(named, config, secrets, log, root), once=once))
    finally:
        root.close()


async def _live(daemon: Daemon, *, once: bool) -> int:
    return await (daemon.once() if once else daemon.serve())


class Daemon:
    """One process serving one root."""

    def __init__(
        self,
        named: str | None,
        config: Config,
        secrets: Secrets,
        log: structlog.typing.FilteringBoundLogger,
        root: Root,
    ) -> None:
        self._config = config
        self._secrets = secrets
        self._log = log
        self._root = root
        self._supervisor = Supervisor(config, secrets, log, root=root)
        self._since = stamp()
        self._reloader = Reloader(named, config, self._supervisor, log)
        self._stopping = asyncio.Event()
        self._pruning: asyncio.Task[None] | None = None
        self._status = ""
        self._opened = 0
        self._metrics = measuring.writer(self._supervisor, config.metrics_file, log)

    async def once(self) -> int:
        """One full pass over every session."""
        await self._supervisor.apply(self._config, start=False)
        well = await self._supervisor.once()
        await self._supervisor.close()
        return 0 if well else 1

    async def serve(self) -> int:
        """Serve until a signal says to stop."""
        self._listen()
        self._log.info("daemon.starting", version=__version__, pid=os.getpid(), config=self._config.file or "none")
        self._say_what_guards()
        await self._supervisor.apply(self._config)
        watcher = Watcher(self._changed, self._log)
        watcher.watch({*self._supervisor.outboxes, *self._reloader.folders})
        watching = asyncio.create_task(watcher.run())
        await watcher.live.wait()
        notify.notify(READY=1, MAINPID=os.getpid())
        self._log.info(
            "daemon.ready",
            root=self._config.root,
            sessions=len(self._supervisor.runners),
            blocked=len(self._supervisor.blocked),
        )
        await self._until_stopped(watcher)
        notify.notify(STOPPING=1)
        self._log.info("daemon.stopping")
        watching.cancel()
        await self._supervisor.close()
        self._report(running=False)
        self._log.info("daemon.stopped")
        return 0

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._reloader.soon, 0.0)

    def _stop(self, number: int) -> None:
        if self._stopping.is_set():
            os._exit(128 + number)  # the second one means it; whatever is under way is found by the next start
        self._stopping.set()

    async def _until_stopped(self, watcher: Watcher) -> None:
        """The clock: signs of life, a machine that slept, what others may read of us."""
        clock = Schedule(notify.watchdog_interval())
        while not self._stopping.is_set():
            try:
                await self._tick(watcher, clock)
            except Exception as fault:  # whatever it is, the clock goes on
                self._log.error("daemon.fault", exc_info=fault)
            try:
                async with asyncio.timeout(TICK):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    async def _tick(self, watcher: Watcher, clock: Schedule) -> None:
        supervisor = self._supervisor
        if clock.watchdog is not None and clock.due("fed", clock.watchdog) and await self._in_order():
            clock.done("fed")
            notify.notify(WATCHDOG=1)
        if (slept := clock.slept()) > SLEPT:
            self._log.info("daemon.woken", slept=round(slept))
            for runner in supervisor.runners.values():
                runner.start()
        supervisor.look_at_the_root()
        supervisor.heed_hands()
        supervisor.look_for_pauses()
        if supervisor.stirred or clock.due("reported", REPORT):
            supervisor.stirred = False
            clock.done("reported")
            self._status = summary.line(supervisor)
            if self._reloader.rejected:
                self._status += "; config rejected, the old one is in force"
            notify.notify(STATUS=self._status)
            self._report(running=True)
            watcher.watch({*supervisor.outboxes, *self._reloader.folders})
        watcher.look_for_missing()
        if supervisor.opened != self._opened:
            self._opened = supervisor.opened
            watcher.again()
        if clock.due("pruned", PRUNE) and supervisor.vouched_for:
            clock.done("pruned")
            self._pruning = asyncio.create_task(supervisor.prune())
        if self._metrics is not None and clock.due("measured", MEASURE):
            clock.done("measured")
            await asyncio.to_thread(self._metrics)

    def _say_what_guards(self) -> None:
        """Once: that the secret guard is not all there; loud where somebody has asked for it."""
        if not guard.is_complete():
            every = [self._config.defaults, *(session.settings for session in self._config.sessions)]
            asked = any(settings.secret_guard in ("hold", "warn") for settings in every)
            log = self._log.warning if asked else self._log.debug
            log("guard.incomplete", instead="run: pip install 'nexusd[secrets]'")

    async def _in_order(self) -> bool:
        """Whether every loop makes progress and the disk answers; if not, the watchdog is left to end us."""
        try:
            async with asyncio.timeout(DISK):
                await asyncio.to_thread(os.stat, self._config.root)
        except (TimeoutError, OSError) as fault:
            self._log.error("daemon.stuck", why=f"the disk of root does not answer: {fault}")
            return False
        if stuck := self._supervisor.stuck:
            self._log.error("daemon.stuck", why="no progress", sessions=stuck)
        return not stuck

    def _changed(self, folders: set[str] | None) -> bool:
        """Something happened in these folders, or may have anywhere; whether it did in an outbox."""
        outboxes = self._supervisor.outboxes
        dropped = outboxes.keys() if folders is None else folders & outboxes.keys()
        for folder in dropped:
            outboxes[folder].send.wake()
        if folders is None:
            self._reloader.look()
        elif folders & self._reloader.folders:
            self._reloader.soon()
        return bool(dropped)

    def _report(self, *, running: bool) -> None:
        """What `nexusd status` reads; no secret is in it: what is wrong with a session is said without."""
        report = {
            "pid": os.getpid(),
            "version": __version__,
            "running": running,
            "since": self._since,
            "at": stamp(),
            "config": self._reloader.config.file,
            "clientDir": self._config.client_dir,
            "rejected": [self._secrets.removed(fault) for fault in self._reloader.rejected],
            "status": self._status,
            "root": self._supervisor.root_error,
            "sessions": summary.sessions(self._supervisor),
            "servers": summary.servers(self._supervisor),
        }
        if (fault := self._root.write_report(msgspec.json.encode(report) + b"\n")) is not None:
            self._log.debug("report.failed", error=str(fault))


def _more_descriptors() -> None:
    """A thousand sessions and their files need more than the usual 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # a sandbox may not allow it
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
