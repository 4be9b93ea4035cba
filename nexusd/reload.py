"""Following the configuration while the daemon runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from nexusd import notify
from nexusd.config.load import config_file, load
from nexusd.errors import ConfigError
from nexusd.local_fault import sentence
from nexusd.spool import outbox

if TYPE_CHECKING:
    import structlog

    from nexusd.bridge.supervisor import Supervisor
    from nexusd.config.records import Config

GATHER = 0.1  # seconds in which changes of the files are gathered
AT_START = ("root", "client_dir", "metrics_file", "log_level", "log_format")


class Reloader:
    """Takes a new configuration when it is right, and keeps the old one in force when it is not.

    `config` is the one in force, `rejected` what is wrong with the files now, `folders` where they are.
    """

    def __init__(
        self,
        named: str | None,
        config: Config,
        supervisor: Supervisor,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        file = config_file(named)
        self.config = config
        self.rejected: list[str] = []
        self.folders = {os.path.dirname(file), os.path.join(os.path.dirname(file), "sessions.d")}
        self._named = named
        self._supervisor = supervisor
        self._log = log
        self._timer: asyncio.TimerHandle | None = None
        self._one_at_a_time = asyncio.Lock()  # closing a removed session takes a while
        self._tasks: set[asyncio.Task[None]] = set()
        self._late: list[str] = []
        self._loaded = self._marks()
        self._had_files = self._has_files()

    def soon(self, delay: float = GATHER) -> None:
        """Look at the files in `delay` seconds; one look that is due already is not put off by a busy neighbour."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(delay, self._begin)

    def look(self) -> None:
        """Look at the files if they are not as they were, for where no event says so."""
        if self._marks() != self._loaded:
            self.soon()

    def _begin(self) -> None:
        self._timer = None
        task = asyncio.get_running_loop().create_task(self._reload())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reload(self) -> None:
        async with self._one_at_a_time:
            notify.reloading()
            try:
                self._loaded = self._marks()
                config = await asyncio.to_thread(load, self._named)
                if self._is_being_written() or self._marks() != self._loaded:
                    self.soon()  # half a file may be right, too
                else:
                    self._make_sure_of(config.sessions_folder)
                    await self._take(config)
                    self._had_files = self._has_files()
                    # The file of a session that is served is broken: what was in force for it stays.
                    self.rejected = [why for name, why in config.skipped.items() if name in self._supervisor.lives]
            except ConfigError as fault:
                if fault.faults != self.rejected:
                    instead = "the old configuration stays in force"
                    self._log.error("config.rejected", faults=fault.faults, instead=instead)
                self.rejected = fault.faults
            except Exception as fault:  # whatever it is, the next look is made all the same
                self._log.error("config.fault", exc_info=fault)
                self.rejected = [f"a fault in nexusd: {type(fault).__name__}; the log has more"]
            finally:
                self._supervisor.stirred = True
                notify.notify(READY=1)

    async def _take(self, config: Config) -> None:
        late = [name for name in AT_START if getattr(config, name) != getattr(self.config, name)]
        if late and late != self._late:
            self._log.warning("config.restart_needed", why=f"{', '.join(late)}: counts from the next start on")
        self._late = late
        config = replace(config, **{name: getattr(self.config, name) for name in late})
        if config != self.config or self._supervisor.links.rewired(config):
            self.config = config
            await self._supervisor.apply(config)
            self._log.info("config.reloaded", sessions=len(config.sessions))
        else:
            self._supervisor.retry()  # whoever sent SIGHUP may have mended what was in the way

    def _is_being_written(self) -> bool:
        """Whether somebody has one of the files open for writing."""
        for path, _, _ in self._marks():
            with contextlib.suppress(OSError):
                fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    if outbox.lease(fd) is False:
                        return True
                finally:
                    os.close(fd)
        return False

    def _make_sure_of(self, folder: str) -> None:
        """ConfigError: nobody removes all sessions by taking their folder away, or the right to look into it."""
        if not self._had_files:
            return
        why = f"{folder} is not there, and sessions have their files in it; bring it back, "
        try:
            os.scandir(folder).close()
        except FileNotFoundError:
            why += f"or, to serve none of them any more: mkdir -m 700 {shlex.quote(folder)}"
            raise ConfigError([why]) from None
        except OSError as fault:
            raise ConfigError([sentence(fault, folder)]) from None

    def _has_files(self) -> bool:
        """Whether sessions have files of their own."""
        folder = self.config.sessions_folder
        return any(os.path.dirname(path) == folder for path, _, _ in self._loaded)

    def _marks(self) -> set[tuple[str, int, int]]:
        """What tells that a file was changed."""
        marks = set()
        with contextlib.suppress(OSError):
            found = os.stat(self.config.ca_file or "")
            marks.add((str(self.config.ca_file), found.st_ino, found.st_mtime_ns))
        for folder in self.folders:
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.endswith(".toml"):
                        status = entry.stat()
                        marks.add((entry.path, status.st_ino, status.st_mtime_ns))
        return marks
