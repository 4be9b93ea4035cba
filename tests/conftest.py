"""The world for tests with real processes."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.world import Daemon, Relay

if TYPE_CHECKING:
    from pathlib import Path

# No test asserts a time: a machine that is busy with something else must not fail one.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# A shell without job control starts what runs beside it deaf to Ctrl-C and Ctrl-\, nohup to the end of a terminal;
# and so would be all that the tests start.
for _deaf_to, _otherwise in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_deaf_to) is signal.SIG_IGN:
        signal.signal(_deaf_to, _otherwise)


@pytest.fixture
def tally(record_property):
    """tally("kind", tried, lost=0, doubled=0): a row of the table below. Called once a hunt has come to its end."""

    def add(kind: str, tried: int, *, lost: int = 0, doubled: int = 0) -> None:
        record_property("tally", [kind, tried, lost, doubled])

    return add


def pytest_terminal_summary(terminalreporter, config) -> None:
    """What the long hunts tried and found; only what was run and came to its end is counted."""
    if "slow" not in config.option.markexpr.replace("not slow", ""):
        return
    rows: dict[str, list[int]] = {}
    for report in (r for found in ("passed", "failed") for r in terminalreporter.stats.get(found, ())):
        for name, value in report.user_properties if report.when == "call" else ():
            if name == "tally":
                kind, *counts = value
                rows[kind] = [a + b for a, b in zip(rows.get(kind, (0, 0, 0)), counts, strict=True)]
    terminalreporter.section("tried and found")
    terminalreporter.write_line(f"{'':34}{'tried':>9}{'lost':>7}{'doubled':>9}")
    for kind, (tried, lost, doubled) in sorted(rows.items()):
        terminalreporter.write_line(f"{kind:34}{tried:9,}{lost:7,}{doubled:9,}")
    for kind in ("skipped", "failed", "error"):
        if count := len(terminalreporter.stats.get(kind, ())):
            terminalreporter.write_line(f"not counted, as they {'were ' * (kind == 'skipped')}{kind}: {count}")


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
