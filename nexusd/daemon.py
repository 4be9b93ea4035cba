"""The daemon's life: start, signals, reload, stop. Everything is built and wired here."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import time
from typing import TYPE_CHECKING

import msgspec

from nexusd import __version__, guard, notify
from nexusd.bridge import link
from nexusd.bridge.supervisor import Supervisor
from nexusd.bridge.watcher import Watcher
from nexusd.config.load import load
from nexusd.log import configure
from nexusd.reload import Reloader
from nexusd.secrets import Secrets
from nexusd.spool import atomic, layout
from nexusd.spool.rootlock import RootLock
from nexusd.timestamps import stamp

if TYPE_CHECKING:
    from collections.abc import Callable

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
    config = load(named)
    secrets = Secrets()
    log = configure(config.log_level, config.log_format, secrets)
    lock = RootLock(config.root)
    _more_descriptors()
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # a lease being broken is nothing to die of
    try:
        return asyncio.run(_live(Daemon(named, config, secrets, log), once=once))
    finally:
        lock.close()


async def _live(daemon: Daemon, *, once: bool) -> int:
    return await (daemon.once() if once else daemon.serve())


class Daemon:
    """One process serving one root."""

    def __init__(
        self, named: str | None, config: Config, secrets: Secrets, log: structlog.typing.FilteringBoundLogger
    ) -> None:
        self._config = config
        self._secrets = secrets
        self._log = log
        self._supervisor = Supervisor(config, secrets, log)
        self._since = stamp()
        self._reloader = Reloader(named, config, self._supervisor, log)
        self._stopping = asyncio.Event()
        self._pruning: asyncio.Task[None] | None = None
        self._status = ""

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
        self._log.info("daemon.ready", root=self._config.root, sessions=len(self._supervisor.runners))
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
        interval = notify.watchdog_interval()
        fed = reported = 0.0
        pruned = measured = -PRUNE
        metrics = self._metrics()
        asleep = _asleep()
        while not self._stopping.is_set():
            if interval is not None and time.monotonic() - fed >= interval and await self._in_order():
                fed = time.monotonic()
                notify.notify(WATCHDOG=1)
            if _asleep() - asleep > SLEPT:
                self._log.info("daemon.woken", slept=round(_asleep() - asleep))
                for runner in self._supervisor.runners.values():
                    runner.start()
            asleep = _asleep()
            if self._supervisor.stirred or time.monotonic() - reported >= REPORT:
                self._supervisor.stirred = False
                reported = time.monotonic()
                self._status = self._supervisor.describe()
                if self._reloader.rejected:
                    self._status += "; config rejected, the old one is in force"
                notify.notify(STATUS=self._status)
                self._report(running=True)
                watcher.watch({*self._supervisor.outboxes, *self._reloader.folders})
            if metrics is not None and time.monotonic() - measured >= MEASURE:
                measured = time.monotonic()
                await asyncio.to_thread(metrics)
            if time.monotonic() - pruned >= PRUNE:
                pruned = time.monotonic()
                self._pruning = asyncio.create_task(self._supervisor.prune())
            try:
                async with asyncio.timeout(TICK):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    def _say_what_guards(self) -> None:
        """Once: that the secret guard is not all there; loud where somebody has asked for it."""
        if not guard.is_complete():
            every = [self._config.defaults, *(session.settings for session in self._config.sessions)]
            asked = any(settings.secret_guard in ("hold", "warn") for settings in every)
            log = self._log.warning if asked else self._log.debug
            log("guard.incomplete", instead="run: pip install 'nexusd[secrets]'")

    def _metrics(self) -> Callable[[], None] | None:
        """What writes the metrics file, where one is wanted."""
        if self._config.metrics_file is None:
            return None
        try:
            from nexusd.metrics import Metrics  # noqa: PLC0415 - an extra
        except ImportError:
            self._log.error("metrics.missing", instead="run: pip install 'nexusd[metrics]'")
            return None
        metrics = Metrics(self._supervisor, self._config.metrics_file)

        def write() -> None:
            try:
                metrics.write()
            except OSError as fault:
                self._log.warning("metrics.failed", error=str(fault))

        return write

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
        """What `nexusd status` reads."""
        report = {
            "pid": os.getpid(),
            "version": __version__,
            "running": running,
            "since": self._since,
            "at": stamp(),
            "config": self._reloader.config.file,
            "clientDir": self._config.client_dir,
            "rejected": self._reloader.rejected,
            "status": self._status,
            "sessions": sorted(self._supervisor.runners.keys() | self._supervisor.skipped.keys()),
            "skipped": self._supervisor.skipped,
            "servers": self._supervisor.budgets(),
        }
        try:
            data = self._secrets.removed(msgspec.json.encode(report).decode()).encode()
            atomic.replace(layout.report_file(self._config.root), data + b"\n", durable=False)
        except OSError as fault:
            self._log.debug("report.failed", error=str(fault))


def _asleep() -> float:
    """Seconds that the machine has slept since it was started."""
    return link.now() - time.monotonic()


def _more_descriptors() -> None:
    """A thousand sessions and their files need more than the usual 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # a sandbox may not allow it
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
