"""All sessions of a configuration: which are open, which are blocked, what changes when the configuration does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from typing import TYPE_CHECKING

from nexusd import by_hand
from nexusd.bridge import view
from nexusd.bridge.life import Life
from nexusd.bridge.link import Link
from nexusd.bridge.links import Links
from nexusd.bridge.pruning import prune
from nexusd.bridge.runner import Runner
from nexusd.bridge.session import Session
from nexusd.clientdir import ClientDir
from nexusd.errors import UserError
from nexusd.local_fault import said
from nexusd.root import Root
from nexusd.serving import Serving
from nexusd.spool import known_seq
from nexusd.spool.layout import SessionFolder

if TYPE_CHECKING:
    from collections.abc import Callable

    import structlog

    from nexusd.config.records import Config, SessionConfig
    from nexusd.secrets import Secrets

SPREAD = 0.001  # seconds between the beginnings of sessions: a thousand do not all ask at once
FINISH = 3.0  # seconds that requests under way get at the end


class Supervisor:
    """Keeps one Life for each session. What is wrong with one is said, and never the end of the others.

    `runners` are the open ones by name, `outboxes` the same by the path of their folder.
    """

    def __init__(
        self,
        config: Config,
        secrets: Secrets,
        log: structlog.typing.FilteringBoundLogger,
        *,
        root: Root | None = None,
        make_link: Callable[[str, Config], Link] = Link,
    ) -> None:
        self.config = config
        self.root = root or Root(config.root, config.client_dir)
        self.secrets = secrets
        self._log = log
        self._rng = random.Random()  # noqa: S311 - spreads load, guards nothing
        self._client_dir = ClientDir(config.client_dir, warn=lambda text: log.warning("client_dir.broken", text=text))
        self._serving: Serving | None = None
        self.links = Links(config, self._client_dir, make_link)
        self.lives: dict[str, Life] = {}
        self.runners: dict[str, Runner] = {}
        self.outboxes: dict[str, Runner] = {}
        self.stirred = True  # something changed that is shown of all sessions together
        self.opened = 0  # how often a session was opened: then its folders may be others
        self._paused: set[str] = set()  # the servers that take no requests for now
        self._word: int | None = None  # when the last of them was renewed by hand
        self.root_error: str | None = None  # why nothing can be served from the root now

    async def apply(self, config: Config, *, start: bool = True) -> None:
        """Make this configuration the one in force; what did not change is not disturbed."""
        for name, why in config.skipped.items():
            if self.config.skipped.get(name) != why or not self.lives:
                self._log.error("session.skipped", session=name, error=why)
        rewired = self.links.rewired(config)
        self.config = self.links.config = config
        # A session whose file is broken goes on with what was in force, as with the main file.
        wanted = {name: life.config for name, life in self.lives.items() if name in config.skipped}
        wanted |= {session.name: session for session in config.sessions}
        kept = {
            name: wanted[name] for name, life in self.lives.items() if not rewired and _same(wanted.get(name), life)
        }
        await asyncio.gather(*(self._remove(name) for name in self.lives.keys() - kept.keys()))
        for link in self.links.renew() if rewired else ():
            await link.close()
        for link in self.links:
            link.budget.set_rate(config.requests_per_minute)
        for name, life in self.lives.items():
            if kept[name] != life.config:
                life.apply(kept[name])
            else:
                life.retry()
        for n, session in enumerate(session for name, session in wanted.items() if name not in self.lives):
            self.secrets.add(session.id)
            life = Life(session, self._open, self._changed, self._log, config.root)
            self.lives[session.name] = life
            life.begin(n * SPREAD, start=start)

    async def once(self) -> bool:
        """One full pass over every session; whether all went well."""
        done = await asyncio.gather(*(runner.once() for runner in self.runners.values()))
        return all(done) and not self.blocked

    def retry(self) -> None:
        """Try at once to open what is not open."""
        for life in self.lives.values():
            life.retry()

    def look_at_the_root(self) -> None:
        """Whether the root is still the one, and ours: without it no session is, and once it is back all are again."""
        before = self.root_error
        try:
            if os.path.isdir(self._client_dir.path):
                self._serving_here()  # first: it says that we run, also while the root is not there
            self.root.hold()
            self.root_error = None
        except (OSError, UserError) as fault:
            self.root_error = said(fault, self.root.path)
        if self.root_error == before:
            return
        self.stirred = True
        for life in self.lives.values():
            life.retry() if self.root_error is None else life.broken(self.root_error)

    def heed_hands(self) -> None:
        """Whether a session was renewed by hand since the last look: then each looks at its own record."""
        word = by_hand.last_word(self._client_dir)
        if word != self._word:
            self._word = word
            for runner in self.runners.values():
                runner.heed_hand()

    def look_for_pauses(self) -> None:
        """Whether a server that limits us pauses all its sessions, or does no more: then each of them shows it."""
        paused = {link.server for link in self.links if link.budget.paused_for > 0}
        for runner in self.runners.values() if paused != self._paused else ():
            runner.session.touch()
        self._paused = paused

    @property
    def blocked(self) -> dict[str, str]:
        """The sessions that are not open, and why."""
        return {name: life.error or "" for name, life in self.lives.items() if life.runner is None}

    @property
    def stuck(self) -> list[str]:
        """The sessions in which something hangs that has a bound."""
        return [name for name, runner in self.runners.items() if runner.stuck]

    @property
    def vouched_for(self) -> bool:
        """Whether a server has said what time it is: before that, nothing is old."""
        return any(link.client.server_time is not None for link in self.links)

    async def prune(self) -> None:
        """Remove what is done with and older than it is to be kept."""
        for runner in list(self.runners.values()):
            name = runner.session.name
            try:
                removed = await asyncio.to_thread(prune, runner.session)
            except Exception as fault:  # one session's files are not in the way of the others'
                self._log.warning("prune.failed", session=name, error=f"{type(fault).__name__}: {fault}")
            else:
                if removed:
                    self._log.info("prune.removed", session=name, files=removed)

    async def close(self) -> None:
        """Stop all; requests under way get a moment."""
        await asyncio.gather(*(life.close(FINISH) for life in list(self.lives.values())))
        await asyncio.gather(*(link.close() for link in self.links))
        if self._serving is not None:
            self._serving.close()

    def _open(self, life: Life) -> Runner:
        """The runner of a session that is open now. OSError, UserError: why it cannot be."""
        config = life.config
        folder = SessionFolder(self.config.root, config.name)
        self.root.hold()
        serving = self._serving_here()
        session = Session(config, self.config.root, self.links.of(config), self._client_dir, self.secrets, self._log)
        if not serving.take(config.id, folder.path):
            raise UserError(
                "served_elsewhere",
                "another nexusd serves this session, from another root; it is taken over when that one ends",
            )
        try:
            session.open(lambda: max(life.seq, known_seq.of(folder, self._client_dir.path)))
        except BaseException:
            serving.release(config.id)
            raise
        return Runner(
            session,
            self._rng,
            on_broken=lambda why, ours: life.broken(why, ours=ours),
            on_ended=life.ended,
            on_shown_change=self._stir,
        )

    def _serving_here(self) -> Serving:
        """The locks of the sessions that we serve. OSError where `client_dir` cannot be used now."""
        if self._serving is None:
            self._serving = Serving(self._client_dir)
            self._serving.take_root(self.config.root)
        return self._serving

    def _changed(self, life: Life) -> None:
        """A session was opened or closed, or cannot be opened."""
        name, folder = life.name, SessionFolder(self.config.root, life.name)
        self.runners.pop(name, None)
        self.outboxes.pop(folder.outbox, None)
        self.stirred = True
        if life.runner is None and self._serving is not None:
            self._serving.release(life.config.id)
        if life.error is not None:
            life.error = self.secrets.removed(life.error)
            self._show_blocked(folder, life.error)
        elif life.runner is not None:
            self.runners[name] = self.outboxes[folder.outbox] = life.runner
            self.opened += 1

    def _show_blocked(self, folder: SessionFolder, error: str) -> None:
        """In session.json too, but in no root that is not ours to write to."""
        with contextlib.suppress(OSError, UserError):
            if not self.root.held:
                self.root.hold()
            view.blocked(folder, error)

    def _stir(self) -> None:
        self.stirred = True

    async def _remove(self, name: str) -> None:
        await self.lives.pop(name).close(FINISH)
        self._log.info("session.removed", session=name)


def _same(wanted: SessionConfig | None, life: Life) -> bool:
    """Whether it is still the same session on the same server."""
    return wanted is not None and (wanted.id, wanted.server) == (life.config.id, life.config.server)
