"""The world for tests with real processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.world import Daemon, Relay

if TYPE_CHECKING:
    from pathlib import Path

# No test asserts a time: a machine that is busy with something else must not fail one.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture
def relay(tmp_path: Path):
    """A relay without a rate limit that keeps its sessions over a restart."""
    running = Relay(tmp_path, data_dir=tmp_path / "data")
    yield running
    if running.process.poll() is None:
        running.stop()


@pytest.fixture
def daemons(tmp_path: Path):
    """Makes daemons and ends them: daemons("alice", server)."""
    made: list[Daemon] = []

    def make(agent: str, server: str, settings: str = "") -> Daemon:
        daemon = Daemon(tmp_path / agent, server, agent, settings=settings)
        made.append(daemon)
        return daemon

    yield make
    for daemon in made:
        daemon.close()


@pytest.fixture
def pair(relay: Relay, daemons):
    """Alice and Bob with one session called chat, both running."""
    alice, bob = daemons("alice", relay.url), daemons("bob", relay.url)
    link = alice.add("chat", "--create", "--ttl", "600")["link"]
    bob.add("chat", "--code", link)
    alice.start()
    bob.start()
    return alice, bob
