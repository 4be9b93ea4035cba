"""All sessions of a configuration: which run, which are skipped, what changes when the configuration does."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING

from nexusd.bridge.link import Link
from nexusd.bridge.runner import Runner
from nexusd.bridge.session import Session
from nexusd.bridge.states import Status
from nexusd.clientdir import ClientDir
from nexusd.errors import UserError
from nexusd.serving import Serving
from nexusd.wire.address import server_url

if TYPE_CHECKING:
    import structlog

    from nexusd.config.records import Config, SessionConfig
    from nexusd.secrets import Secrets

SPREAD = 0.001  # seconds between the beginnings of sessions: a thousand do not all ask at once
FINISH = 3.0  # seconds that requests under way get at the end


class Supervisor:
    """Keeps one Runner for each session. A session that cannot run is skipped and said, never the end of the others."""

    def __init__(self, config: Config, secrets: Secrets, log: structlog.typing.FilteringBoundLogger) -> None:
        self.config = config
        self._secrets = secrets
        self._log = log
        self._rng = random.Random()  # noqa: S311 - spreads load, guards nothing
        self._client_dir = ClientDir(config.client_dir, warn=lambda text: log.warning("client_dir.broken", text=text))
        self._serving = Serving(self._client_dir)
        self._links: dict[str, Link] = {}
        self._configs: dict[str, SessionConfig] = {}
        self.runners: dict[str, Runner] = {}
        self.outboxes: dict[str, Runner] = {}  # by the path of the folder
        self.stirred = True  # something changed that `describe` tells
        self.skipped: dict[str, str] = {}

    async def apply(self, config: Config, *, start: bool = True) -> None:
        """Make this configuration the one in force; what did not change is not disturbed."""
        self.config = config
        wanted = {session.name: session for session in config.sessions}
        for link in self._links.values():
            link.budget.set_rate(config.requests_per_minute)
        for name in self.skipped.keys() - wanted:
            del self.skipped[name]
        for name, runner in list(self.runners.items()):
            new, old = wanted.get(name), self._configs[name]
            if new is None or (new.id, new.server) != (old.id, old.server):
                await self._remove(name)
            elif new != old:
                self._configs[name] = new
                runner.resettle(new.settings)
        for n, session in enumerate(wanted[name] for name in wanted.keys() - self.runners.keys()):
            self._add(session, start=start, delay=n * SPREAD)

    async def once(self) -> bool:
        """One full pass over every session; whether all went well."""
        done = await asyncio.gather(*(runner.once() for runner in self.runners.values()))
        return all(done) and not self.skipped

    def describe(self) -> str:
        """In words."""
        sessions = [runner.session for runner in self.runners.values()]
        parts = [f"{len(sessions)} session{'s' * (len(sessions) != 1)}", f"{sum(s.unsent for s in sessions)} unsent"]
        statuses = Counter(session.standing.status for session in sessions)
        parts += [f"{count} {status.value}" for status, count in statuses.items() if status is not Status.ACTIVE]
        if self.skipped:
            parts.append(f"{len(self.skipped)} skipped")
        return ", ".join(parts)

    @property
    def stuck(self) -> list[str]:
        """The sessions in which something hangs that has a bound."""
        return [name for name, runner in self.runners.items() if runner.stuck]

    def _stir(self) -> None:
        self.stirred = True

    async def prune(self) -> None:
        """Remove what is done with and older than it is to be kept."""
        for runner in list(self.runners.values()):
            try:
                removed = await asyncio.to_thread(runner.session.prune)
            except OSError as fault:
                self._log.warning("prune.failed", session=runner.session.name, error=str(fault))
            else:
                if removed:
                    self._log.info("prune.removed", session=runner.session.name, files=removed)

    def budgets(self) -> dict[str, dict[str, float | None]]:
        """By server: requests so far, the limit, how many may go at once, and seconds it is paused for."""
        told = {}
        for server, link in self._links.items():
            left = link.budget.left
            told[server] = {
                "requests": link.budget.used,
                "perMinute": self.config.requests_per_minute or None,
                "left": None if left is None else round(left, 1),
                "pausedFor": round(link.budget.paused_for, 1),
            }
        return told

    async def close(self) -> None:
        """Stop all; requests under way get a moment."""
        await asyncio.gather(*(runner.close(FINISH) for runner in self.runners.values()))
        await asyncio.gather(*(link.client.close() for link in self._links.values()))
        self._serving.close()

    def _add(self, config: SessionConfig, *, start: bool, delay: float = 0.0) -> None:
        self.skipped.pop(config.name, None)
        self._secrets.add(config.id)
        try:
            runner = Runner(self._opened(config), self._rng)
        except (OSError, UserError) as fault:
            self.skipped[config.name] = self._secrets.removed(str(fault))
            self._log.error("session.skipped", session=config.name, error=str(fault))
            return
        self.runners[config.name] = runner
        self._configs[config.name] = config
        self.outboxes[runner.session.folder.outbox] = runner
        runner.session.on_change = self._stir
        self.stirred = True
        if start:
            runner.start(delay)

    def _opened(self, config: SessionConfig) -> Session:
        session = Session(config, self.config.root, self._link(config), self._client_dir, self._secrets, self._log)
        if not self._serving.take(config.id, session.folder.path):
            raise UserError("served_elsewhere", "another nexusd serves this session, from another root")
        try:
            session.open()
        except BaseException:
            self._serving.release(config.id)
            raise
        return session

    async def _remove(self, name: str) -> None:
        runner = self.runners.pop(name)
        self._configs.pop(name)
        self.outboxes.pop(runner.session.folder.outbox)
        self.stirred = True
        await runner.close(FINISH)
        self._serving.release(runner.session.id)
        self._log.info("session.removed", session=name)

    def _link(self, config: SessionConfig) -> Link:
        """The session's server: what is recorded for it outranks everything."""
        recorded = self._client_dir.server(config.id)
        if recorded and config.server and recorded.rstrip("/") != config.server.rstrip("/"):
            raise UserError(
                "other_server", f"its server key says {config.server}, but it lives on {recorded}: take the key out"
            )
        server = server_url(recorded or config.server or self.config.server, allow_insecure=self.config.allow_insecure)
        if server not in self._links:
            self._links[server] = Link(server, self.config)
        return self._links[server]
